"""Commands for people's own images, sounds and videos."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from taco.segmenting.engine import Segmenter

Suite = Annotated[
    str,
    typer.Option(
        help="Models and settings: miniature (shipped) or paper (staged weights).", show_default=True
    ),
]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--configfile", help="Overlays over config/config.yaml, in place of --suite; repeat it."),
]
Words = Annotated[
    list[str] | None,
    typer.Option(
        "--words",
        help="A word or phrase, repeated for each; or one file with a word on each line or a CSV column display_name. "
        "By default the suite's general bank.",
    ),
]
Seeds = Annotated[
    list[int] | None,
    typer.Option(
        "--seeds", help="Seed of a run of co-NMF; repeated, the run of least cross-entropy answers."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads; by default all that this process may use.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


def load(
    suite: str,
    configfile: list[Path] | None,
    words: list[str] | None,
    device: str,
    threads: int | None,
) -> "Segmenter":
    """The models, with words from the command line: one that names a file is a file."""
    from taco.segmenting import engine

    named = words[0] if words and len(words) == 1 and Path(words[0]).suffix in (".txt", ".csv") else words
    return engine.load(
        suite, configfile=configfile or None, words=named or None, device=device, threads=threads
    )


def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE SOUND | VIDEO | FOLDER | PAIRS.csv",
            help="An image and a sound; or a video; or many of them: a folder, in which files of one name belong together, "
            "or a CSV file with columns image and sound (or video).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder for masks, overlays, maps and result.json.", show_default=False
        ),
    ],
    suite: Suite = "miniature",
    configfile: ConfigFiles = None,
    words: Words = None,
    seeds: Seeds = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames of a video, each second; by default the suite's (1).", min=0.01, max=60),
    ] = None,
    no_segmenter: Annotated[
        bool,
        typer.Option(
            "--no-segmenter", help="Activations of the chosen factor alone (U only), without FC-CLIP."
        ),
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON on standard output.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Segment what is heard in a picture: an image and a sound, a video, or many of them."""
    from taco import runtime
    from taco.segmenting import asking

    questions = asking.questions(inputs)
    runtime.check_writable(output)
    alone = questions[0].name is None
    if alone:  # of many, one that fails does not stop the rest
        asking.check(questions[0])
    model = load(suite, configfile, words, device, threads)
    options = {"seeds": seeds or None, "segmenter": not no_segmenter, "fps": fps}
    if alone:
        record = asking.answer(questions[0], model, output, **options)
        told, failed = asking.describe(record), 0
    else:
        with runtime.log_to(None, logging.WARNING if quiet else logging.INFO):
            record = asking.answer_all(questions, model, output, quiet=quiet, **options)
        told, failed = asking.describe_all(record), record["failed"]
    if as_json:
        json.dump(record, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    elif not quiet:
        typer.echo(f"{told}\nWritten to {output}")
    if failed:
        raise typer.Exit(1)


def explain(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    sound: Annotated[Path, typer.Argument(help="A sound.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="HTML file to write.", show_default=False, dir_okay=False)
    ],
    suite: Suite = "miniature",
    configfile: ConfigFiles = None,
    words: Words = None,
    seeds: Seeds = None,
    device: Device = "auto",
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Show why: one page with all factors over image and sound, their words, and which was chosen by what margin."""
    from taco import runtime
    from taco.segmenting import asking, explaining

    runtime.check_writable(output.parent)
    asking.check(asking.Question(image, sound))
    model = load(suite, configfile, words, device, threads)
    answer = model.segment(image, sound, seeds=seeds or None)
    explaining.write(answer, output, image.name, sound.name)
    if not quiet:
        typer.echo(f"Written to {output}")
