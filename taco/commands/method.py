"""Commands for methods of others: a template to start from, and a check on a few miniature samples."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, help="A method of your own beside TACO: start from a template, check it."
)

TASKS = {"s4": "s4", "avss": "avss"}
"""Tasks of the check, a binary one and a semantic one, and their datasets."""
SAMPLES = 4

METHOD = '''"""{title}: say in a sentence what it does and what it is for."""

import numpy as np


def setup(options, device):
    """Load weights here, once; what you return is `state` below. Leave this function out if there is nothing to load."""
    return options


def predict(sample, state):
    """Answer one sample: see taco.method.contributed.Sample for all that it holds.

    Binary tasks: a float map of any size (it is stretched to 0..1) or a bool mask, of what is heard in the image.
    Semantic tasks: integer class ids, 0 where nothing sounds.
    """
    loudness = float(np.sqrt(np.mean(sample.sound**2)))
    rows, columns = np.mgrid[-1:1:32j, -1:1:32j]
    centre = np.exp(-(rows**2 + columns**2) / (0.5 + loudness))
    if sample.kind == "binary":
        return centre
    return (centre > 0.5) * sample.first_id
'''
TEST = '''"""{title} answers in the right form, and the same twice."""

from pathlib import Path

import numpy as np

from taco.method import contributed

FILE = Path(__file__).parent / "{module}.py"


def sample(kind):
    rng = np.random.default_rng(0)
    return contributed.Sample(
        key="toy/0",
        task="s4" if kind == "binary" else "avss",
        kind=kind,
        image=rng.integers(0, 255, (48, 64, 3), dtype=np.uint8),
        sound=0.1 * rng.standard_normal(16000).astype(np.float32),
        rate=16000,
        classes=("bell", "drum", "harp"),
        first_id=1,
        seed=0,
    )


def test_its_answers_can_be_scored_and_repeat():
    method = contributed.load("{name}", str(FILE), {{}}, "cpu")
    problems, _ = contributed.check(method, [sample("binary"), sample("semantic")], size=56)
    assert problems == []
'''
ENTRY = """methods:
  {name}:
    entry: methods/{module}.py
    label: {title}
    tasks: [s4, ms3, ade_sp, avss, ade_sp_semantic]
    environment: null
    gpu: false
    seeded: false
    features: false
    options: {{}}
"""


class TemplateError(ValueError):
    """A template cannot be written: says what is in the way."""


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")],
    folder: Annotated[Path, typer.Option(help="Where methods live.")] = Path("methods"),
) -> None:
    """Write a method that works, its test, and a configuration that runs it."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise TemplateError(
            f"{name}: expected a name of lower-case letters, digits and dashes, like my-method"
        )
    module, title = name.replace("-", "_"), name.replace("-", " ")
    texts = {
        folder / f"{module}.py": METHOD,
        folder / f"test_{module}.py": TEST,
        folder / f"{module}.yaml": ENTRY,
    }
    if taken := [str(path) for path in texts if path.exists()]:
        raise TemplateError(f"{', '.join(taken)}: expected no such file, found one. Choose another name.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text.format(name=name, module=module, title=title), encoding="utf-8")
        typer.echo(f"wrote {path}")
    overlay = folder / f"{module}.yaml"
    typer.echo(f"\nCheck it:  taco method check {name} --configfile {overlay}")
    typer.echo(f"Run it:    snakemake --cores all --resources gpu=1 --configfile {overlay}")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="As the configuration's `methods` name it.")],
    configfile: Annotated[
        list[Path] | None, typer.Option("--configfile", help="Overlays over config/config.yaml; repeat it.")
    ] = None,
) -> None:
    """Run a method on four miniature samples of each kind and say what is wrong; exit 1 where something is."""
    from taco import suites
    from taco.method import contributed

    config = suites.read(configfile or ())
    if name not in config["methods"]:
        known = ", ".join(config["methods"]) or "none"
        raise contributed.MethodError(
            f"{name}: expected one of the configuration's methods ({known}); add it there"
        )
    options = config["methods"][name]
    method = contributed.load(name, options["entry"], options["options"], "cpu")
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, samples in miniature_samples(config, Path(folder), options).items():
            found, milliseconds = contributed.check(method, samples, config["evaluation"]["size"])
            typer.echo(f"{kind}: {len(samples)} samples, {milliseconds:.1f} ms each, {len(found)} problems")
            problems += found
    for problem in problems:
        typer.echo(problem, err=True)
    raise typer.Exit(bool(problems))


def miniature_samples(config: Mapping[str, Any], folder: Path, options: Mapping[str, Any]) -> dict[str, list]:
    """Samples of the miniature world for each kind of task that a method answers."""
    from taco import suites
    from taco.data import manifest
    from taco.method import contributed
    from taco.metrics.tasks import TASKS as FORMS
    from taco.miniature import writer

    counts = {name: {"train": 1, "val": 1, "test": 1} for name in config["world"]["clips"]}
    writer.write_world(folder / "world", {**config["world"], "clips": counts})
    kinds = {FORMS[task].kind == "semantic" for task in options["tasks"]}
    found = {}
    for task, name in TASKS.items():
        semantic = FORMS[task].kind == "semantic"
        if semantic in kinds:
            dataset = {**suites.dataset(config, name), "root": str(folder / "world" / name), "split": "test"}
            frame = manifest.build(dataset).iloc[:SAMPLES]
            given = _features(config, dataset, frame) if options["features"] else [None] * len(frame)
            rate, seed = config["models"]["clap"]["sample_rate"], config["seed"]
            found["semantic" if semantic else "binary"] = [
                contributed.read_sample(row, task, dataset, rate, seed, features)
                for row, features in zip(frame.to_dict("records"), given, strict=True)
            ]
    return found


def _features(config: Mapping[str, Any], dataset: Mapping[str, Any], frame: Any) -> list:
    """What the suite's frozen models make of the samples."""
    import torch

    from taco.data import datasets, reading
    from taco.method import contributed
    from taco.method import features as method

    classes = datasets.class_names(dataset)
    models = method.load_models(config["models"], torch.device("cpu"))
    how = method.Extraction(
        dataset["image_tokens"], config["features"]["audio_crop"], SAMPLES, config["seed"]
    )
    batch = next(reading.batches(frame, dataset["name"], how.preparation(models), SAMPLES))
    with torch.inference_mode():
        _, dense = method.look(batch, models, how)
        tokens = method.image_tokens(dense, models) | method.sounds(batch["wave"], models)
        found = method.Leaving(tokens).columns()
        labels = [
            model.encode_text([template.format(label=label) for label in classes]).cpu().numpy()
            for model, template in (
                (models.clip, config["prompts"]["image"]),
                (models.clap, config["prompts"]["audio"]),
            )
        ]
    return [
        contributed.Features(
            image_tokens=found["image_tokens"][i].astype("float32").reshape(*found["grid"][i].tolist(), -1),
            audio_tokens=found["audio_tokens"][i].astype("float32"),
            sound_embedding=found["clap_embedding"][i],
            class_image=labels[0],
            class_sound=labels[1],
        )
        for i in range(len(frame))
    ]
