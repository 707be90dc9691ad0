"""Contributed methods: loaded by name, given no truth, their answers brought to size or refused by name."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from taco.entries import EntryError
from taco.method import contributed
from taco.metrics import min_max

RNG = np.random.default_rng(0)
SIZE = 24


def sample(kind="binary", index=0, seed=0):
    return contributed.Sample(
        key=f"toy/{index}",
        task="s4" if kind == "binary" else "avss",
        kind=kind,
        image=np.full((30, 40, 3), 10 * index, dtype=np.uint8),
        sound=np.zeros(100, dtype=np.float32),
        rate=100,
        classes=("background", "bell", "drum") if kind == "semantic" else ("bell", "drum"),
        first_id=0 if kind == "semantic" else 1,
        seed=seed,
    )


def write(folder, text, name="mine.py"):
    (folder / name).write_text(text)
    return str(folder / name)


def makers(count=3):
    return [lambda seed, i=i: sample(index=i, seed=seed) for i in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        "def predict(sample, state):\n    return sample.image[..., 0] * 1.0 + state * (sample.image[..., 0] * 0 + 1)\n",
        "def predict(samples, state):\n    for s in samples:\n        yield s.image[..., 0] * 1.0 + state * 1.0\n",
    ],
    ids=["one sample", "generator"],
)
def test_a_function_or_a_generator_answers_in_order(tmp_path, text):
    entry = write(tmp_path, text + "def setup(options, device):\n    return options['offset']\n")
    method = contributed.load("mine", entry, {"offset": 5}, "cpu")
    found = list(method.answers(make(0) for make in makers()))
    assert [one.key for one, _ in found] == ["toy/0", "toy/1", "toy/2"]
    assert [float(answer[0, 0]) for _, answer in found] == [5.0, 15.0, 25.0]


def test_a_function_of_another_name_and_a_module_can_be_named(tmp_path, monkeypatch):
    write(tmp_path, "def other(sample, state):\n    return 1\n", "a_package_of_mine.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    for entry in (f"{tmp_path}/a_package_of_mine.py:other", "a_package_of_mine:other"):
        assert contributed.load("mine", entry, {}, "cpu").predict(None, None) == 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("nowhere.py", "expected a file nowhere.py"),
        ("no.such.module", "expected a file ending in .py or a module, found 'no.such.module'"),
        ("taco.runtime:nothing", "expected a function 'nothing'"),
    ],
)
def test_an_entry_that_is_not_there_is_named(entry, words):
    with pytest.raises(EntryError, match=words):
        contributed.load("mine", entry, {}, "cpu")


def test_a_generator_that_stops_early_is_named(tmp_path):
    method = contributed.load(
        "mine", write(tmp_path, "def predict(samples, state):\n    yield 1.0\n"), {}, "cpu"
    )
    with pytest.raises(contributed.MethodError, match="found none for toy/1"):
        list(method.answers(make(0) for make in makers()))


@pytest.mark.parametrize("shape", [(16, 16), (30, 40), (1, 1), (7, 50), (SIZE, SIZE)])
def test_maps_are_stretched_and_resized_as_torch_does(shape):
    scores = RNG.normal(size=shape)
    found = contributed.finish("mine", sample(), scores, SIZE)
    given = torch.from_numpy(min_max(scores))[None, None]
    expected = F.interpolate(given, (SIZE, SIZE), mode="bicubic", align_corners=True)[0, 0].numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(16, 16), (30, 40), (7, 50)])
def test_masks_and_ids_take_the_nearest_pixel_as_torch_does(shape):
    ids = RNG.integers(0, 3, shape)
    expected = F.interpolate(torch.from_numpy(ids)[None, None].float(), (SIZE, SIZE), mode="nearest")[
        0, 0
    ].numpy()
    np.testing.assert_array_equal(contributed.finish("mine", sample("semantic"), ids, SIZE), expected)
    mask = contributed.finish("mine", sample(), ids > 0, SIZE)
    np.testing.assert_array_equal(mask, (expected > 0).astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        ("binary", np.zeros((3, 4, 4)), r"an array \[H, W\] for toy/0, found shape \(3, 4, 4\)"),
        ("binary", np.zeros((0, 4)), "found shape"),
        ("binary", np.array([[0.0, np.nan]]), "with 1 values that are not finite"),
        ("binary", np.ones((4, 4), dtype=int), "a finite float map or a bool mask for toy/0, found int64"),
        ("binary", "a map", "found shape"),
        ("semantic", np.array([[0, 3]]), r"class ids 0 to 2 for toy/0, found int64 in \[0, 3\]"),
        ("semantic", np.array([[0.5]]), "class ids 0 to 2"),
        ("semantic", np.array([[-1, 0]]), "class ids 0 to 2"),
    ],
)
def test_an_answer_that_cannot_be_scored_is_named(kind, answer, words):
    with pytest.raises(contributed.MethodError, match=words):
        contributed.finish("mine", sample(kind), answer, SIZE)


def test_a_run_asks_once_for_each_seed(tmp_path):
    text = "import numpy as np\ndef predict(sample, state):\n    return np.random.default_rng(sample.seed).random((4, 4))\n"
    method, steps = contributed.load("mine", write(tmp_path, text), {}, "cpu"), []
    found = contributed.run(method, makers(), (3, 4), SIZE, lambda: steps.append(1))
    assert found.shape == (3, 2, SIZE, SIZE) and len(steps) == 6
    assert (found[0, 0] != found[0, 1]).any() and np.array_equal(found[0, 0], found[2, 0])


def test_the_check_finds_what_differs_from_run_to_run(tmp_path):
    text = "import numpy as np\nRNG = np.random.default_rng(0)\ndef predict(sample, state):\n    return RNG.random((4, 4))\n"
    method = contributed.load("mine", write(tmp_path, text), {}, "cpu")
    problems, milliseconds = contributed.check(method, [sample(index=i) for i in range(2)], SIZE)
    assert len(problems) == 2 and "same answer twice for toy/0" in problems[0] and milliseconds > 0
    constant = contributed.load(
        "flat",
        write(tmp_path, "import numpy\ndef predict(s, _):\n    return numpy.ones((2, 2))\n", "b.py"),
        {},
        "cpu",
    )
    assert "constant" in contributed.check(constant, [sample()], SIZE)[0][0]
