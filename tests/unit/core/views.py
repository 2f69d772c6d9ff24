"""Views of a guard, made short."""

from __future__ import annotations

from typing import Any

from mnha.core.model import Lease, Phase, Sighting, View, Vm
from mnha.core.timing import PROFILES

TIMINGS = PROFILES["default"]
NOW_S = 1000.0


def lease(holder: str = "me", phase: Phase = Phase.HELD, epoch: int = 7, **more: Any) -> Lease:
    """A lease."""
    return Lease(holder=holder, epoch=epoch, phase=phase, seq=100, timings=TIMINGS, **more)


def sighting(seen: Lease | None = None, age_s: float = 0.5, index: int = 50) -> Sighting:
    """A lease seen `age_s` ago."""
    return Sighting(seen or lease(), index, NOW_S - age_s)


def view(**fields: Any) -> View:
    """A view at NOW_S of node ``me``; by default it holds the lease, confirmed, and nothing runs."""
    defaults: dict[str, Any] = {"sighting": sighting(), "granted_until_s": NOW_S + 4.0, "vm": Vm.OFF}
    return View(now_s=NOW_S, node="me", timings=TIMINGS, **{**defaults, **fields})
