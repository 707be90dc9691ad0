"""``taco bench pipeline``: what each stage of a suite costs a sample, and what one more seed, variant or bank costs.

Files are synthetic; models have their weights where they lie on disk, and random ones of the same size elsewhere, which
take as long. Every time is of a device that has finished. Figures of past runs are in :data:`PIPELINE_NOTES`.
"""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from PIL import Image
from rich.table import Table
from torch import Tensor

from taco import suites
from taco.bench import frozen, measure
from taco.bench.costs import PAPER_STEPS, WORDS, costs, totals
from taco.bench.kept import factors_mb, time_again, time_caches
from taco.bench.measure import Spent, Stopwatch
from taco.bench.problems import Size, problem
from taco.conmf import CoNMF, Result, Settings
from taco.data import reading
from taco.method import evaluate, features
from taco.method.text import Labels
from taco.models import clap, clip, fcclip
from taco.segmenting.engine import Segmenter

SOLVED_TOGETHER = 128  # on a GPU, where the configuration leaves it open

PIPELINE_NOTES = """\
2 cores (EPYC) shared with a score of other processes, one thread, float32: processor time of one image or run, no GPU yet.
- paper, random weights: read 0.04 s, CLIP trunk 11.4, proposals 11.1, tokens and CLAP 0.3, cache write 0.13 and read 0.05 (float16),
  co-NMF of 1,800 steps 5.4 alone and 2.9 a seed where three share the tokens (two images together), decoding 1.05 once an image and 0.07
  a run (S4), 2.5 and 0.2 (AVSS, with the 71 names of A-FC-CLIP). A one-seed inference is 29 s, 4.6 GB at its peak; co-NMF's share is
  18 % at 1,800 steps and 12 % at 1,000 (the paper: about 20 % at 1,000, on its GPU). One more seed: 3 s. A word: 0.5 s, once.
- miniature: read 8 ms, trunk 6, proposals 28, tokens and CLAP 7, co-NMF of 300 steps 104 a seed (two images together; the suite's
  16 take less), decoding 5 once and 0.4 a run, scoring 1.4 a run.
- Nothing but time per prompt set grows with seeds, variants and banks: masks are upsampled once an image and task.
- Not measured: anything on a GPU (`taco bench pipeline --suite paper --device cuda --threads 8`). On an H200 the masks at full size, 0.58 GB,
  are read once for all runs of an image, 0.15 ms at its bandwidth, and once for each run of AVSS.
"""


def pipeline(
    config: Mapping[str, Any],
    *,
    device: torch.device,
    samples: int | None = None,
    threads: int = 1,
    frames: Mapping[str, int] | None = None,
    say: measure.Say = print,
) -> dict:
    """Time every stage of a suite.

    Parameters
    ----------
    config : mapping
        The suite's configuration.
    device : torch.device
    samples : int, optional
        Images; by default four batches and a warm-up on CUDA, one image without one on a CPU.
    threads : int
        Of the job; all but one read files ahead.
    frames : mapping, optional
        Samples of each dataset, for hours and gigabytes of the whole suite.
    say : callable
        Prints a line of progress.

    Returns
    -------
    dict
        ``suite``, ``models`` (whose weights), ``samples``, ``batch_size``, ``threads`` of the job, ``peak_memory_gb`` of
        the process, ``stages``, ``ways`` (of the frozen models, on CUDA), ``costs``, ``megabytes`` of a sample and
        ``totals`` of the suite.
    """
    cuda = device.type == "cuda"
    watch = Stopwatch(device, say=say)
    models, origin = load(config["models"], device)
    batch = features.batch_size(config["features"]["batch_size"], models)
    samples = samples or (4 * batch if cuda else 1)
    text = time_words(watch, models)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        frame = write_files(folder, samples, _file_side(config))
        how = features.Extraction("fcclip", config["features"]["audio_crop"], min(batch, samples), 0)
        batches = time_reading(watch, frame, models, how, threads)
        if cuda:
            time_models(Stopwatch(device), batches[:1], models, how)
        made = time_models(watch, batches, models, how)
        sizes = time_caches(watch, folder, made, device, threads)
        proposed = time_again(watch, folder, frame, models, how, threads)
        result = time_solver(watch, config, made, samples)
        sizes["factors"] = factors_mb(folder, result)
    time_pair(watch, config, models, text)
    sample = _sample(proposed, made, device)
    for task in ("s4", "avss"):
        time_scores(watch, config, task, sample, text, models)
    first = batches[0]
    return {
        "suite": config["suite"],
        "models": origin,
        "samples": samples,
        "batch_size": batch,
        "threads": threads,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "stages": [asdict(stage) for stage in watch.stages.values()],
        "ways": [asdict(way) for way in frozen.ways(models, first["fcclip"], first["wave"], say)]
        if cuda
        else [],
        "costs": costs(watch, config),
        "megabytes": sizes,
        "totals": totals(watch, config, sizes, frames or {}),
    }


