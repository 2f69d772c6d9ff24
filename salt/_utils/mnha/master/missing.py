"""Records of a VM that Consul should hold and does not: what that means, what happens by itself, what to type. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import keys
from ..core.timing import LONGEST_S

CREATE = "`salt '*' state.apply states.guard` creates it"
RUNS = ("started", "stopped")
NO_LEASE = "there is no lease to be taken"
"""Why no node is a candidate then."""


def has_no_lease(vm: Mapping[str, Any], quorum: bool) -> bool:
    """Whether Consul, which was read, holds no lease of a VM, or one that can't be read.

    :param vm: its records by the keys of :mod:`mnha.keys`, as a status has them.
    """
    return quorum and not vm[keys.LEASE]


def told(name: str, vm: Mapping[str, Any], quorum: bool, faults: Mapping[str, str] | None = None) -> str:
    """What is missing of a VM's records, what that means, and the remedy; empty if nothing is.

    :param faults: why records of it can't be read, by the same keys: those are missing, too.

    A guard that sees no lease kills its VM and takes nothing; one that sees no desired state goes by the one that it
    saw last, and one that begins anew by none. The record that is created in the place of a lease that somebody deleted
    is not taken before the longest lease that there may be is over (docs/failure-model.md).
    """
    gone = {
        key: f"in Consul can't be read ({faults[key]}), somebody has written it by hand"
        if faults and key in faults
        else "is missing in Consul, somebody has deleted it"
        for key in (keys.LEASE, keys.DESIRED)
    }
    if has_no_lease(vm, quorum):
        run = (vm[keys.DESIRED] or {}).get("run")
        if run is None and not vm[keys.LAST_START] and not faults:
            return (
                f"{name} has no lease in Consul, and was never started by what it holds: {CREATE}; then"
                " `salt-run mnha.start`"
            )
        then = "it starts by itself" if run == "started" else "`salt-run mnha.start` starts it"
        return (
            f"{name}: its lease {gone[keys.LEASE]}. A guard that sees this kills its VM, and no node starts it:"
            f" {CREATE} again; {LONGEST_S:g} s later, when no old holder can be left, {then}"
        )
    if quorum and not vm[keys.DESIRED]:
        return (
            f"{name}: its desired state {gone[keys.DESIRED]}. Guards go by the one they saw last, and one that begins"
            " anew starts nothing and takes nothing over: `salt-run mnha.start` or `salt-run mnha.stop` writes it again"
        )
    if quorum and (run := vm[keys.DESIRED].get("run")) not in RUNS:
        return (
            f"{name}: its desired state in Consul is {run!r}, which is none: it is neither started nor stopped nor"
            " taken over: `salt-run mnha.start` or `salt-run mnha.stop` writes it again"
        )
    return ""


def waits(lease: Mapping[str, Any] | None) -> str:
    """What a lease that nobody has taken yet is waiting for; empty if it does not wait."""
    if not lease or lease.get("holder") or lease.get("phase") == "released":
        return ""
    wait_s = float((lease.get("timings") or {}).get("lease_s") or LONGEST_S)
    return f"its lease was {lease.get('reason') or 'created'}, and may be taken {wait_s:g} s after that"
