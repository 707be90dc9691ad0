"""What a suite's runs cost, from the stages that `taco.bench.pipeline` has timed."""

from collections.abc import Mapping
from typing import Any

from taco.bench.measure import Stopwatch

PAPER_SHARE = 0.20  # of co-NMF in a complete inference at 1,000 steps, as the paper says
PAPER_STEPS = 1000
WORDS = 527  # of the general bank


def costs(watch: Stopwatch, config: Mapping[str, Any]) -> dict[str, float]:
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
