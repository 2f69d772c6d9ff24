"""What becomes of a wish that was written to Consul, told from Consul's records alone.

Guards obey the desired state by themselves, and write into Consul what they do: the lease with each renewal, their
node's record with each change. So whoever can read Consul can see that a VM runs or has stopped, whether the minion of
its node answers or not. Pure but for `read`, clock and sleep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.timing import LONGEST_S, MARGIN_S, PROFILES
from ..errors import InputError, MnhaError

POLL_S = 0.2
SLACK_S = 0.5
"""An observer's own waiting for renewals began up to so much later than what it reads is old."""
WANTED = {"running": "started", "off": "stopped"}
"""What a VM is followed to -> the wish that it comes of."""


@dataclass(frozen=True)
class Look:
    """One reading: a VM's lease, its holder's `nodes/<node>` record, and the desired state; empty: not known."""

    lease: Mapping[str, Any]
    record: Mapping[str, Any]
    desired: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holder(self) -> str:
        """Who holds the lease; empty: nobody."""
        return holder_of(self.lease)

    def told(self, vm: str) -> Mapping[str, Any]:
        """What the holder's guard has recorded of the VM: `state`, `vm`, `came_by`, `paused`."""
        return dict(((self.record.get("guard") or {}).get("vms") or {}).get(vm) or {})


def holder_of(lease: Mapping[str, Any]) -> str:
    """Who holds a lease; empty: nobody, it is free, was never taken, or is not there."""
    return "" if lease.get("phase") == "released" else str(lease.get("holder") or "")


def follow(
    read: Callable[[], Look],
    vm: str,
    wanted: str,
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Wait until the VM is as `wanted`, or does not become so by itself.

    Returns `outcome` with what was seen last: `lease`, `holder`, `told` (what its guard has recorded of the VM), and
    `still_s`, for how long the lease was seen unchanged, and `desired`:

    - `running` (wanted): who holds the lease renews it, and has recorded that the VM runs;
    - `paused` (wanted: running): who holds the lease renews it, and has recorded that the VM stands paused;
    - `off` (wanted): nobody holds the lease: who held it had the VM confirmed dead;
    - `free` (wanted: running): nobody holds the lease, so that somebody has to be ordered to take it; one that was
      created and never taken counts as that when guards take the order;
    - `overdue` (wanted: running): three renewals have not come: a take-over may be ordered;
    - `expired` (wanted: off): nobody renewed the lease for as long as after that others may take it;
    - `overruled`: somebody has wished for the contrary meanwhile;
    - `timeout`: none of these within `wait_s`.

    :param read: reads Consul; what it raises is waited out.
    :raises InputError: something else is wanted.
    :raises MnhaError: of `read`, if it never succeeded.
    """
    if wanted not in WANTED:
        raise InputError(f"a VM is followed until it is {' or '.join(WANTED)}, not {wanted!r}")
    end_s, since_s, renewed = clock() + wait_s, clock(), False
    look: Look | None = None
    while True:
        outcome = ""
        try:
            now = read()
        except MnhaError:
            if look is None and clock() >= end_s:
                raise
        else:
            if look is None or now.lease != look.lease:
                renewed, since_s = look is not None, clock()
            look = now
            outcome = _outcome(look, vm, wanted, renewed, clock() - since_s)
        if look is not None and (outcome or clock() >= end_s):
            return {"outcome": outcome or "timeout", "lease": dict(look.lease), "holder": look.holder,
                    "told": look.told(vm), "still_s": round(clock() - since_s, 1),
                    "desired": dict(look.desired)}  # fmt: skip
        sleep(POLL_S)


def _outcome(look: Look, vm: str, wanted: str, renewed: bool, still_s: float) -> str:
    """Empty while there is none."""
    timings = look.lease.get("timings") or {}
    if look.desired.get("run") in set(WANTED.values()) - {WANTED[wanted]}:
        return "overruled"
    if wanted == "off":
        if not look.holder:
            return "off"
        return "expired" if still_s > float(timings.get("lease_s", LONGEST_S)) + MARGIN_S else ""
    overdue_s = 3 * float(timings.get("renew_s", PROFILES["default"].renew_s)) + SLACK_S
    if not look.holder:
        return "free" if look.lease.get("phase") == "released" or still_s > overdue_s else ""
    told = look.told(vm)
    if renewed and told.get("state") in ("running", "paused") and told.get("state") == told.get("vm"):
        return str(told["state"])
    return "overdue" if still_s > overdue_s else ""
