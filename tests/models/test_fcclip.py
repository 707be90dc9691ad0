"""FC-CLIP: proposals that depend on their image alone, decoding by its definition."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import taco.models.clip
import taco.models.fcclip
import taco.models.fcclip_detectron2

MINIATURE = "config/models/miniature_fcclip.json"


@pytest.fixture(scope="module")
def proposals(fcclip, pyramid):
    return fcclip.propose(*pyramid)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one(proposals, index):
    """Proposals of one image out of several."""
    tensors = (proposals.masks, proposals.class_embeddings, proposals.pooled)
    return taco.models.fcclip.Proposals(*(t[index : index + 1] for t in tensors), [proposals.geometry[index]])


# ---------------------------------------------------------------- proposals


def test_head_uses_the_official_norms(fcclip):
    norms = [module for module in fcclip.head.modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
    assert sum(isinstance(module, nn.GroupNorm) for module in norms) == 5
    assert {module.eps for module in norms} == {1e-5}
    assert {module.num_groups for module in norms if isinstance(module, nn.GroupNorm)} == {32}


def test_head_is_initialised_throughout(clip):
    """The library leaves one tensor to chance memory."""
    heads = []
    for _ in range(2):
        torch.manual_seed(3)
        heads.append(taco.models.fcclip.build(MINIATURE, clip).state_dict())
    assert all(torch.isfinite(value).all() for value in heads[0].values())
    assert all(torch.equal(heads[0][key], heads[1][key]) for key in heads[0])


@pytest.mark.parametrize("change", [{"feature_size": 32}, {"enforce_input_projection": True}])
def test_projections_that_no_checkpoint_holds_are_refused(clip, change):
    sizes = json.loads(Path(MINIATURE).read_text())
    with pytest.raises(ValueError, match="expected feature_size equal to hidden_dim"):
        taco.models.fcclip.FCCLIPHead(clip.channels, 128, **sizes | change)


def test_proposals_do_not_depend_on_their_neighbours(fcclip, pyramid, proposals):
    levels, sizes = pyramid
    for index in range(len(sizes)):
        alone = fcclip.propose({k: v[index : index + 1] for k, v in levels.items()}, sizes[index : index + 1])
        expected = one(proposals, index)
        for name in ("masks", "class_embeddings", "pooled", "geometry"):
            found = getattr(alone, name)
            same = found == getattr(expected, name)
            assert same if isinstance(same, bool) else same.all(), name
    assert not torch.equal(proposals.masks[0], proposals.masks[1])


def test_shapes_at_any_aspect_ratio(fcclip, clip):
    """Padded 96×160, the image within it 90×150."""
    proposals = fcclip.propose(clip.pyramid(draw(1, 3, 96, 160)), [(90, 150)])
    assert proposals.masks.shape == (1, 24, 24, 40)
    assert proposals.class_embeddings.shape == proposals.pooled.shape == (1, 24, 128)
    assert proposals.geometry == [(96, 160, 90, 150)]
    maps = taco.models.fcclip.decode(
        proposals, draw(1, 3, 128), void=draw(128), clip_scale=50.0, fcclip_scale=20.0
    )
    assert maps.shape == (1, 3, 90, 150) and torch.isfinite(maps).all()


@pytest.mark.parametrize(
    "sizes", [[(124, 124)], [(124, 124), (124, 124), (124, 129)], [(0, 9), (9, 9), (9, 9)]]
)
def test_every_image_needs_a_size_within_its_padding(fcclip, pyramid, sizes):
    with pytest.raises(ValueError, match="expected the sizes of 3 images within 128×128"):
        fcclip.propose(pyramid[0], sizes)


def test_proposing_leaves_the_global_generator_alone(fcclip, pyramid):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = fcclip.propose(*pyramid)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = fcclip.propose(*pyramid)
    assert torch.equal(first.masks, second.masks) and torch.equal(first.pooled, second.pooled)


def test_proposing_is_in_single_precision_under_autocast(fcclip, pyramid, proposals):
    with torch.autocast("cpu", torch.bfloat16):
        found = fcclip.propose(*pyramid)
    assert found.masks.dtype == found.pooled.dtype == torch.float32
    assert torch.equal(found.masks, proposals.masks) and torch.equal(found.pooled, proposals.pooled)


def test_pooled_features_are_clips_own_over_each_mask(fcclip, clip, pyramid, proposals):
    dense = pyramid[0]["dense"]
    small = F.interpolate(proposals.masks, dense.shape[-2:], mode="bilinear", align_corners=False) > 0
    share = small[1].float().mean((1, 2))
    query = int((share - 0.5).abs().argmin())
    assert 0 < share[query] < 1
    expected = clip.project(dense[1][:, small[1, query]].mean(1)[None, None])[0, 0]
    torch.testing.assert_close(proposals.pooled[1, query], expected, rtol=1e-4, atol=1e-5)


def test_mask_pooling():
    features = draw(1, 3, 4, 4)
    masks = torch.full((1, 3, 4, 4), -1.0)
    masks[0, 1, 0, 2] = masks[0, 1, 3, 1] = 0.1
    masks[0, 2] = 1.0
    found = taco.models.fcclip.mask_pooling(features, masks)
    assert (found[0, 0] == 0).all()
    torch.testing.assert_close(found[0, 1], (features[0, :, 0, 2] + features[0, :, 3, 1]) / 2)
    torch.testing.assert_close(found[0, 2], features[0].mean((1, 2)))


def test_constants(fcclip):
    constants = fcclip.constants()
    assert torch.equal(constants["void_embedding"], fcclip.head.void_embedding.weight[0])
    assert constants["fcclip_logit_scale"].item() == pytest.approx(
        min(fcclip.head.logit_scale.exp().item(), 100), rel=1e-6
    )


# ---------------------------------------------------------------- decoding


QUERIES, WIDTH = 12, 16


def ensemble(**changes):
    settings = {"void": draw(WIDTH, seed=9), "clip_scale": 20.0, "fcclip_scale": 14.0}
    return settings | changes


@pytest.fixture(scope="module")
def embeddings():
    return draw(QUERIES, WIDTH, seed=1), draw(QUERIES, WIDTH, seed=2)


def by_definition(
    class_embeddings, pooled, prompts, *, void, clip_scale, fcclip_scale, alpha, beta, overlap, counts
):
    """FC-CLIP's own order of operations in float64, for one set of prompts; `counts` are synonyms per class."""
    normalise = [F.normalize(x.double(), dim=-1) for x in (class_embeddings, pooled, prompts, void[None])]
    class_embeddings, pooled, prompts, void = normalise
    text = torch.cat([prompts, void])

    def logits(x, scale):
        every, start, best = scale * x @ text.T, 0, []
        for count in counts:
            best.append(every[:, start : start + count].amax(-1))
            start += count
        return torch.stack([*best, every[:, -1]], dim=-1)

    inside, outside = logits(class_embeddings, fcclip_scale), logits(pooled, clip_scale)
    void_probability = inside.softmax(-1)[:, -1:]
    p, q = inside[:, :-1].softmax(-1), outside[:, :-1].softmax(-1)
    overlap = overlap.double()
    seen = (p ** (1 - alpha) * q**alpha).log() * overlap
    unseen = (p ** (1 - beta) * q**beta).log() * (1 - overlap)
    classes = (seen + unseen).softmax(-1) * (1 - void_probability)
    scores = torch.log(torch.cat([classes, void_probability], dim=-1) + 1e-8)
    return scores.softmax(-1)[:, :-1]


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (0.4, 1.0), (0.4, 0.8), (0.0, 0.0)])
@pytest.mark.parametrize("known", [[], [0, 3], [0, 1, 2, 3, 4]])
def test_classes_follow_the_official_definition(embeddings, alpha, beta, known):
    prompts = draw(5, WIDTH, seed=3)
    overlap = torch.zeros(5, dtype=torch.bool)
    overlap[known] = True
    settings = ensemble(alpha=alpha, beta=beta, overlap=overlap)
    found = taco.models.fcclip.classify(*embeddings, prompts[None], **settings)[0]
    expected = by_definition(*embeddings, prompts, **settings, counts=5 * [1])
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_synonyms_count_by_their_best(embeddings):
    prompts, counts = draw(6, WIDTH, seed=4), [1, 3, 2]
    groups = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    settings = ensemble(alpha=0.4, beta=0.8, overlap=torch.tensor([True, False, False]))
    found = taco.models.fcclip.classify(*embeddings, prompts[None], **settings, groups=groups)[0]
    expected = by_definition(*embeddings, prompts, **settings, counts=counts)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)

    alone = taco.models.fcclip.classify(*embeddings, prompts[None], **ensemble())
    each = taco.models.fcclip.classify(*embeddings, prompts[None], **ensemble(), groups=torch.arange(6))
    assert torch.equal(alone, each)
    twice = taco.models.fcclip.classify(
        *embeddings,
        torch.cat([prompts, prompts[2:3]])[None],
        **ensemble(),
        groups=torch.tensor([0, 1, 2, 3, 4, 5, 2]),
    )
    torch.testing.assert_close(twice, alone)


