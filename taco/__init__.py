"""TACO: training-free sound prompted segmentation, as a benchmark and as functions.

``from taco import load, segment`` loads torch at that moment; ``import taco`` does not.
"""

import importlib
from typing import Any

# Where each name lives. In strings: the digests of the workflow's stages follow imports, and no stage uses these.
_HOMES = {
    "Segmentation": "taco.segmenting.answer",
    "Segmenter": "taco.segmenting.engine",
    "load": "taco.segmenting.engine",
    "segment": "taco.segmenting.engine",
    "segment_video": "taco.segmenting.engine",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
