"""What every script shares: the package on the path, a log, and one clear error instead of a traceback.

The package is found beside this folder, so a job runs the code of its own checkout in any environment.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from taco.runtime import log_to

log = logging.getLogger("taco")


@contextmanager
def clock(attributes: MutableMapping[str, Any], samples: int) -> Iterator[None]:
    """Record under ``cost`` how long a job's own work took: without start-up and loading of models."""
    import torch

    started = time.perf_counter()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    attributes["cost"] = {"seconds": seconds, "samples": samples, "threads": torch.get_num_threads()}


def run(main: Callable[[Any], None], snakemake: Any) -> None:
    """Run a script's ``main`` with its log open.

    An error that the package raises on purpose (its class is the package's own) ends the job with its message
    alone; anything else is a fault of ours and keeps its traceback, in the log too.
    """
    with log_to(snakemake.log[0] if snakemake.log else None):
        try:
            main(snakemake)
        except Exception as error:
            if not isinstance(error, OSError) and not type(error).__module__.startswith("taco."):
                log.exception("%s failed", snakemake.rule)
                raise
            log.error("%s failed\n%s: %s", snakemake.rule, type(error).__name__, error)
            sys.exit(1)
