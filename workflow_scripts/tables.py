"""Aggregate scores over samples and seeds, and print the tables."""

import pandas as pd
from job import run

from taco import runtime
from taco.metrics.tasks import TASKS
from taco.results import (
    aggregate,
    comparisons,
    extended,
    gating,
    negative_audio,
    negatives,
    pools,
    printing,
    score_files,
    tables,
)
from taco.results.ours import GATED

POOLED = [name for name, task in TASKS.items() if task.kind == "pooled"]


def write_table(outputs, frame, page):
    """Write a table to the outputs of its name: the frame as CSV, the page as Markdown and LaTeX."""
    wanted = {path.rsplit(".", 1)[1]: path for path in outputs if f"/{page.name}." in path}
    with runtime.atomic_write(wanted["csv"]) as path:
        frame.to_csv(path, index=False, lineterminator="\n")
    with runtime.atomic_write(wanted["md"]) as path:
        path.write_text(page.markdown(), encoding="utf-8")
    with runtime.atomic_write(wanted["tex"]) as path:
        path.write_text(page.latex(), encoding="utf-8")


def write_extended(outputs, rows, config, given):
    """Write the extended table, and this run's best thresholds for another run to take."""
    suite, split = config["suite"], config["split"]
    values = extended.per_seed(rows, split, extended.read_thresholds(given, split) if given else None)
    frame = extended.table(values, suite)
    write_table(outputs, frame, printing.extended_page(frame, suite))
    with runtime.atomic_write(outputs.thresholds) as path:
        extended.thresholds(values, suite, split).to_csv(path, index=False, lineterminator="\n")


def write_negatives(outputs, rows, thresholds, suite):
    """Write what is marked where nothing sounds: the test, the benchmark's figures, the gate's."""
    values = [
        negatives.per_seed(rows),
        negative_audio.per_seed(rows),
        gating.per_seed(rows, thresholds),
    ]
    values = pd.concat([found for found in values if len(found)] or values[:1], ignore_index=True)
    frame = negatives.table(values, suite, unscaled=(negative_audio.UNIVERSAL,))
    write_table(outputs, frame, printing.negatives_page(frame, suite, thresholds))


def main(snakemake):
    config = snakemake.params.settings
    suite, settings = config["suite"], config["tables"]
    rows = score_files.load_rows(snakemake.params.rows)
    pooled = pools.load(snakemake.params.pools)
    conventions = aggregate.Conventions.of(settings)
    thresholds = config["segment"]["confidence_threshold"]
    gated = gating.rows(rows, thresholds)
    everything = pd.concat([rows, gated], ignore_index=True) if len(gated) else rows
    # Pools hold no single images, so the gate has no pooled scores.
    without_pool = (everything["variant"] == GATED) & everything["task"].isin(POOLED)
    summary = aggregate.summarise(everything[~without_pool], pooled, conventions)
    reported = tables.load_reported(settings["reported"]) if settings["reported"] else None
    for name in settings["which"]:
        frame = tables.build(summary, tables.SPECS[name], reported, suite)
        notes = [*(reported.notes.get(name, ()) if reported else ()), *conventions.notes()]
        write_table(snakemake.output, frame, printing.table_page(frame, suite, notes))
    compared = comparisons.intervals(everything, draws=settings["bootstrap_samples"], seed=config["seed"])
    compared = tables.intervals(compared, suite)
    write_table(snakemake.output, compared, printing.intervals_page(compared, suite))
    write_extended(snakemake.output, everything, config, settings["thresholds"])
    write_negatives(snakemake.output, rows, thresholds, suite)


if __name__ == "__main__":
    run(main, snakemake)
