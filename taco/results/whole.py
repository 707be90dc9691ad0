"""All tables of a suite from its score rows: what the stage `tables` writes, and `taco verify` makes again to compare."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from taco.results import (
    aggregate,
    comparisons,
    extended,
    gating,
    negative_audio,
    negatives,
    printing,
    tables,
)
from taco.results.pages import Page


class Table(NamedTuple):
    """A table: the numbers for CSV, and the page for people."""

    name: str
    frame: pd.DataFrame
    page: Page

    def csv(self) -> str:
        """The numbers as the file has them."""
        return csv(self.frame)


def csv(frame: pd.DataFrame) -> str:
    """A frame as the CSV that results have."""
    return frame.to_csv(index=False, lineterminator="\n")


@dataclass(frozen=True)
class Tables:
    """Every table that a configuration asks for.

    Attributes
    ----------
    config : mapping
        Its ``suite``, ``split``, ``seed``, ``tables`` and ``segment`` count.
    rows : DataFrame
        from `taco.results.score_files.load_rows`, and those of the gate (`of`)
    pooled : DataFrame
        from `taco.results.pools.load`
    """

    config: Mapping[str, Any]
    rows: pd.DataFrame
    pooled: pd.DataFrame

    @classmethod
    def of(cls, config: Mapping[str, Any], scored: pd.DataFrame, pooled: pd.DataFrame) -> "Tables":
        """Of what was scored, to which rows of what the gate leaves are added."""
        gated = gating.rows(scored, config["segment"]["confidence_threshold"])
        return cls(config, pd.concat([scored, gated], ignore_index=True) if len(gated) else scored, pooled)

    @property
    def gates(self) -> Mapping[str, Any]:
        """Confidence thresholds by method."""
        return self.config["segment"]["confidence_threshold"]

    @property
    def conventions(self) -> aggregate.Conventions:
        """What binary metrics do where people differ."""
        return aggregate.Conventions.of(self.config["tables"])

    @cached_property
    def _extended(self) -> pd.DataFrame:
        given = self.config["tables"]["thresholds"]
        given = extended.read_thresholds(given, self.config["split"]) if given else None
        return extended.per_seed(self.rows, self.config["split"], given)

    def summary(self) -> pd.DataFrame:
        """What `taco.results.tables.build` takes."""
        return aggregate.summarise(self.rows, self.pooled, self.conventions)

    def thresholds(self) -> pd.DataFrame:
        """This run's best thresholds, for another run to take."""
        return extended.thresholds(self._extended, self.config["suite"], self.config["split"])

    def all(self) -> Iterator[Table]:
        """The tables, in the order in which they are written."""
        suite, settings = self.config["suite"], self.config["tables"]
        summary = self.summary()
        reported = tables.load_reported(settings["reported"]) if settings["reported"] else None
        for name in settings["which"]:
            frame = tables.build(summary, tables.SPECS[name], reported, suite)
            notes = [*(reported.notes.get(name, ()) if reported else ()), *self.conventions.notes()]
            yield Table(name, frame, printing.table_page(frame, suite, notes))
        compared = comparisons.intervals(
            self.rows, draws=settings["bootstrap_samples"], seed=self.config["seed"]
        )
        compared = tables.intervals(compared, suite)
        yield Table("intervals", compared, printing.intervals_page(compared, suite))
        frame = extended.table(self._extended, suite)
        yield Table("extended", frame, printing.extended_page(frame, suite))
        frame = self._negatives()
        yield Table("negatives", frame, printing.negatives_page(frame, suite, self.gates))

    def _negatives(self) -> pd.DataFrame:
        """What is marked where nothing sounds: the test, the benchmark's figures, the gate's."""
        values = [
            negatives.per_seed(self.rows),
            negative_audio.per_seed(self.rows),
            gating.per_seed(self.rows, self.gates),
        ]
        values = pd.concat([found for found in values if len(found)] or values[:1], ignore_index=True)
        return negatives.table(values, self.config["suite"], unscaled=(negative_audio.UNIVERSAL,))
