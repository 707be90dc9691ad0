"""A name for each proposal of a region: on planted sources, and through the scorer."""

import numpy as np
import pytest
import torch
from scoring import CHANNELS, CONSTANTS, SIZE, answers, classes, make_run, make_sample, make_scorer
from torch.nn import functional as F

from taco.method import evaluate, naming
from taco.models import fcclip

VARIANT = "classes by proposal"


def two_sources(heard=(1.0, 1.0, 0.0), names=("bell", "drum", "horn"), task="avss"):
    """A factor between bell and drum covers both; each half of the image shows one of them.

    Returns the scorer and a sample with the paper's answer and one by proposal, from the same factors. CLAP hears
    the classes in the proportions of the cosines ``heard``.
    """
    scorer = evaluate.Scorer(make_scorer(task).how, classes(names), CONSTANTS, torch.device("cpu"))
    first = 1 if names[0] == "background" else 0
    factors = torch.zeros(2, CHANNELS)
    factors[0, first], factors[0, first + 1], factors[1, 4] = 1.0, 0.9, 1.0  # closer to the first of the two
    factors = factors.expand(2, 2, CHANNELS).clone()
    masks = torch.full((1, 3, 8, 8), -9.0)
    masks[0, 0, :6, :4], masks[0, 1, :6, 4:], masks[0, 2, 6:] = 9.0, 9.0, 9.0  # the lower rows show neither
    seen = torch.eye(CHANNELS)[None, [first, first + 1, 4]]
    proposals = fcclip.Proposals(masks, seen, seen, [(SIZE,) * 4])
    run = make_run(k_star=(0, 0))._replace(image_factors=factors)
    runs = [run, run._replace(variant=VARIANT, classes=naming.PROPOSALS)]
    embedding = torch.tensor([*heard, 0.0])
    sample = make_sample(semantic=True, runs=runs)
    return scorer, sample._replace(proposals=proposals, clap_embedding=embedding)


@pytest.mark.parametrize("task", ["avss", "ade_sp_semantic"])
def test_two_sources_get_two_names_and_the_region_stays(task):
    found = answers(*two_sources(task=task))
    for seed in (0, 1):
        single = found["TACO", "proposed", "general", seed]
        several = found["TACO", VARIANT, "general", seed]
        np.testing.assert_array_equal(single.scores > 0, several.scores > 0)
        assert single.label == "bell" and set(np.unique(single.scores)) == {0, 1}
        assert (several.scores[2, 4], several.scores[2, 28], several.scores[-1, 4]) == (1, 2, 0)
        assert several.label in ("bell, drum", "drum, bell")
        assert several.k_star == single.k_star and (several.span == single.span or task == "avss")


def test_what_the_sound_rules_out_is_not_named():
    """Seen as well as the bell is, the drum is not heard: its proposal takes the name that is."""
    found = answers(*two_sources(heard=(1.0, -1.0, -1.0)))
    several = found["TACO", VARIANT, "general", 0]
    assert set(np.unique(several.scores)) == {0, 1} and several.label == "bell"


def test_background_is_never_a_name():
    """Id 0 of AVSS: the region would lose pixels; classes are named from 1 on."""
    scorer, sample = two_sources(heard=(1.0, -1.0, -1.0), names=("background", "bell", "drum"))
    found = answers(scorer, sample)
    single, several = (found["TACO", variant, "general", 0] for variant in ("proposed", VARIANT))
    assert scorer.first_id == 0
    np.testing.assert_array_equal(single.scores > 0, several.scores > 0)
    assert (several.scores[2, 4], several.scores[2, 28]) == (1, 2)


def test_a_single_source_keeps_its_name():
    sample = make_sample(semantic=True, heard=0)
    run = sample.runs[0]
    runs = [run, run._replace(variant=VARIANT, classes=naming.PROPOSALS)]
    found = answers(make_scorer("avss"), sample._replace(runs=runs))
    for part in ("scores", "label"):
        assert np.array_equal(
            getattr(found["TACO", "proposed", "general", 0], part),
            getattr(found["TACO", VARIANT, "general", 0], part),
        )


def test_the_baseline_is_decoded_in_the_same_way_once():
    scorer, sample = two_sources()
    found = answers(scorer, sample)
    plain, several = (found["A-FC-CLIP", variant, "specific", -1] for variant in ("list", VARIANT))
    np.testing.assert_array_equal(plain.scores > 0, several.scores > 0)
    assert [key for key in found if key[0] == "A⁺-FC-CLIP"] == [("A⁺-FC-CLIP", "list", "specific", -1)]
    without = answers(scorer, sample._replace(runs=sample.runs[:1]))
    assert set(found) - set(without) == {
        ("A-FC-CLIP", VARIANT, "specific", -1),
        *(("TACO", VARIANT, "general", seed) for seed in (0, 1)),
    }
    for key, answer in without.items():
        np.testing.assert_array_equal(answer.scores, found[key].scores)


def test_names_have_the_greatest_product_of_both_probabilities():
    rng = torch.Generator().manual_seed(0)
    seen, heard = torch.rand(5, 7, generator=rng).softmax(-1), torch.rand(7, generator=rng).softmax(-1)
    expected = [max(range(2, 7), key=lambda j: seen[q, j] * heard[j]) for q in range(5)]
    assert naming.names(seen, heard, range(2, 7)).tolist() == expected


def test_of_equals_the_first_is_named_and_owns():
    flat = torch.full((2, 3), 1 / 3)
    assert naming.names(flat, flat[0], range(3)).tolist() == [0, 0]
    region = torch.ones(2, 2, dtype=torch.bool)
    assert naming.owners(region, torch.tensor([0.5, 0.5]), torch.ones(2, 2, 2)).tolist() == [0] * 4


def test_small_probabilities_do_not_tie():
    """The float32 products 1e-30 · 1e-20 and 1e-30 · 1e-25 are both 0."""
    seen, heard = torch.tensor([[1e-30, 1e-30]]), torch.tensor([1e-25, 1e-20])
    assert naming.names(seen, heard, range(2)).tolist() == [1]


def test_a_pixel_belongs_to_what_gives_most_of_its_map():
    masks = torch.tensor([0.9, 0.5, 0.2])[:, None, None] * torch.ones(3, 2, 3)
    masks[2, 0, 0] = 1.0
    shares = torch.tensor([0.1, 0.4, 0.3])  # 0.09, 0.2, 0.06; 0.3 at the one pixel
    region = torch.tensor([[True, True, False], [False, True, True]])
    painted = naming.paint(region, shares, masks, torch.tensor([7, 8, 9]))
    assert painted.tolist() == [[9, 8, 0], [0, 8, 8]]


def test_an_empty_region_has_no_names():
    scorer, _ = two_sources()
    nothing = torch.zeros(SIZE, SIZE)
    masks = torch.rand(2, SIZE, SIZE)
    ids, label = scorer._by_proposal(nothing, torch.ones(2), masks, torch.tensor([0, 1]))
    assert not ids.any() and label == ""


def test_hearing_is_the_softmax_of_scaled_cosines():
    scorer, sample = two_sources()
    cosines = F.normalize(sample.clap_embedding, dim=-1) @ F.normalize(scorer.clap_labels, dim=-1).T
    torch.testing.assert_close(scorer._hear(sample.clap_embedding), (20.0 * cosines).softmax(-1))
