"""What a guard notes again and again, so that the history keeps room for all else. Pure.

The first times that the same happens each have an entry of their own: that is a story. From the sixth on, with no more
than :data:`QUIET_S` in between, they are counted in the fifth one. A VM that no node can start, or that crashes
again and again, would otherwise fill the history within an hour.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

QUIET_S = 600.0
"""What happens again after so long without is a new story."""
PLAIN = 5
MOST = 64
"""Different events that are remembered; the oldest are forgotten."""

NUMBER = re.compile(r"\b\d[\d.,]*\b")
"""Figures in a text do not make it another event; those in a name do."""


@dataclasses.dataclass
class _Entry:
    """The newest entry of an event.

    :param name: its name in the history.
    :param at: when it was first written, as the history tells times.
    :param entries: how many entries the event has.
    :param count: how often it is counted in this one.
    """

    name: str
    at: str
    entries: int
    count: int
    last_s: float


class Repeats:
    """What one guard has noted lately of its VM."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Entry] = {}

    def counted(self, record: dict[str, Any], name: str, now_s: float) -> tuple[str, dict[str, Any], bool]:
        """Where a record is to be written, and what; and whether that is a new entry.

        :param record: with `event`, `text` and `at`.
        :param name: of its entry, if it gets one.
        :param now_s: CLOCK_BOOTTIME.
        """
        key = record["event"], NUMBER.sub("#", record["text"])
        known = self._known.pop(key, None)
        if known is None or now_s - known.last_s > QUIET_S:
            known = _Entry(name, record["at"], 1, 1, now_s)
        elif known.entries < PLAIN:
            known = _Entry(name, record["at"], known.entries + 1, 1, now_s)
        else:
            known.count, known.last_s = known.count + 1, now_s
        self._known[key] = known
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        if known.count == 1:
            return known.name, record, True
        return known.name, {**record, "at": known.at, "last": record["at"], "count": known.count}, False
