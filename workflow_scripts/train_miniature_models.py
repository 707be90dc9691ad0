"""Train the miniature models, measure their gates on held-out scenes, write weights and model card.

Checkpoints stay in the output folder: a run that is killed goes on where it was.
"""

from pathlib import Path

from job import run

from taco import runtime
from taco.miniature import dense, gates, training
from taco.models import clip, sums


def main(snakemake):
    models = snakemake.params.models
    runtime.setup("cpu", snakemake.threads)
    folder = Path(snakemake.output.card).parent
    settings = training.TrainingSettings(
        seed=snakemake.params.seed,
        image_size=models["clip"]["image_size"],
        sample_rate=models["clap"]["sample_rate"],
        window=models["clap"]["window"],
    )
    training.train_clip(folder, settings)
    training.train_clap(folder, settings)
    training.train_fcclip(folder, settings)
    sums.write(folder, [Path(path).name for path in snakemake.output.weights])
    measured = gates.measure(folder, settings)
    found = dense.localisation(clip.load(gates.specs(folder, settings)["clip"]), gates.HELD_OUT_SEED)
    with runtime.atomic_write(snakemake.output.card) as path:
        path.write_text(gates.model_card(folder, measured, found), encoding="utf-8")
    gates.require(measured)


if __name__ == "__main__":
    run(main, snakemake)
