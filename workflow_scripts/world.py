"""Write the miniature world."""

from pathlib import Path

from job import run

from taco.miniature.writer import write_world


def main(snakemake):
    write_world(Path(snakemake.output[0]), snakemake.params.settings)


if __name__ == "__main__":
    run(main, snakemake)