def load(specs: Mapping[str, Mapping[str, Any]], device: torch.device) -> tuple[features.Models, str]:
    """Load a suite's models, or build them with random weights where some weight file is missing."""
    if all(Path(spec["weights"]).exists() for spec in specs.values()):
        return features.load_models(specs, device), "weights of the suite"
    torch.manual_seed(0)
    spec = specs["clip"]
    tokenizer = clip.load_tokenizer(spec["architecture"], spec.get("tokenizer"))
    tower = clip.FrozenCLIP(
        clip.build(spec["architecture"]).to(device), tokenizer, spec["image_size"], spec["precision"]
    )
    head = fcclip.build(specs["fcclip"]["architecture"], tower).to(device)
    spec = specs["clap"]
    length = json.loads(Path(spec["architecture"]).read_text())["text_length"]
    # Its tokenizer may be missing too: sounds need none, and `time_words` makes its own ids.
    sound = clap.FrozenCLAP(
        clap.build(spec["architecture"]).to(device), None, length, spec["sample_rate"], spec["window"]
    )
    segmenter = fcclip.FCCLIP(head, tower, specs["fcclip"]["precision"])
    return features.Models(tower, sound, segmenter), "random weights"


def time_words(watch: Stopwatch, models: features.Models) -> Labels:
    """Time both text encoders; random ids stand for labels. Return a bank of random embeddings of their widths."""
    count = WORDS if watch.device.type == "cuda" else 8
    g = torch.Generator().manual_seed(0)
    seen, heard = models.clip.model, models.clap.model.caption_encoder
    shapes = (seen.vocab_size, seen.context_length), (heard.base.config.vocab_size, models.clap.text_length)
    ids, other = (torch.randint(0, v, (count, n), generator=g).to(watch.device) for v, n in shapes)

    @torch.no_grad()
    def encode() -> list[tuple[Tensor, Tensor]]:
        parts = [slice(start, start + 64) for start in range(0, count, 64)]
        mask = torch.ones_like(other)
        sounds = [heard({"input_ids": other[p], "attention_mask": mask[p]}) for p in parts]
        return list(zip([seen.encode_text(ids[p]) for p in parts], sounds, strict=True))

    found = watch.time("text of a bank", encode, count, "word")[0]
    tables = (torch.randn(WORDS, table.shape[-1], generator=g).numpy() for table in found)
    return Labels([f"word {i}" for i in range(WORDS)], *tables)


def write_files(folder: Path, samples: int, side: tuple[int, int]) -> pd.DataFrame:
    """Write a JPEG and ten seconds of 16 kHz sound for each sample; each takes one second of it."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(samples):
        image, audio = folder / f"{number}.jpg", folder / f"{number}.wav"
        coarse = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        coarse.resize(side[::-1], Image.BICUBIC).save(image, quality=92)
        soundfile.write(audio, rng.uniform(-0.5, 0.5, (160000, 2)), 16000)
        rows.append({"sample_id": str(number), "image": str(image), "audio": str(audio), "start": 3.0})
    return pd.DataFrame(rows).assign(duration=1.0)


def _file_side(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the images on disk: the generated world's, or AVSS's."""
    generated = any(options["generated"] for options in config["datasets"].values())
    return (config["world"]["image_size"],) * 2 if generated else (720, 1280)