@pytest.mark.parametrize("decoder", [taco.models.fcclip, taco.models.fcclip_detectron2])
@pytest.mark.parametrize("groups", [[0, 1], [0, 2, 2], [0, -1, 1], [0, 0, 0, 0], [[0, 1, 2]]])
def test_groups_must_number_every_prompt(proposals, decoder, groups):
    prompts, settings = draw(1, 3, 128), ensemble(void=draw(128))
    with pytest.raises(ValueError, match="groups: expected a class 0"):
        decoder.decode(one(proposals, 0), prompts, **settings, groups=torch.tensor(groups))


def test_defaults_are_the_authors(embeddings):
    """No class in the training vocabulary and β = 1: void alone comes from FC-CLIP's own classifier."""
    prompts = draw(1, 4, WIDTH, seed=5)
    expected = taco.models.fcclip.classify(*embeddings, prompts, **ensemble(alpha=0.0, beta=1.0))
    assert torch.equal(taco.models.fcclip.classify(*embeddings, prompts, **ensemble()), expected)


def test_extreme_probabilities_stay_finite(embeddings):
    """Where a probability underflows the official form is log 0."""
    found = taco.models.fcclip.classify(
        *embeddings,
        draw(1, 3, WIDTH, seed=6),
        **ensemble(clip_scale=1000.0, fcclip_scale=1000.0, alpha=0.4, beta=0.8),
    )
    assert torch.isfinite(found).all()
    assert (found >= 0).all() and (found.sum(-1) <= 1 + 1e-6).all()


