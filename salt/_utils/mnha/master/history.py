"""The cluster's history, `history/…` in Consul: the newest entries, and what of masters repeats itself."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from . import unreadable

SAME = ("event", "vm", "reason")
"""The fields in which an entry equals the one that it repeats."""

QUIET_S = 600.0
"""What happens again at another epoch, after so long without, is a new story."""
WELL = ("failover", "taken", "started")
WELL_S = 60.0
"""The same for what went well: a VM that ran for so long was up, and its next failover is one of its own. One that
moves on and on is counted.
"""
PLAIN = 2
"""So many entries the same has at different epochs before it is counted."""

COUNT_TRIES = 8
"""More than there are masters, each of which may be faster once."""


def newest(entries: Mapping[str, Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    """The `limit` entries that happened last, the newest at the end; of one that repeats itself its last time counts.

    :param entries: by key, which begins with the time of the first writing.
    """
    keys = sorted(entries, key=lambda key: (_happened(entries[key]), key))
    return [entries[key] for key in keys[max(0, len(keys) - limit) :]]


def readable(entries: Mapping[str, Any], faults: Mapping[str, str]) -> dict[str, Any]:
    """The entries, those that can't be read as entries that say so; they come before all others.

    :param faults: why those can't be read, by key.
    """
    told = {key: {"event": "unreadable", "text": unreadable.told({key: why})[0]} for key, why in faults.items()}
    return {key: told.get(key) or entry for key, entry in entries.items()}


def find_same(entries: Mapping[str, Mapping[str, Any]], entry: Mapping[str, Any]) -> str | None:
    """The key of the entry that `entry` repeats: the same event of the same VM and reason, at the same epoch; or at
    another one, if there are :data:`PLAIN` of it already and the last is less than :data:`QUIET_S` ago, or
    :data:`WELL_S` for what went well. An entry without a VM or a reason repeats none.
    """
    if not entry.get("reason") or not entry.get("vm"):
        return None
    same = [key for key in entries if all(entries[key].get(field) == entry.get(field) for field in SAME)]
    if not any(entries[key].get("epoch") == entry.get("epoch") for key in same):
        quiet_s = WELL_S if entry["event"] in WELL else QUIET_S
        same = [key for key in same if _seconds_between(entries[key], entry) < quiet_s]
        same = same if len(same) >= PLAIN else []
    else:
        same = [key for key in same if entries[key].get("epoch") == entry.get("epoch")]
    return max(same, key=lambda key: (_happened(entries[key]), key), default=None)


def _seconds_between(former: Mapping[str, Any], entry: Mapping[str, Any]) -> float:
    """How long after `former` an entry happened; infinity if that can't be known."""
    try:
        times = [datetime.datetime.fromisoformat(_happened(one)) for one in (former, entry)]
        return (times[1] - times[0]).total_seconds()
    except (ValueError, TypeError):
        return float("inf")


def repeated(former: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """`former` once more: the newest words, the time of the first, the time of the last, and how often."""
    return {**former, **entry, "at": former["at"], "last": entry["at"], "count": int(former.get("count", 1)) + 1}


def _happened(entry: Mapping[str, Any]) -> str:
    """When, in the ISO format of UTC that all writers use."""
    return str(entry.get("last") or entry.get("at") or "")


def count_again(
    value: Mapping[str, Any],
    entries: Callable[[], Mapping[str, Any]],
    get: Callable[[str], Mapping[str, Any] | None],
    cas: Callable[[str, Mapping[str, Any], int], bool],
) -> str:
    """Count `value` at the entry that it repeats, however many do so at once.

    :param entries: reads the whole history, key -> entry.
    :param get: reads one entry: `value` and `index`; None if it is gone.
    :param cas: writes one if its index is still that; whether it was.
    :returns: the entry's key; empty if there is none, or others were faster :data:`COUNT_TRIES` times: it gets one of
        its own then.
    """
    for _ in range(COUNT_TRIES):
        key = find_same(entries(), value)
        if not key:
            return ""
        former = get(key)
        if former and former["value"] and cas(key, repeated(former["value"], value), former["index"]):
            return key
    return ""
