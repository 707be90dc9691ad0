"""The first checks with real weights: what a short run has left, against what must hold and what was published."""

import io
import logging

import numpy as np
import pandas as pd
import torch
from job import run
from rich.console import Console
from rich.markdown import Markdown
from torch.nn import functional as F

from taco import runtime
from taco.cache.hdf5 import open_cache
from taco.data import datasets, manifest, media
from taco.method import proposals, rounding
from taco.method.text import CLASSES, Text
from taco.metrics.tasks import TASKS
from taco.models import fcclip, weights
from taco.results import agreement, pools, score_files, tables, verify

log = logging.getLogger("taco")
PRECISION_SAMPLES = 8
FACTORS = (
    "image_activations", "audio_activations", "image_factors", "audio_factors", "cross_entropy", "objective"
)  # fmt: skip


def weight_checks(models):
    """Digest and tensors of each model's weight file, read once more."""
    for name, spec in models.items():
        path = spec["weights"]
        for check, expectation, look in (
            ("sha256", "that of the lock", weights.examine_digest),
            ("names and shapes of the tensors", "those of the official file", weights.examine_list),
        ):
            holds, finding = look(path)
            outcome = verify.UNCHECKED if holds is None else verify.verdict(holds)
            yield verify.Check(f"weights, {name}", check, expectation, finding, outcome)


def precision_check(params, text, device):
    """Whether the models' precision keeps final maps: the first images with the dataset's classes as prompts."""
    specs = {name: params.settings["models"][name] for name in ("clip", "fcclip")}
    chosen = ", ".join(f"{name} {spec['precision']}" for name, spec in specs.items())
    expectation = f"mean IoU with float32 of maps cut at half ≥ {rounding.LEAST_IOU}"
    dataset, files = params.datasets[0]
    if device.type == "cpu" or all(spec["precision"] == "float32" for spec in specs.values()):
        finding = f"{chosen} on {runtime.describe(device)}"
        return verify.Check("models, precision", "final maps", expectation, finding, verify.UNCHECKED)
    tower, head = proposals.Proposer(specs, device).models
    rows = manifest.read(files["manifest"]).iloc[:PRECISION_SAMPLES]
    images = [media.resize(media.read_image(path), tower.image_size, "fcclip") for path in rows["image"]]
    region = Region(text, dataset["name"], params.settings["decoding"])
    ensemble = {**region.ensemble, "void": region.ensemble["void"].to(device)}
    given = torch.from_numpy(np.stack(images)), tower, head, region.prompts.to(device), ensemble
    found = rounding.against_float32(*given)
    finding = f"{chosen}: {found.mean:.4f}, least {found.least:.3f} of {found.count} maps"
    return verify.Check(
        "models, precision",
        "final maps",
        expectation,
        finding,
        verify.verdict(found.mean >= rounding.LEAST_IOU),
    )


class Region:
    """FC-CLIP with all of a dataset's classes as prompts: what it marks as one of them."""

    def __init__(self, text, name, decoding):
        self.labels, constants = text.labels(name, CLASSES), text.constants
        self.prompts = torch.from_numpy(self.labels.clip)[None]
        self.ensemble = {
            "void": torch.from_numpy(constants["void_embedding"]),
            "clip_scale": float(constants["clip_logit_scale"]),
            "fcclip_scale": float(constants["fcclip_logit_scale"]),
            **{key: decoding[key] for key in ("alpha", "beta")},
        }

    def iou(self, proposals, label, truth):
        """IoU of the region of class ``label`` with a bool mask [S, S]."""
        maps = fcclip.decode(proposals, self.prompts, **self.ensemble)[0]
        region = (maps.argmax(0) == label).float()[None, None]
        region = F.interpolate(region, truth.shape, mode="nearest")[0, 0].bool().numpy()
        return float((region & truth).sum() / max((region | truth).sum(), 1))


def of_images(frame, caches, dataset, text, settings):
    """Statistics of tokens and masks, and whether CLIP and FC-CLIP know what the truth says is there."""
    features, kept = caches
    region = Region(text, dataset["name"], settings["decoding"])
    names, anchors = region.labels.names, region.labels.clip
    found = {"image": [], "audio": [], "masks": [], "regions": [], "seen": []}
    for record, proposed in zip(frame.to_dict("records"), kept.of(frame["sample_id"]), strict=True):
        place = features.position(record["sample_id"])
        tokens = features["image_tokens"][place]
        found["image"].append(verify.token_statistics(tokens))
        found["audio"].append(verify.token_statistics(features["audio_tokens"][place]))
        found["masks"].append(verify.mask_statistics(proposed.masks[0].numpy()))
        classes = [name for name in record["classes"] if name in names]
        if dataset["reader"] == "avss" or len(record["classes"]) != 1 or not classes:
            continue  # the truth must be the region of one class of the list
        truth = datasets.read_mask(record, dataset, settings["evaluation"]["size"], "binary")
        if not truth.any():
            continue
        label = names.index(classes[0])
        grid = tuple(features["grid"][place].tolist())
        found["seen"].append((record["clip_id"], verify.class_inside(tokens, grid, truth, anchors) == label))
        iou = region.iou(proposed, label, truth)
        found["regions"].append({"clip_id": record["clip_id"], "iou": iou, "whole": truth.mean()})
    return found, len(names)