def test_prompts_count_by_direction_and_a_zero_prompt_is_neutral(embeddings):
    prompts = draw(1, 4, WIDTH, seed=7)
    scaled = prompts * torch.tensor([0.1, 1.0, 3.0, 70.0])[:, None]
    expected = taco.models.fcclip.classify(*embeddings, prompts, **ensemble())
    torch.testing.assert_close(taco.models.fcclip.classify(*embeddings, scaled, **ensemble()), expected)

    class_embeddings, pooled = embeddings
    prompts[0, 1] = 0
    found = taco.models.fcclip.classify(*embeddings, prompts, **ensemble())
    # Any vector at a right angle to both embeddings has cosine 0 as well.
    for query in range(QUERIES):
        basis = torch.linalg.svd(torch.stack([class_embeddings[query], pooled[query]])).Vh
        stand_in = prompts.clone()
        stand_in[0, 1] = basis[-1]
        expected = taco.models.fcclip.classify(*embeddings, stand_in, **ensemble())
        torch.testing.assert_close(found[0, query], expected[0, query], rtol=1e-4, atol=1e-5)


def test_many_sets_of_prompts_in_one_pass_equal_one_by_one(fcclip, proposals):
    prompts = draw(4, 3, 128, seed=8)
    settings = ensemble(void=draw(128, seed=9))
    image = one(proposals, 0)
    together = taco.models.fcclip.decode(image, prompts, **settings)
    assert together.shape == (4, 3, 124, 124)
    for index in range(4):
        alone = taco.models.fcclip.decode(image, prompts[index : index + 1], **settings)
        torch.testing.assert_close(together[index], alone[0], rtol=1e-5, atol=1e-6)
    order = torch.tensor([2, 0, 1])
    permuted = taco.models.fcclip.decode(image, prompts[:, order], **settings)
    torch.testing.assert_close(permuted, together[:, order], rtol=1e-5, atol=1e-6)
    assert (together >= 0).all()


def test_map_sums_masks_by_class_probability(proposals):
    image, prompts, settings = one(proposals, 1), draw(1, 2, 128, seed=10), ensemble(void=draw(128, seed=9))
    classes = taco.models.fcclip.classify(image.class_embeddings[0], image.pooled[0], prompts, **settings)[0]
    masks = taco.models.fcclip.soft_masks(image)
    expected = sum(classes[query, :, None, None] * masks[query] for query in range(len(masks)))
    found = taco.models.fcclip.decode(image, prompts, **settings)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("decoder", [taco.models.fcclip, taco.models.fcclip_detectron2])
def test_decoding_takes_one_image(proposals, decoder):
    with pytest.raises(ValueError, match="one image, found 3 images"):
        decoder.decode(proposals, draw(1, 2, 128), **ensemble(void=draw(128)))


def test_masks_are_upsampled_from_pixel_centres_and_cropped():
    """A ramp stays a ramp: pixel X of the input lies at (X + 1/2) / 4 - 1/2 of the mask; padding is cut off."""
    ramp = torch.arange(8.0).expand(1, 1, 6, 8)
    proposals = taco.models.fcclip.Proposals(ramp, draw(1, 1, 2), draw(1, 1, 2), [(24, 32, 21, 30)])
    found = taco.models.fcclip.soft_masks(proposals)
    assert found.shape == (1, 21, 30)
    expected = ((torch.arange(30) + 0.5) / 4 - 0.5).clamp(0, 7).sigmoid()
    torch.testing.assert_close(found[0], expected.expand(21, 30), rtol=1e-5, atol=1e-6)
