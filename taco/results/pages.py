"""A table as a page of text: Markdown to read here, LaTeX (booktabs) to paste into a paper. No numbers are made here.

Cells are short strings in one notation for both: ``**…**`` is bold, everything else is itself.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tabulate import tabulate

from taco.runtime import atomic_write

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    "Δ": r"$\Delta$",
    "β": r"$\beta$",
    "²": "$^2$",
    "⁺": "$^+$",
    "…": r"\ldots{}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "’": "'",
    "§": r"\S{}",
}


@dataclass(frozen=True)
class Grid:
    """Rows under a head of one or two levels.

    Attributes
    ----------
    head : sequence of (str, str)
        Upper and lower name of each column; an empty upper name leaves the column alone.
    rows : sequence of sequences of str
    left : int
        Number of first columns that hold text; the others are numbers, set to the right.
    caption : str
        A line above the grid, or nothing.
    """

    head: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str]]
    left: int
    caption: str = ""

    @classmethod
    def of(cls, records: Sequence[dict], left: int, caption: str = "") -> "Grid":
        """A grid with a head of one level from records with equal keys."""
        rows = [[str(value) for value in record.values()] for record in records]
        return cls([("", name) for name in records[0]], rows, left, caption)


@dataclass(frozen=True)
class Page:
    """A title, the line that says which suite this is, grids, and notes below.

    ``apart``: in LaTeX every grid is a table of its own, since together they are longer than a page.
    """

    name: str
    title: str
    suite: str
    grids: Sequence[Grid]
    notes: Sequence[str]
    apart: bool = False

    def markdown(self) -> str:
        """The page in Markdown; ends with a newline.

        Examples
        --------
        >>> grid = Grid([("", "Method"), ("S4", "F")], [["TACO", "**71.50 ± 0.20**"]], left=1)
        >>> print(Page("t", "A table", "test suite", [grid], ["Percent."]).markdown())
        # A table
        <BLANKLINE>
        **test suite**
        <BLANKLINE>
        | Method   |             S4 F |
        |:---------|-----------------:|
        | TACO     | **71.50 ± 0.20** |
        <BLANKLINE>
        - Percent.
        <BLANKLINE>
        """
        parts = [f"# {self.title}", f"**{self.suite}**"]
        for grid in self.grids:
            parts += [markdown_text(grid.caption)] if grid.caption else []
            parts.append(_pipe(grid))
        return "\n\n".join([*parts, "\n".join(f"- {markdown_text(note)}" for note in self.notes)]) + "\n"

    def latex(self) -> str:
        r"""The page as a LaTeX table in ASCII; needs ``booktabs`` and ``graphicx``.

        A table wider than the text is scaled to it. All grids stand in one tabular, so they must have equal heads
        (or, with ``apart``, each in its own). Our own title is the caption without its number, since LaTeX numbers.

        Examples
        --------
        >>> grid = Grid([("", "Method"), ("S4", "F")], [["A_1", "**71.50 ± 0.20**"]], left=1)
        >>> print(Page("t", "Table 2. A table", "test", [grid], []).latex())
        % Needs \usepackage{booktabs} \usepackage{graphicx}. test
        \begin{table}
          \centering
          \caption{A table (test).}
          \label{tab:t}
          \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
          \begin{tabular}{lr}
            \toprule
             & S4 \\
            \cmidrule(lr){2-2}
            Method & F \\
            \midrule
            A\_1 & \textbf{71.50 $\pm$ 0.20} \\
            \bottomrule
          \end{tabular}}
        \end{table}
        <BLANKLINE>
        """
        title = re.sub(r"^Table \d+\. ", "", self.title)
        lines = [f"% Needs \\usepackage{{booktabs}} \\usepackage{{graphicx}}. {latex_text(self.suite)}"]
        if self.apart:
            for number, grid in enumerate(self.grids):
                name = f"{self.name}-{number + 1}"
                notes = self.notes if number == len(self.grids) - 1 else ()
                lines += self._float(name, f"{title}: {grid.caption.rstrip(':')}", [grid], notes)
        else:
            lines += self._float(self.name, title, self.grids, self.notes)
        return "\n".join(lines) + "\n"

    def _float(self, name: str, title: str, grids: Sequence[Grid], notes: Sequence[str]) -> list[str]:
        """One table with its caption, and notes below."""
        head, left = grids[0].head, grids[0].left
        if any(list(grid.head) != list(head) for grid in grids):
            raise ValueError(f"{name}: the grids of one LaTeX table must have equal heads")
        lines = [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{latex_text(title)} ({latex_text(self.suite)}).}}",
            f"  \\label{{tab:{name}}}",
            r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            f"  \\begin{{tabular}}{{{'l' * left}{'r' * (len(head) - left)}}}",
            r"    \toprule",
            *(f"    {line}" for line in _latex_head(head)),
        ]
        for grid in grids:
            lines += [r"    \midrule", *(f"    {_latex_row(row)}" for row in grid.rows)]
        lines += [r"    \bottomrule", r"  \end{tabular}}"]
        if notes:
            lines += ["", r"  \raggedright\footnotesize"]
            lines += [f"  {latex_text(note)}\\par" for note in notes]
        return [*lines, r"\end{table}"]


def write(page: Page, csv: str, paths: Iterable[str | Path]) -> None:
    """Write a table's numbers and its page to the paths that end in .csv, .md and .tex; others are passed over."""
    texts = {".csv": csv, ".md": page.markdown(), ".tex": page.latex()}
    for path in map(Path, paths):
        if path.suffix in texts:
            with atomic_write(path) as partial:
                partial.write_text(texts[path.suffix], encoding="utf-8")


