"""List the feature files of all shards of a dataset, for stages that need samples of other shards."""

from pathlib import Path

from job import run

from taco.cache import receipts


def main(snakemake):
    files = {(Path(path).stem,): path for path in snakemake.input}
    receipts.write(snakemake.output[0], files, state="")


if __name__ == "__main__":
    run(main, snakemake)