def image_checks(title, found, n_labels):
    """Checks of what `of_images` has found."""
    yield from verify.token_checks(f"{title}, image", found["image"])
    yield from verify.token_checks(f"{title}, sound", found["audio"])
    yield from verify.mask_checks(f"{title}, FC-CLIP", found["masks"])
    first = dict(reversed(found["seen"]))  # one image of each clip, as those of a clip are alike
    check = "CLIP names what lies under the truth"
    yield verify.zero_shot_check(f"{title}, CLIP", check, list(first.values()), [1 / n_labels] * len(first))
    yield from verify.region_checks(f"{title}, FC-CLIP", pd.DataFrame(found["regions"]))


def dataset_checks(params, inputs, text):
    """Checks of each dataset's tokens, masks and factors."""
    proposer = proposals.Proposer(params.settings["models"], torch.device("cpu"))
    for dataset, files in params.datasets:
        frame = manifest.read(files["manifest"])
        found, n_labels = {}, 0
        for shard in range(len(files["features"])):
            part = manifest.shard(frame, shard, len(files["features"]))
            with (
                open_cache(files["features"][shard], "features") as features,
                proposals.reader(files["proposals"][shard], part, proposer) as kept,
            ):
                more, n_labels = of_images(part, (features, kept), dataset, text, params.settings)
            found = {key: [*found.get(key, []), *values] for key, values in more.items()}
        title = dataset["name"]
        yield from verify.mask_file_checks(title, manifest.read_masks(files["manifest"]))
        yield from image_checks(title, found, n_labels)
        yield from verify.factor_checks(f"{title}, co-NMF", read_factors(files["factors"]))


def read_factors(paths):
    """Factors of all samples, as `verify.factor_checks` takes them."""
    found = {name: [] for name in FACTORS}
    for path in paths:
        with open_cache(path, "factors") as cache:
            for name in FACTORS:
                found[name] += [cache[name][index] for index in range(len(cache.sample_ids))]
    # Datasets of one suite may differ in their number of tokens, samples of one dataset do not.
    return {name: np.stack(values) for name, values in found.items()}


def all_checks(params, inputs, device):
    """All checks, in the order of the computation."""
    text = Text(inputs.text)
    yield from weight_checks(params.settings["models"])
    yield precision_check(params, text, device)
    bank = text.labels(*params.bank)
    yield from verify.anchor_checks("words", bank.clip, bank.clap)
    with torch.inference_mode():
        yield from dataset_checks(params, inputs, text)
    rows = score_files.load_rows(params.rows, snakemake.config["memory"]["rows"])
    for task, part in rows.groupby("task", sort=False):
        n_labels = len(text.labels(part["dataset"].iloc[0], CLASSES).names)
        heard = verify.heard_classes(part, n_labels)
        yield verify.zero_shot_check(TASKS[task].title, "CLAP names what is heard", *heard)
    yield from verify.comparison_checks(rows)
    if params.settings["tables"]["reported"]:
        reported = tables.load_reported(params.settings["tables"]["reported"])
        yield from agreement.score_checks(rows, pools.load(params.pools), reported)


def main(snakemake):
    params, suite = snakemake.params, snakemake.params.settings["suite"]
    device = runtime.setup(params.settings["device"], snakemake.threads)
    frame = verify.table(all_checks(params, snakemake.input, device), suite)
    page = verify.page(frame, suite, params.notes)
    with runtime.atomic_write(snakemake.output.csv) as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(snakemake.output.md) as path:
        path.write_text(page.markdown(), encoding="utf-8")
    printed = io.StringIO()
    Console(file=printed, width=180).print(Markdown(page.markdown()))
    deviating = (frame["verdict"] == verify.DEVIATES).any()
    log.log(logging.WARNING if deviating else logging.INFO, "\n%s", printed.getvalue())


if __name__ == "__main__":
    run(main, snakemake)
