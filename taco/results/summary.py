"""One page of a finished run: its tables, its order of methods beside the paper's, its score against hearing."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from taco.results import order
from taco.results.pages import Page
from taco.results.tables import suite_title


def page(
    suite: str,
    tables: Sequence[str],
    compared: pd.DataFrame,
    hearing: tuple[str, str] | None,
    made: Mapping[str, str],
) -> str:
    """The page in Markdown.

    Parameters
    ----------
    suite : str
    tables : sequence of str
        Pages in Markdown, in the order in which they are to stand.
    compared : DataFrame
        From `taco.results.order.order`.
    hearing : (str, str) or None
        Scores against the signal-to-noise ratio, where the suite has them: the figure, as the page links it, and the page in
        Markdown.
    made : mapping
        What made the run: commit, device, versions.
    """
    found = compared["verdict"].value_counts()
    counts = ", ".join(
        f"{found.get(verdict, 0)} {verdict}" for verdict in (order.SAME, order.OPEN, order.OTHER)
    )
    verdicts = Page(
        "order",
        "Beside the paper's order",
        suite_title(suite),
        [order.grid(compared)],
        [
            f"Of {len(compared)} comparisons that the paper's tables hold: {counts}.",
            (
                "Paper: the difference of its printed numbers, in points. Here: mean difference of scores by image (of a "
                "pooled task mask-IoU in place of mIoU, which has no single images), with a paired bootstrap interval by clip."
            ),
            "Undecided: the interval holds 0.",
        ],
    )
    told = "\n".join(f"- {name}: {value}" for name, value in made.items())
    parts = [
        f"# Results: {suite_title(suite)}",
        "Written by `snakemake results_page` from a finished run; every number stands in its `tables/` and `hearing.csv`.",
        told,
        lowered(verdicts.markdown()),
    ]
    if hearing:
        parts += [f"![Scores against the signal-to-noise ratio]({hearing[0]})", lowered(hearing[1])]
    parts += [lowered(text) for text in tables]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def lowered(text: str) -> str:
    r"""A page as a section: its headings one level lower, without the line that names the suite.

    Examples
    --------
    >>> lowered("# A table\n\n**test suite**\n\n| a |")
    '## A table\n\n| a |'
    """
    text = re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE)
    return re.sub(r"^(## [^\n]*\n\n)\*\*[^\n]*\*\*\n\n", r"\1", text)
