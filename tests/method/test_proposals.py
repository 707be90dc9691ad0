"""Proposals read from a cache and proposals made again are the same, bit for bit, whatever order they are asked in."""

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from models import configuration
from PIL import Image

from taco.cache.hdf5 import CacheError, CacheWriter
from taco.data.media import MediaError
from taco.method import features, proposals

CPU = torch.device("cpu")
IDS = list("abcde")
BATCH = 2


@pytest.fixture(scope="module")
def specs():
    return configuration("miniature")["models"]


@pytest.fixture(scope="module")
def proposer(specs):
    return proposals.Proposer(specs, CPU)


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name in IDS:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((90, 70), Image.BICUBIC).save(folder / f"{name}.png")
    return pd.DataFrame({"sample_id": IDS, "image": [str(folder / f"{name}.png") for name in IDS]})


@pytest.fixture(scope="module")
def attributes(proposer):
    return {"preprocessing": {"batch_size": BATCH}, "device": "cpu", **proposer.digests}


@pytest.fixture(scope="module")
def paths(frame, proposer, attributes, tmp_path_factory):
    """A file with masks, written batch by batch as `taco.method.features` does, and one without."""
    folder = tmp_path_factory.mktemp("caches")
    found = {kind: folder / f"{kind}.h5" for kind in ("kept", "none")}
    tower, _ = proposer.models
    images = [np.asarray(Image.open(path)) for path in frame["image"]]
    with CacheWriter(found["kept"], "proposals", IDS, attributes, storage={"masks": "float16"}) as writer:
        for start in range(0, len(IDS), BATCH):
            pixels, _ = tower.prepare(images[start : start + BATCH])
            columns = features.propose(
                tower.pyramid(pixels), features.Models(tower, None, proposer.models[1])
            )
            features.store(writer, features.Leaving(columns), start)
    with CacheWriter(found["none"], "proposals", IDS, attributes):
        pass
    return found


def read(path, frame, proposer, samples=IDS, **options):
    with proposals.reader(path, frame, proposer, **options) as found:
        return list(found.of(samples))


def same(first, second):
    return first.geometry == second.geometry and all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in proposals.TENSORS
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_made_again_equals_kept_bit_for_bit(threads, paths, frame, proposer):
    kept, again = (read(paths[kind], frame, proposer, threads=threads) for kind in ("kept", "none"))
    assert len(kept) == len(IDS) and all(map(same, kept, again))
    assert not same(kept[0], kept[1])
    first = kept[0]
    assert first.masks.dtype == torch.float32 and first.masks.shape[0] == len(first.geometry) == 1
    assert torch.equal(first.masks, first.masks.half().float())


@pytest.mark.parametrize("kind", ["kept", "none"])
def test_samples_come_as_asked_for_in_any_order(kind, paths, frame, proposer):
    whole = dict(zip(IDS, read(paths["kept"], frame, proposer), strict=True))
    asked = ["e", "a", "d", "c", "a"]
    found = read(paths[kind], frame, proposer, asked)
    assert all(same(proposed, whole[sample]) for proposed, sample in zip(found, asked, strict=True))


def test_a_batch_is_made_once_for_its_samples(paths, frame, proposer, monkeypatch):
    sizes = []
    make = features.segment
    monkeypatch.setattr(
        features, "segment", lambda p, *rest: (sizes.append(len(p["dense"])), make(p, *rest))[1]
    )
    read(paths["none"], frame, proposer)
    assert sizes == [2, 2, 1]


def test_kept_proposals_need_no_models(paths, frame, specs, tmp_path):
    lost = {name: spec | {"weights": str(tmp_path / "lost")} for name, spec in specs.items()}
    assert len(read(paths["kept"], frame, proposals.Proposer(lost, CPU))) == len(IDS)


def test_other_models_than_the_files_are_refused(paths, frame, specs):
    other = {**specs, "fcclip": {**specs["fcclip"], "name": "another"}}
    with pytest.raises(CacheError, match=r"none\.h5: expected fcclip_digest"):
        read(paths["none"], frame, proposals.Proposer(other, CPU))


def test_a_missing_image_is_named(paths, frame, proposer, tmp_path):
    broken = frame.assign(image=[*frame["image"][:3], str(tmp_path / "gone.png"), frame["image"][4]])
    with proposals.reader(paths["none"], broken, proposer) as found:
        made = found.of(IDS)
        assert next(made) and next(made)
        with pytest.raises(MediaError, match=r"gone\.png"):
            next(made)


def test_another_device_and_a_cpu_are_said(frame, specs, attributes, tmp_path, caplog):
    path = tmp_path / "other.h5"
    with CacheWriter(path, "proposals", IDS, {**attributes, "device": "cuda (NVIDIA)"}):
        pass
    with caplog.at_level(logging.WARNING, "taco"):
        read(path, frame, proposals.Proposer(specs, CPU), ["a"])
    assert "made on cuda (NVIDIA), proposals are made again on cpu" in caplog.text
    assert "20 s an image" in caplog.text
