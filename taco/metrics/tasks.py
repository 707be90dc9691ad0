"""The five tasks: what each is called, how it is scored, and which word bank is the paper's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """How a task is scored.

    Attributes
    ----------
    title : str
        its name in tables
    kind : {"binary", "pooled", "semantic"}
        pooled = binary rows and, in addition, pools by class (ADE SP)
    word_bank : str
        the paper's default bank
    conventions : tuple of str
        semantic tasks: the conventions of `taco.metrics.convention_ids` that are printed
    """

    title: str
    kind: str
    word_bank: str
    conventions: tuple = ()


TASKS = {
    "s4": Task("S4", "binary", "general"),
    "ms3": Task("MS3", "binary", "general"),
    "ade_sp": Task("ADE SP", "pooled", "general"),
    "avss": Task("AVSS", "semantic", "specific", ("paper",)),
    "ade_sp_semantic": Task("ADE SP Semantic", "semantic", "specific", ("paper", "corrected")),
}
