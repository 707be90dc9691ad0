"""Proposals as a captured graph, stated on a CPU as far as that goes: the seam of the capture, constants, waits."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import taco.models.clip
import taco.models.fcclip
from taco.models.fcclip import FCCLIP
from taco.models.graphs import Captured, Remembered, cuda_graph

CLIP = "config/models/miniature_clip.json"
HEAD = "config/models/miniature_fcclip.json"
SIDES = {"res2": 32, "res3": 16, "res4": 8, "res5": 4}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def build(device="cpu"):
    with torch.device(device):
        clip = taco.models.clip.FrozenCLIP(taco.models.clip.build(CLIP), None, 124)
        return FCCLIP(taco.models.fcclip.build(HEAD, clip), clip)


def pyramid_of(model, seed, sides=SIDES, batch=1):
    g = torch.Generator().manual_seed(seed)
    found = {
        name: torch.randn(batch, channels, side, side, generator=g).to(model.clip.device)
        for (name, side), channels in zip(sides.items(), model.clip.channels, strict=True)
    }
    return found | {"dense": found["res5"].clone()}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build()


# ---------------------------------------------------------------- constants


def test_tensors_of_pythons_numbers_are_made_once():
    remembered = Remembered()
    with remembered:
        first = torch.tensor([[1, 2], [3, 4]], dtype=torch.long)
        again = torch.tensor([[1, 2], [3, 4]], dtype=torch.long)
        other = torch.tensor([[1, 2], [3, 4]], dtype=torch.float32)
        shapes = torch.as_tensor([(1, 2)], dtype=torch.long), torch.as_tensor([(1, 3)], dtype=torch.long)
    assert first is again and first is not other and other.dtype == torch.float32
    assert not torch.equal(*shapes) and len(remembered) == 4
    assert torch.tensor([[1, 2], [3, 4]]) is not first  # outside all is as ever


def test_other_tensors_are_left_alone():
    remembered = Remembered()
    source = torch.arange(3)
    with remembered:
        scalars = torch.tensor(1.0), torch.tensor(1.0)
        assert torch.as_tensor(source) is source
        zeros = torch.zeros(2), torch.zeros(2)
    assert scalars[0] is not scalars[1] and zeros[0] is not zeros[1] and not remembered


# ---------------------------------------------------------------- the seam, with a capture that repeats the function


def test_a_captured_function_reads_its_own_inputs_and_gives_its_own_outputs():
    captured = Captured(
        lambda x: (x["a"] + x["b"], x["a"]), {"a": torch.zeros(3), "b": torch.ones(3)}, lambda f: f
    )
    given = {"a": torch.arange(3.0), "b": torch.full((3,), 2.0)}
    first = captured(given)
    second = captured({"a": torch.full((3,), 5.0), "b": torch.zeros(3)})
    assert torch.equal(first[0], torch.arange(3.0) + 2) and torch.equal(second[0], torch.full((3,), 5.0))
    given["a"] += 1
    assert torch.equal(first[1], torch.arange(3.0))


def test_captured_proposals_equal_those_from_the_host_bit_for_bit(model, monkeypatch):
    monkeypatch.setattr(taco.models.fcclip, "Captured", lambda *a: Captured(*a, capture=lambda work: work))
    images = [pyramid_of(model, seed) for seed in range(3)]
    with torch.no_grad():
        plain = [model._propose_one(image) for image in images]
        run = model._graph_for(images[0])
        graph = [run(image) for image in images]
        assert model._graph_for(images[1]) is run
        for expected, found in zip(plain, graph, strict=True):
            assert all(map(torch.equal, expected, found))
        # Another shape takes the place of the first: memory for one is held.
        larger = pyramid_of(model, 3, {name: 2 * side for name, side in SIDES.items()})
        assert all(map(torch.equal, model._propose_one(larger), model._graph_for(larger)(larger)))
        assert model._graph_for(images[0]) is not run


def test_proposing_within_inference_mode_leaves_ordinary_tensors(model):
    """A graph that was captured there could not be given other inputs outside."""
    with torch.inference_mode():
        inside = model.propose(pyramid_of(model, 0), [(120, 124)])
    outside = model.propose(pyramid_of(model, 0), [(120, 124)])
    assert not inside.masks.is_inference() and torch.equal(inside.masks, outside.masks)


# ---------------------------------------------------------------- on tensors of a GPU that is not there


class OnlyOnDevice(TorchDispatchMode):
    """Counts operations, and refuses one that touches a tensor off the GPU, but for the draw of layer-drop."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            scalar_draw = function is torch.ops.aten.rand.default and value is result and not value.ndim
            if isinstance(value, torch.Tensor) and value.device.type != "cuda" and not scalar_draw:
                raise AssertionError(f"{function} touches the {value.device.type}")
        self.count += 1
        return result


def moved(model):
    """A model with tensors of a GPU that is not there, of unknown values, in place of its own."""
    for module in (*model.head.modules(), *model.clip.model.modules()):
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    empty = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
                    tensors[name] = (
                        torch.nn.Parameter(empty, False) if tensors is module._parameters else empty
                    )
    model.clip.device = torch.device("cuda")
    return model


@torch.no_grad()
def test_captured_proposals_ask_nothing_of_the_host():
    """Values are unknown there: what needs one, or a shape that hangs on one, fails. Constants are made as it warms up."""
    model = build()
    with FakeTensorMode():
        moved(model)
        image = {
            name: torch.empty(1, channels, side, side, device="cuda")
            for (name, side), channels in zip(SIDES.items(), model.clip.channels, strict=True)
        }
        image["dense"] = torch.empty_like(image["res5"])
        constants = Remembered()
        with constants:
            model._propose_one(image)
        assert len(constants) > 0
        with constants, OnlyOnDevice() as operations:
            masks, _, pooled = model._propose_one(image)
        assert operations.count > 200 and masks.device.type == pooled.device.type == "cuda"
        with pytest.raises(AssertionError, match="touches the cpu"), OnlyOnDevice():
            model._propose_one(image)  # as it is without remembered constants


# ---------------------------------------------------------------- where there is a GPU


@needs_cuda
def test_a_graph_equals_the_host_bit_for_bit_on_cuda():
    torch.manual_seed(0)
    model = build("cuda")
    images = [pyramid_of(model, seed) for seed in range(3)]
    with torch.no_grad():
        plain = [model._propose_one(image) for image in images]
    batch = {name: torch.cat([image[name] for image in images]) for name in images[0]}
    found = model.propose(batch, [(124, 124)] * 3)
    for index, row in enumerate(plain):
        assert torch.equal(found.masks[index], row[0][0]) and torch.equal(found.pooled[index], row[2][0])


@needs_cuda
def test_proposing_waits_for_nothing_on_cuda():
    model = build("cuda")
    batch = pyramid_of(model, 0, batch=2)
    model.propose(batch, [(124, 124)] * 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.propose(batch, [(124, 124)] * 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_cuda
def test_a_graph_may_be_captured_while_another_thread_computes():
    work = torch.ones(8, device="cuda")
    out = torch.zeros(8, device="cuda")
    replay = cuda_graph(lambda: out.copy_(work * 2))
    work.fill_(3)
    replay()
    assert torch.equal(out.cpu(), torch.full((8,), 6.0))
