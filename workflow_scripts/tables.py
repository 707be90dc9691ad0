"""Aggregate scores over samples and seeds, and print the tables."""

from job import run

from taco import runtime
from taco.results import pages, pools, score_files, whole


def write_table(outputs, table):
    """Write a table to the outputs of its name: the frame as CSV, the page as Markdown and LaTeX."""
    pages.write(table.page, table.csv(), [path for path in outputs if f"/{table.name}." in path])


def main(snakemake):
    params, at_once = snakemake.params, snakemake.config["memory"]["rows"]
    # What was scored is not held beside the rows that the tables are made of.
    found = whole.Tables.of(
        params.settings, score_files.load_rows(params.rows, at_once), pools.load(params.pools)
    )
    for table in found.all():
        write_table(snakemake.output, table)
    with runtime.atomic_write(snakemake.output.thresholds) as path:
        path.write_text(whole.csv(found.thresholds()), encoding="utf-8")


if __name__ == "__main__":
    run(main, snakemake)
