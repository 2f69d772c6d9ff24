"""The lease's timings, and the inequalities that make them safe.

A holder may run its VM for ``deadline_s`` after the moment *before* it asked for the renewal that was granted; it then
has ``kill_s`` to make sure that the VM is dead. Everybody else waits ``lease_s`` after having *received* that renewal.
As a renewal is received after it was asked for, nobody takes over before the old VM is dead if

    lease_s > (deadline_s + kill_s) · (1 + SKEW) + MARGIN_S

No object of this module can exist that violates one of its inequalities.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError, Fault

SKEW = 0.01
"""How much faster one node's CLOCK_BOOTTIME may run than another's. Crystals stay below 100 ppm and NTP slews by at
most 500 ppm, so that 1 % is a wide bound."""

MARGIN_S = 0.25
"""Slack of lease_s for what the inequality does not model: the granularity of timers. (The watchdog is never late.)"""

ELECTION_S = 2.0
"""Consul's leader election without a split vote at ``raft_multiplier: 1``: a follower's heartbeat timeout is drawn from
1 s to 2 s. A split vote adds as much again."""

LONGEST_S = 60.0
"""No timing may be longer: so long is waited where nobody can know by which timings a VM may still be running
(:func:`mnha.core.lease.created_again`)."""

_FIELDS = ("renew_s", "deadline_s", "kill_s", "lease_s")


def _is_seconds(value: Any) -> bool:
    """Whether `value` is a number that may be a timing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST_S


@dataclasses.dataclass(frozen=True)
class Timings:
    """The four numbers of a lease, in seconds.

    :param renew_s: how often the holder renews.
    :param deadline_s: D, how long after asking a granted renewal lets the VM run.
    :param kill_s: K, the time in which a VM must be dead after the deadline, or the node is reset.
    :param lease_s: L, how long an observer sees no renewal before it calls the lease expired.
    :raises ConfigurationError: names every inequality that does not hold, with its numbers.
    """

    renew_s: float
    deadline_s: float
    kill_s: float
    lease_s: float

    def __post_init__(self) -> None:
        """Refuse what is not safe."""
        faults = [
            Fault(
                f"timings:{name}",
                getattr(self, name),
                f"is no number of seconds above 0 and up to {LONGEST_S:g}",
                "give one",
            )
            for name in _FIELDS
            if not _is_seconds(getattr(self, name))
        ]
        faults = faults or self._violations()
        if faults:
            raise ConfigurationError(faults=faults)

    def _violations(self) -> list[Fault]:
        """Return a fault for each inequality that does not hold."""
        r, d, k, lease = self.renew_s, self.deadline_s, self.kill_s, self.lease_s
        needed_s = (d + k) * (1 + SKEW) + MARGIN_S
        rules = (
            (
                lease > needed_s,
                "lease_s",
                "lease_s > (deadline_s + kill_s) · (1 + skew) + margin",
                f"{lease:g} > ({d:g} + {k:g}) · {1 + SKEW:g} + {MARGIN_S:g} = {needed_s:g}",
                f"raise lease_s above {needed_s:g}, or lower deadline_s or kill_s",
            ),
            (
                3 * r <= d,
                "renew_s",
                "renew_s · 3 ≤ deadline_s",
                f"{r:g} · 3 = {3 * r:g} ≤ {d:g}",
                f"lower renew_s to {d / 3:g}, or raise deadline_s to {3 * r:g}",
            ),
            (
                ELECTION_S + r <= d,
                "deadline_s",
                "Consul's leader election + renew_s ≤ deadline_s",
                f"{ELECTION_S:g} + {r:g} = {ELECTION_S + r:g} ≤ {d:g}",
                f"raise deadline_s to {ELECTION_S + r:g}",
            ),
        )
        return [
            Fault(f"timings:{name}", getattr(self, name), f"{rule} does not hold: {numbers}", remedy)
            for holds, name, rule, numbers, remedy in rules
            if not holds
        ]

    @property
    def reset_s(self) -> float:
        """When, after asking for the last granted renewal, the watchdog resets a node that could not stop its VM."""
        return self.deadline_s + self.kill_s

    def to_dict(self) -> dict[str, float]:
        """Return the four numbers by name, as they stand in the lease record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Timings:
        """Read what :meth:`to_dict` wrote.

        :raises ConfigurationError: a name is missing or unknown, or an inequality does not hold.
        """
        known = ", ".join(_FIELDS)
        faults = [
            Fault(f"timings:{name}", data[name], "is not a timing", f"known are {known}")
            for name in sorted(set(data) - set(_FIELDS))
        ]
        faults += [
            Fault(f"timings:{name}", None, "is missing", f"give all of {known}")
            for name in sorted(set(_FIELDS) - set(data))
        ]
        if faults:
            raise ConfigurationError(faults=faults)
        return cls(**data)


PROFILES = {
    "default": Timings(renew_s=1.0, deadline_s=5.0, kill_s=2.0, lease_s=8.0),
    "fast": Timings(renew_s=0.5, deadline_s=2.5, kill_s=1.0, lease_s=4.0),
}
"""The timings an operator names instead of giving numbers. ``fast`` leaves no room for a split vote: the loss of
Consul's leader may cost a healthy MNVM a restart."""
