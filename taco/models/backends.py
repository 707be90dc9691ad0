"""What FC-CLIP's optional backend needs, and whether it is here. Imports neither torch nor the backend."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

COMMITS = {
    "detectron2": "https://github.com/facebookresearch/detectron2 at 02b5c4e295e990042a714712c21dc79b731e8833",
    "FC-CLIP": "https://github.com/bytedance/fc-clip at 2b0bbe213070d44da9182530fa2e826fef03f974",
}
"""The official repositories, and the commits with which this module was compared."""

SOURCE = "FCCLIP_SRC"
ENVIRONMENT = "envs/detectron2.yaml"


class BackendError(RuntimeError):
    """The official code, or something that it needs, is not installed."""


class Lack(NamedTuple):
    """Something that the backend needs and does not find, and what to do."""

    what: str
    step: str

    def __str__(self) -> str:
        return f"{self.what} ({self.step})"


def missing() -> list[Lack]:
    """What the backend lacks here; empty where it can run. Imports nothing."""
    found = []
    if find_spec("detectron2") is None:
        step = (
            f"make the environment of {ENVIRONMENT} and install {COMMITS['detectron2']} into it as its "
            "documentation says; it is on no registry"
        )
        found.append(Lack("the module detectron2", step))
    source = os.environ.get(SOURCE)
    step = f"set it to the folder of a checkout of {COMMITS['FC-CLIP']}"
    if not source:
        found.append(Lack(f"the environment variable {SOURCE}", step))
    elif not (Path(source) / "fcclip/fcclip.py").is_file():
        found.append(Lack(f"fcclip/fcclip.py in the folder that {SOURCE} names, {source}", step))
    return found


def require() -> None:
    """Raise `BackendError` where something is missing."""
    if lacks := missing():
        raise BackendError(
            f"models.fcclip.backend is detectron2, which lacks {' and '.join(map(str, lacks))}. The backend "
            "transformers needs neither and gives the same maps."
        )
