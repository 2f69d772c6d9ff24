"""The cluster's history, `history/…` in Consul: the newest entries, and failures that repeat themselves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAME = ("event", "vm", "epoch", "reason")
"""The fields in which an entry equals the one that it repeats."""


def newest(entries: Mapping[str, Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    """The `limit` entries that happened last, the newest at the end; of one that repeats itself its last time counts.

    :param entries: by key, which begins with the time of the first writing.
    """
    keys = sorted(entries, key=lambda key: (_happened(entries[key]), key))
    return [entries[key] for key in keys[-max(1, limit) :]]


def find_same(entries: Mapping[str, Mapping[str, Any]], entry: Mapping[str, Any]) -> str | None:
    """The key of the entry that `entry` repeats: the same event of the same VM, epoch and reason. An entry without a
    reason repeats none.
    """
    if not entry.get("reason"):
        return None
    same = [key for key in entries if all(entries[key].get(field) == entry.get(field) for field in SAME)]
    return max(same, key=lambda key: (_happened(entries[key]), key), default=None)


def repeated(former: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """`former` once more: the newest words, the time of the first, the time of the last, and how often."""
    return {**former, **entry, "at": former["at"], "last": entry["at"], "count": int(former.get("count", 1)) + 1}


def _happened(entry: Mapping[str, Any]) -> str:
    """When, in the ISO format of UTC that all writers use."""
    return str(entry.get("last") or entry.get("at") or "")
