"""Figures: what was measured, what it should be, and how both are shown. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Statistic = Literal["median", "max"]


@dataclass(frozen=True)
class Target:
    """An upper limit for one statistic of a measure, in the measure's unit."""

    statistic: Statistic
    limit: float

    def text(self) -> str:
        """As it stands in the table."""
        return f"{self.statistic} ≤ {self.limit:g}"


@dataclass(frozen=True)
class Summary:
    """The statistics of a measure. `p95` is by nearest rank: with fewer than 20 values it is the maximum."""

    n: int
    min: float
    median: float
    p95: float
    max: float


def summarize(values: Sequence[float]) -> Summary | None:
    """The statistics of some values; None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return Summary(len(ordered), ordered[0], statistics.median(ordered), p95, ordered[-1])


@dataclass(frozen=True)
class Measure:
    """One figure, measured some times. `missing` rounds should have yielded a value and did not."""

    benchmark: str
    name: str
    unit: str
    values: tuple[float, ...]
    targets: tuple[Target, ...] = ()
    missing: int = 0

    def summary(self) -> Summary | None:
        return summarize(self.values)

    def is_met(self) -> bool | None:
        """Whether all targets are met in every round; None where there are no targets."""
        if not self.targets:
            return None
        found = self.summary()
        if found is None or self.missing:
            return False
        return all(getattr(found, target.statistic) <= target.limit for target in self.targets)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        found = self.summary()
        return {
            "benchmark": self.benchmark, "name": self.name, "unit": self.unit, "values": list(self.values),
            "missing": self.missing, "summary": found.__dict__ if found else None,
            "targets": [target.__dict__ for target in self.targets], "met": self.is_met(),
        }  # fmt: skip


def number(value: float) -> str:
    """A value with as many digits as mean something."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 20 else f"{value:.2f}"


def row(measure: Measure) -> list[str]:
    """A measure as cells of the table."""
    found = measure.summary()
    cells = [number(value) for value in (found.median, found.p95, found.max)] if found else ["-", "-", "-"]
    n = f"{len(measure.values)}" + (f" of {len(measure.values) + measure.missing}" if measure.missing else "")
    met = {None: "", True: "yes", False: "NO"}[measure.is_met()]
    targets = ", ".join(target.text() for target in measure.targets)
    return [measure.benchmark, f"{measure.name}, {measure.unit}", *cells, n, targets, met]


HEADER = ("benchmark", "measure", "median", "p95", "max", "n", "target", "met")


def table(measures: Iterable[Measure]) -> str:
    """All measures as a Markdown table that can be read as it is."""
    return markdown(HEADER, [row(measure) for measure in measures], right={2, 3, 4, 5})


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], right: set[int] | None = None) -> str:
    """A Markdown table with aligned columns; those in `right` stand to the right."""
    right = right or set()
    widths = [max(3, *(len(line[column]) for line in (header, *rows))) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(parts)} |"

    rule = [("-" * (width - 1) + ":") if column in right else "-" * width for column, width in enumerate(widths)]
    return "\n".join([line(header), line(rule), *(line(cells) for cells in rows)])


@dataclass(frozen=True)
class Comparison:
    """The same quantity at the peer and here: how many times larger the peer's is."""

    name: str
    unit: str
    statistic: Literal["median", "max"]
    ours: Measure | None
    peer: Measure | None

    def cells(self) -> list[str]:
        """As cells of the table; a side that was not measured in this run is a dash."""
        found = [getattr(side.summary(), self.statistic, None) if side else None for side in (self.ours, self.peer)]
        ratio = f"{found[1] / found[0]:.1f}" if found[0] and found[1] else "-"
        texts = ["-" if value is None else number(value) for value in found]
        return [f"{self.name}, {self.statistic} {self.unit}", *texts, ratio]


def comparison_table(comparisons: Iterable[Comparison], peer: str) -> str:
    """Ours beside the peer's, with the ratio."""
    header = ("quantity", "mnha", peer, "ratio")
    return markdown(header, [comparison.cells() for comparison in comparisons], right={1, 2, 3})
