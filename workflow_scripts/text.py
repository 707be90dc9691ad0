"""Embed the word banks and class lists of all datasets, and keep the models' constants."""

from job import run

from taco import runtime
from taco.method import features, stimuli, text


def main(snakemake):
    settings = snakemake.params.settings
    device = runtime.setup(settings["device"], snakemake.threads)
    models = features.load_models(settings["models"], device)
    attributes = {
        "suite": settings["suite"],
        "code": snakemake.params.code,
        "device": runtime.describe(device),
        "preprocessing": settings["prompts"],
        "seed": settings["seed"],
        **features.model_digests(settings["models"]),
    }
    constants = text.model_constants(models.clip, models.clap, models.fcclip)
    text.write(
        snakemake.output[0],
        text.words(snakemake.params.datasets, snakemake.params.banks),
        settings["prompts"],
        models.clip,
        models.clap,
        constants | stimuli.constants(models.clap, settings["seed"]),
        attributes,
    )


if __name__ == "__main__":
    run(main, snakemake)
