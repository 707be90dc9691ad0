"""What a suite's runs cost, from the stages that `taco.bench.pipeline` has timed."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from taco import suites
from taco.metrics.tasks import TASKS

PAPER_SHARE = 0.20  # of co-NMF in a complete inference at 1,000 steps, as the paper says
PAPER_STEPS = 1000
WORDS = 527  # of the general bank


class Rates(Protocol):
    """Milliseconds of the stages of `taco.bench.pipeline`: a stopwatch that has timed them, or what one has written."""

    @property
    def overlaps(self) -> bool:
        """Whether reading, models and writing run side by side, as on a GPU: then the slowest counts."""

    @property
    def stages(self) -> Iterable[str]:
        """Names of the stages."""

    def ms(self, *stages: str) -> float:
        """Sum of the stages' milliseconds."""


def costs(watch: Rates, config: Mapping[str, Any]) -> dict[str, float]:
    """Milliseconds an image: features, and one more seed, variant or bank; co-NMF's share of a one-seed inference."""
    seeds, steps = len(config["seeds"]), config["solver"]["steps"]
    first = f"co-NMF, {steps} steps, 1 seeds"
    models = watch.ms("CLIP trunk", "proposals", "tokens, CLAP")
    decode = watch.ms("decode s4, image", "decode s4, run")
    rest = watch.ms("read, one process") + models + decode
    short = watch.ms(f"co-NMF, {PAPER_STEPS} steps, 1 seeds")
    answer = watch.ms("decode s4, run", "score s4, run")
    variant = seeds * (watch.ms(f"co-NMF, {steps} steps, {seeds} seeds") + answer)
    return {
        "features_ms": models,
        "features_per_second": 1e3 / models,
        "one_seed_inference_ms": rest + watch.ms(first),
        "conmf_share": watch.ms(first) / (rest + watch.ms(first)),
        f"conmf_share_at_{PAPER_STEPS}_steps": short / (rest + short),
        "conmf_share_of_the_paper": PAPER_SHARE,
        "one_more_seed_ms": watch.ms(f"co-NMF, {steps} steps, {seeds} seeds") + answer,
        f"one_more_variant_of_{seeds}_seeds_ms": variant,
        f"one_more_bank_of_{WORDS}_words_s_once": watch.ms("text of a bank") * WORDS / 1e3,
        f"one_more_bank_of_{seeds}_seeds_ms": variant,
    }


def totals(
    watch: Rates, config: Mapping[str, Any], megabytes: Mapping[str, float], frames: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Hours and gigabytes of each dataset and of the whole suite.

    Parameters
    ----------
    watch : Rates
        With the stages of `taco.bench.pipeline`.
    config : mapping
    megabytes : mapping
        Of a sample's ``tokens``, of its proposals by storage, and of one run's ``factors``.
    frames : mapping
        Samples by dataset.

    Returns
    -------
    list of dict
        ``dataset`` (``all`` is the last), ``frames``, ``factorisations``, hours of ``features``, ``conmf`` and ``scores``, their
        sum ``hours``, ``gb``, and the milliseconds that scoring takes an image, ``score_ms``.

    Notes
    -----
    Where reading, writing and models overlap, which is so on a GPU, the slowest counts; processor time is summed.
    """
    rows = [
        {"dataset": name, **_dataset_totals(watch, config, megabytes, name, count)}
        for name, count in frames.items()
    ]
    whole = {key: sum(row[key] for row in rows) for key in (rows[0] if rows else {}) if key != "dataset"}
    rows.append({"dataset": "all", **whole})
    return [row | {"score_ms": 3.6e6 * row["scores"] / row["frames"]} for row in rows if row.get("frames")]


def sample_ms(watch: Rates, config: Mapping[str, Any], name: str) -> dict[str, float]:
    """Milliseconds of one sample of a dataset: its ``features``, ``conmf`` of all its runs, and ``scores`` of all its tasks."""
    kind, seeds = config["features"]["proposals"], len(config["seeds"])
    kept, solved = kind != "none", len(suites.runs(config, name)) * seeds
    together = max if watch.overlaps else lambda *parts: sum(parts)
    looks = 2 if kept and config["datasets"][name]["image_tokens"] == "openclip" else 1
    models = looks * watch.ms("CLIP trunk") + watch.ms("tokens, CLAP", *(["proposals"] if kept else []))
    writing = watch.ms("cache write, tokens", *([f"cache write, {kind}"] if kept else []))
    ahead = next((stage for stage in watch.stages if stage.endswith(" ahead")), "read, one process")
    decoding = 0.0
    for task, options in suites.scored_tasks(config, name).items():
        like = "avss" if TASKS[task].kind == "semantic" else "s4"
        runs = len(options["runs"]) * seeds
        decoding += watch.ms(f"decode {like}, image")
        decoding += runs * watch.ms(f"decode {like}, run", f"score {like}, run")
    proposed = watch.ms(f"cache read, {kind}" if kept else "proposals again, from the image")
    stage = f"co-NMF, {config['solver']['steps']} steps, {seeds} seeds"
    return {
        "features": together(watch.ms(ahead), models, writing),
        "conmf": solved * watch.ms(stage),
        "scores": together(proposed, decoding) if kept else proposed + decoding,
    }


def _dataset_totals(
    watch: Rates, config: Mapping[str, Any], megabytes: Mapping[str, float], name: str, frames: int
) -> dict[str, Any]:
    kind, solved = config["features"]["proposals"], len(suites.runs(config, name)) * len(config["seeds"])
    hours = {part: frames * ms / 3.6e6 for part, ms in sample_ms(watch, config, name).items()}
    of_sample = megabytes["tokens"] + megabytes.get(kind, 0) + solved * megabytes["factors"]
    return {
        "frames": frames,
        "factorisations": frames * solved,
        **hours,
        "hours": sum(hours.values()),
        "gb": frames * of_sample / 1e3,
    }