def time_reading(
    watch: Stopwatch, frame: pd.DataFrame, models: features.Models, how: features.Extraction, threads: int
) -> list[Mapping[str, Tensor]]:
    """Time reading in one process, and what the job's workers reach together once they run; return all batches."""
    prepared = how.preparation(models)
    arguments = (frame, "bench", prepared, how.batch_size)
    batches = watch.time("read, one process", lambda: list(reading.batches(*arguments)), len(frame))
    workers = reading.workers_for(threads, prepared, how.batch_size)
    if workers:
        many = pd.concat([frame] * -(-16 * workers * how.batch_size // len(frame)))
        ahead = reading.batches(many, *arguments[1:], workers=workers)
        for _ in range(4 * workers):  # until all run
            next(ahead)
        rest = len(many) - 4 * workers * how.batch_size
        watch.time(f"read, {workers} ahead", lambda: sum(1 for _ in ahead), rest)
    return batches


@torch.no_grad()
def time_models(
    watch: Stopwatch, batches: list[Mapping[str, Tensor]], models: features.Models, how: features.Extraction
) -> dict[str, dict[str, np.ndarray]]:
    """Time each model over all batches; return proposals and features [S, ...] as the caches hold them."""
    count = sum(len(batch["wave"]) for batch in batches)
    least = features.LEAST_SOUNDS if watch.device.type == "cuda" else 1
    seen = watch.time("CLIP trunk", lambda: [features.look(b, models, how) for b in batches], count)

    def propose() -> list[features.Columns]:
        leaving = [features.Leaving(features.propose(pyramid, models)) for pyramid, _ in seen]
        return [one.columns() for one in leaving]

    def listen() -> list[features.Columns]:
        looks = [features.Leaving(features.image_tokens(dense, models)) for _, dense in seen]
        waves = [torch.cat([b["wave"] for b in group]) for group in features.grouped(batches, least)]
        heard = [features.Leaving(features.sounds(wave, models)) for wave in waves]
        return [one.columns() for one in (*looks, *heard)]

    made = {
        "proposals": watch.time("proposals", propose, count),
        "features": watch.time("tokens, CLAP", listen, count),
    }
    return {kind: _joined(columns) for kind, columns in made.items()}


def _joined(columns: Sequence[features.Columns]) -> dict[str, np.ndarray]:
    names = {name for one in columns for name in one}
    return {name: np.concatenate([one[name] for one in columns if name in one]) for name in sorted(names)}


def _sample(
    proposed: fcclip.Proposals, made: Mapping[str, Mapping[str, np.ndarray]], device: torch.device
) -> evaluate.Sample:
    """The first sample as the scores see it, without runs."""
    size = 224
    truth = np.zeros((size, size), dtype=bool)
    truth[size // 4 : size // 2, size // 4 : size // 2] = True
    tokens = made["features"]
    embedding = torch.from_numpy(tokens["clap_embedding"][0]).to(device)
    return evaluate.Sample("bench/0", proposed, embedding, tuple(tokens["grid"][0].tolist()), truth, [])


def time_solver(
    watch: Stopwatch, config: Mapping[str, Any], made: Mapping[str, Mapping[str, np.ndarray]], asked: int
) -> Result:
    """Time a batch of the solver with one seed and with the suite's seeds, on random tokens of the suite's shape.

    On a CPU ``asked`` samples (two at least) are solved together, up to the configured batch.
    """
    cuda = watch.device.type == "cuda"
    tokens = made["features"]
    (n, width), (t, sound) = tokens["image_tokens"].shape[1:], tokens["audio_tokens"].shape[1:]
    size = Size(
        n, width, t, sound, WORDS, tokens["clap_embedding"].shape[1], config["solver"]["n_components"]
    )
    configured = config["solver"]["batch_size"]
    together = SOLVED_TOGETHER if configured == "auto" else configured
    samples = together if cuda else min(max(asked, 2), together)
    image, audio, anchors = problem(size, samples)
    keys = [str(index) for index in range(samples)]
    whole = config["solver"]["steps"]
    for count in (1, len(config["seeds"])):

        def run(steps: int, count: int = count) -> Result:
            options = suites.solver_settings(config, "ade", "proposed") | {
                "steps": steps,
                "halve_at": (),
                "batch_size": samples,
            }
            return CoNMF(Settings(**options), anchors, watch.device).fit(image, audio, keys, range(count))

        step, cpu, once = measure.difference(run, whole if cuda else 20, str(watch.device))
        pairs = samples * count
        for steps in {whole, PAPER_STEPS}:
            name = f"co-NMF, {steps} steps, {count} seeds"
            watch.note(name, "image and seed", (steps * step + once) / pairs, (steps * cpu + once) / pairs)
    return run(1, 1)


def time_pair(watch: Stopwatch, config: Mapping[str, Any], models: features.Models, labels: Labels) -> None:
    """Time ``taco segment`` for a photo and a sound as long as the window, models and words at hand."""
    model = Segmenter(models, labels, config, watch.device, digests={})
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    rate = models.clap.sample_rate
    sound = 0.1 * rng.standard_normal(models.clap.window).astype(np.float32), rate
    if watch.device.type == "cuda":
        model.segment(photo, sound)
    watch.time("taco segment, one pair", lambda: model.segment(photo, sound), 1, "pair")


@torch.inference_mode()
def time_scores(
    watch: Stopwatch,
    config: Mapping[str, Any],
    task: str,
    sample: evaluate.Sample,
    labels: Labels,
    models: features.Models,
) -> None:
    """Time decoding and scoring of one sample: what one image costs once, and what each further run of TACO adds."""
    size = config["evaluation"]["size"]
    how = evaluate.Scoring(
        task, task, size, 0, ("list",), (), **{k: config["decoding"][k] for k in ("alpha", "beta")}
    )
    constants = {
        "void_embedding": models.fcclip.constants()["void_embedding"].cpu().numpy(),
        "fcclip_logit_scale": float(models.fcclip.constants()["fcclip_logit_scale"]),
        "clip_logit_scale": models.clip.logit_scale,
        "clap_logit_scale": models.clap.logit_scale,
    }
    few = Labels(labels.names[:71], labels.clip[:71], labels.clap[:71])
    scorer = evaluate.Scorer(how, few, constants, watch.device)
    truth = np.asarray(np.resize(sample.truth, (size, size)), dtype=np.int64 if task == "avss" else bool)
    repeats = 20 if watch.device.type == "cuda" else 2
    found: dict[tuple[str, int], Spent] = {}
    for count in (1, 4):
        given = sample._replace(truth=truth, runs=[_run(sample, config, labels, count, watch.device)])
        works = {
            "decode": lambda given=given: list(scorer.predictions(given, 0)),
            "score": lambda given=given: list(scorer.scored(given, {}, "class")),
        }
        for name, work in works.items():
            times = [measure.spent(work, watch.device) for _ in range(repeats)]
            found[name, count] = Spent(*map(min, zip(*times, strict=True)))
    added = {name: [(b - a) / 3 for a, b in zip(found[name, 1], found[name, 4])] for name in works}
    watch.note(
        f"decode {task}, image", "image", *(a - b for a, b in zip(found["decode", 1], added["decode"]))
    )
    watch.note(f"decode {task}, run", "image and seed", *added["decode"])
    scoring = [b - a for a, b in zip(added["decode"], added["score"])]
    watch.note(f"score {task}, run", "image and seed", *scoring)


def _run(
    sample: evaluate.Sample, config: Mapping[str, Any], labels: Labels, count: int, device: torch.device
) -> evaluate.Run:
    """Random factors near words, for ``count`` seeds."""
    g = torch.Generator().manual_seed(0)
    k, tokens = config["solver"]["n_components"], sample.grid[0] * sample.grid[1]
    words = torch.from_numpy(labels.clip)[torch.randint(0, len(labels.clip), (count, k), generator=g)]
    factors = (words + 0.1 * torch.randn(words.shape, generator=g)).clamp(min=0)
    activations = torch.rand(count, tokens, k, generator=g)
    chosen = torch.zeros(count, dtype=torch.long)
    tensors = (tensor.to(device) for tensor in (activations, factors, chosen))
    return evaluate.Run("proposed", "general", range(count), *tensors)


def tables(report: Mapping) -> Iterator[Table | str]:
    """Lay out a report of `pipeline` for printing."""
    columns = {"stage": "stage", "unit": "unit", "ms": "ms", "cpu ms": "cpu_ms", "a second": "per_second"}
    columns |= {"GPU GB": "peak_gb"} if report["stages"][0]["peak_gb"] is not None else {}
    title = f"{report['suite']}: {report['models']}, {report['machine']['device']}"
    yield measure.table(title, columns, report["stages"])
    if report["ways"]:
        named = {"part": "part", "way": "way", "batch": "batch", "ms": "ms", "x plain": "ratio"}
        named |= {"error": "error", "mean IoU": "iou", "least IoU": "least_iou"}
        yield measure.table("Frozen models, an image", named, report["ways"])
    rows = [{"what": name.replace("_", " "), "value": value} for name, value in report["costs"].items()]
    clock = "by the clock" if report["stages"][0]["peak_gb"] is not None else "in processor time"
    yield measure.table(f"Costs, {clock}", {"what": "what", "value": "value"}, rows)
    columns = {"dataset": "dataset", "frames": "frames", "factorisations": "factorisations"}
    columns |= {f"{part} h": part for part in ("features", "conmf", "scores", "hours")}
    columns |= {"score ms": "score_ms", "GB": "gb"}
    yield measure.table(f"The whole suite, one job at a time, {clock}", columns, report["totals"])
    yield f"Peak memory of the process: {report['peak_memory_gb']:.2f} GB"
