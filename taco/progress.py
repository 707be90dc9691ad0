"""A bar where someone is watching, a line in the log now and then where nobody is."""

import io
import logging
import sys
from typing import Any

from tqdm import tqdm

log = logging.getLogger("taco")

SECONDS_BETWEEN_LINES = 30.0
LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left"


class _Lines(io.TextIOBase):
    """Turns what tqdm draws into lines of the log."""

    def write(self, text: str) -> int:
        if line := text.strip("\r\n "):
            log.info("%s", line)
        return len(text)


def progress(total: int, title: str, unit: str = "sample", **options: Any) -> tqdm:
    """Show how far a job is: samples done, rate, time left.

    Parameters
    ----------
    total : int
    title : str
        What is being done.
    unit : str
    **options
        For tqdm, over the ones chosen here.

    Returns
    -------
    tqdm.tqdm
        Use it in a ``with`` block and call ``update(n)``. On a terminal it is a bar; elsewhere a line of the log
        every half minute.
    """
    shared = {"total": total, "desc": title, "unit": unit}
    if sys.stderr.isatty():
        return tqdm(**shared | options)
    # `miniters=1`: tqdm would else learn from the first quick steps to look at the clock rarely.
    quiet = {"file": _Lines(), "mininterval": SECONDS_BETWEEN_LINES, "miniters": 1, "bar_format": LINE}
    return tqdm(**shared | quiet | options)
