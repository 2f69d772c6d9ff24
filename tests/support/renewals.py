"""A holder's renewals, from its guard's status, as a line of figures."""

from __future__ import annotations

from typing import Any


def line(after: dict[str, Any], before: dict[str, Any] | None = None) -> str:
    """How the renewals went since `before` (counts) and among the newest ones (times)."""
    since = {name: after[name] - (before or {}).get(name, 0) for name in ("granted", "late", "refused", "lost")}
    return (
        f"renewals: {since['granted']} granted, {since['late']} of them late, {since['refused']} refused, "
        f"{since['lost']} lost; answers median {after['median_s'] * 1000:.0f} ms, p99 {after['p99_s'] * 1000:.0f} ms, "
        f"longest {after['longest_s']:.2f} s; longest gap {after['longest_gap_s']:.2f} s"
    )
