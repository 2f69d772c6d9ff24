"""What became of a failover, a migration or maintenance, and words for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Result:
    """`ok` and `done` are different things: another master's work leaves nothing to do, and is ok.

    :param done: something was moved, started or marked.
    :param node: where the VM is by now, as far as that is known.
    :param reason: of a failure, the same each time that it fails in the same way; empty when `text` is all.
    :param timeline: moments on the node's CLOCK_BOOTTIME, seconds.
    :param tried: node -> what it said to the order.
    :param rejected: node -> why it is no candidate.
    :param steps_s: how long the master's steps took.
    :param took_s: how long it took in all; None: that is not known.
    :param downtime_s: how long a migrated guest stood still; None: that is not known.
    """

    ok: bool
    text: str
    done: bool = False
    node: str = ""
    vm: str = ""
    epoch: int = -1
    reason: str = ""
    timeline: dict[str, Any] = field(default_factory=dict)
    tried: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    steps_s: dict[str, float] = field(default_factory=dict)
    took_s: float | None = None
    downtime_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What a runner's verb returns."""
        return {"result": self.ok, "comment": self.text, "vm": self.vm, "done": self.done, "node": self.node,
                "epoch": self.epoch, "timeline": self.timeline, "steps_s": self.steps_s, "tried": self.tried,
                "rejected": self.rejected, "warnings": self.warnings, "took_s": self.took_s,
                "downtime_s": self.downtime_s}  # fmt: skip


def count(number: int, word: str) -> str:
    """`1 fault`, `2 faults`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
