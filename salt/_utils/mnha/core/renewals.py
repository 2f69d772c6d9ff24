"""How a holder's renewals go: the figures that tell how near a healthy VM came to its deadline.

Only told, never acted on: the guard's decisions rest on the deadline alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from typing import Any

REMEMBERED = 600
"""Answers that median and p99 are taken from: ten minutes with the default timings."""


@dataclasses.dataclass
class Renewals:
    """The renewals of one lease by its holder, since it took it (or since its guard was started).

    :param since_s: CLOCK_BOOTTIME of the first grant.
    :param granted: how many were granted.
    :param late: how many of these were granted later than ``renew_s`` after they had been sent.
    :param refused: how many were refused: an earlier one had been granted without its answer coming back.
    :param lost: how many got no answer within the deadline, or Consul's word that it can't.
    :param longest_s: the longest answer of a granted one.
    :param longest_gap_s: the longest time from *sending* a granted request to the grant of the next one. The VM is
        killed when it reaches D.
    """

    since_s: float
    granted: int = 0
    late: int = 0
    refused: int = 0
    lost: int = 0
    longest_s: float = 0.0
    longest_gap_s: float = 0.0
    _anchor_s: float = dataclasses.field(default=-math.inf, repr=False)
    _answers_s: deque[float] = dataclasses.field(default_factory=lambda: deque(maxlen=REMEMBERED), repr=False)

    def grant(self, sent_s: float, now_s: float, renew_s: float) -> None:
        """Count a granted request that was sent at `sent_s` and whose answer has come now."""
        took_s = now_s - sent_s
        self.granted += 1
        self.late += took_s > renew_s
        self.longest_s = max(self.longest_s, took_s)
        if self._anchor_s > -math.inf:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self._anchor_s)
        self._anchor_s = max(self._anchor_s, sent_s)
        self._answers_s.append(took_s)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, with median and p99 (nearest rank) of the newest answers."""
        ranked = sorted(self._answers_s)
        told = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.repr}
        return told | {f"{name}_s": _rank(ranked, share) for name, share in (("median", 0.5), ("p99", 0.99))}


def _rank(ranked: list[float], share: float) -> float | None:
    """The value below which `share` of all values lie (nearest rank); None of no values."""
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None