def latex_text(text: str) -> str:
    r"""Escape a text for LaTeX and turn ``**…**`` into bold; the result is ASCII on one line.

    Letters without a spelling of their own lose their accents, or stand by their number (which XeLaTeX and LuaLaTeX print).

    Examples
    --------
    >>> latex_text("A⁺-FC-CLIP: **1.0 ± 0.1** %")
    'A$^+$-FC-CLIP: \\textbf{1.0 $\\pm$ 0.1} \\%'
    >>> latex_text("é, 名")
    'e, \\symbol{"540D}'
    """
    parts = one_line(text).split("**")
    escaped = ["".join(map(_latex_letter, part)) for part in parts]
    text = "".join(part if i % 2 == 0 else f"\\textbf{{{part}}}" for i, part in enumerate(escaped))
    # An opening quotation mark follows a space or starts the text; LaTeX spells the two apart.
    text = re.sub(r'(^|[\s(])"', r"\1``", text)
    return re.sub(r'(?<!symbol\{)"', "''", text)


def _latex_letter(letter: str) -> str:
    if letter in _LATEX or letter.isascii():
        return _LATEX.get(letter, letter)
    plain = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(part, part) for part in plain) or f'\\symbol{{"{ord(letter):X}}}'


def one_line(text: str) -> str:
    """A text with a blank for each run of blanks, line ends and control characters: names of others may hold any."""
    return " ".join(
        "".join(" " if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in text).split()
    )


def markdown_text(text: str) -> str:
    r"""Escape what a cell, caption or note of others would do to the page: part cells, open tags, make links.

    Examples
    --------
    >>> markdown_text("a|b <script> [x](y) **1.0**")
    'a\\|b &lt;script> [x]\\(y) **1.0**'
    """
    text = one_line(text).replace("|", r"\|").replace("](", r"]\(")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _latex_head(head: Sequence[tuple[str, str]]) -> list[str]:
    spans, start = [], 1
    for upper, columns in groupby(head, key=lambda pair: pair[0]):
        spans.append((upper, start, len(list(columns))))
        start += spans[-1][2]
    below = [_latex_row([lower for _, lower in head])]
    if not any(upper for upper, _, _ in spans):
        return below
    cells = []
    for upper, _, width in spans:
        wide = upper and width > 1
        cells += [f"\\multicolumn{{{width}}}{{c}}{{{latex_text(upper)}}}"] if wide else [latex_text(upper)]
        cells += [] if wide else [""] * (width - 1)
    rules = [f"\\cmidrule(lr){{{first}-{first + n - 1}}}" for upper, first, n in spans if upper]
    return [" & ".join(cells) + r" \\", " ".join(rules), *below]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"


def _pipe(grid: Grid) -> str:
    names = [markdown_text(f"{upper} {lower}") for upper, lower in grid.head]
    rows = [[markdown_text(cell) for cell in row] for row in grid.rows]
    alignment = ["left"] * grid.left + ["right"] * (len(names) - grid.left)
    return tabulate(rows, names, tablefmt="pipe", disable_numparse=True, colalign=alignment)
