"""What is known of a VM's last live migration away from this node, for people: how far it is, and how it ended.

The figures are libvirt's, of its job. Nothing is decided by them. What a migration costs its guest is told by two
moments of the wall clock: when the guest was stopped at its source, and when it was resumed at its target. Each node
tells its own; libvirt's own figure of the downtime ends before the lease is handed over.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...host.clock import boottime_s

MIB = 1024 * 1024
DONE, FAILED = "done", "failed"


@dataclasses.dataclass(frozen=True)
class Move:
    """One migration away from here.

    :param began_s: CLOCK_BOOTTIME; so is `ended_s`, None while it goes on.
    :param outcome: empty while it goes on; `done`: the VM has arrived, complete and paused; `failed`: `why` says so.
    :param percent: of what is to be sent, as virsh counts it. A guest that writes to its memory lets it fall.
    :param rate_mib_s: at which it is sent.
    :param downtime_ms: libvirt's: what it expects while it goes on, what it was when it is done.
    :param stopped_at: wall clock, when the guest was stopped here to go on elsewhere; None: it was not.
    """

    target: str
    began_s: float
    ended_s: float | None = None
    outcome: str = ""
    why: str = ""
    percent: int = 0
    sent_mib: int = 0
    left_mib: int = 0
    rate_mib_s: float = 0.0
    downtime_ms: int | None = None
    stopped_at: float | None = None


def percent(left: int, total: int) -> int:
    """How much of what is to be sent was sent; 100 only when nothing is left.

    :param total: 0 before that is known.
    """
    if not total:
        return 0
    return 100 if not left else max(0, min(99, int(100 - 100 * left / total)))


def figures(stats: Mapping[str, Any]) -> dict[str, Any]:
    """What libvirt's figures of a job say of a :class:`Move`; what they do not have is left out."""
    told: dict[str, Any] = {}
    if "data_total" in stats:
        left = int(stats.get("data_remaining", 0))
        told = {
            "percent": percent(left, int(stats["data_total"])),
            "sent_mib": int(stats.get("data_processed", 0)) // MIB,
            "left_mib": left // MIB,
        }
    if "memory_bps" in stats:
        told["rate_mib_s"] = round(int(stats["memory_bps"]) / MIB, 1)
    if "downtime" in stats:
        told["downtime_ms"] = int(stats["downtime"])
    return told


class Moves:
    """The last migration away from here, and the last resume of what one has brought. May be asked in any thread.

    :param clock: CLOCK_BOOTTIME, in seconds.
    :param wall: wall clock, in seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = boottime_s, wall: Callable[[], float] = time.time) -> None:
        self._clock, self._wall = clock, wall
        self.last: Move | None = None
        self.resumed_at: float | None = None

    def begin(self, target: str) -> None:
        """A migration begins."""
        self.last = Move(target, self._clock())

    def count(self, stats: Mapping[str, Any]) -> None:
        """libvirt has told its figures of it."""
        self._change(**figures(stats))

    def stop(self) -> None:
        """The guest was stopped here, to go on elsewhere."""
        self._change(stopped_at=self._wall())

    def end(self, error: str) -> None:
        """It has ended; empty: well."""
        more = {} if error else {"percent": 100, "left_mib": 0}
        self._change(ended_s=self._clock(), outcome=FAILED if error else DONE, why=error, **more)

    def resume(self) -> None:
        """What a migration has brought was resumed here."""
        self.resumed_at = self._wall()

    def told(self) -> dict[str, Any] | None:
        """The last one, for the status, with how long it has taken (`took_s`) and how long ago it ended
        (`ended_s_ago`); None: this guard has begun none.
        """
        last, now_s = self.last, self._clock()
        if last is None:
            return None
        until_s = now_s if last.ended_s is None else last.ended_s
        ago_s = None if last.ended_s is None else round(now_s - last.ended_s, 2)
        return {**dataclasses.asdict(last), "took_s": round(until_s - last.began_s, 2), "ended_s_ago": ago_s}

    def _change(self, **changes: Any) -> None:
        """Replace what is known of the last one; what comes of one that nobody began is dropped."""
        if self.last is not None:
            self.last = dataclasses.replace(self.last, **changes)
