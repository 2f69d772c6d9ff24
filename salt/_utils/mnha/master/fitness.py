"""Whether a node could have a VM at this very moment, by its own word. The choice goes by records, which are some
seconds old; and no record tells whether a CPU could go on with what runs elsewhere.

Whoever can't say, as a guard of an older version or a silent minion, is not refused: the guards and libvirt decide.
"""

from __future__ import annotations

from typing import Any

from ..errors import FailedError, MnhaError
from .failover import PLAN_S, Ask, value_of

OFFLINE = "offline=True shuts it down and starts it there"


def objection(ask: Ask, vm: str, holder: str, target: str, *, live: bool) -> str:
    """Why `target` can't have the VM that `holder` runs; empty: nothing speaks against it.

    :param live: it is to go on there, not to be started.
    """
    if why := _unfit(ask, vm, target, live=live):
        return f"can't take it now: {why}"
    if live and (why := _other_cpu(ask, vm, holder, target)):
        return f"has another CPU, and the running guest could not go on there: {why}; {OFFLINE}"
    return ""


def _unfit(ask: Ask, vm: str, target: str, *, live: bool) -> str:
    """What the target's guard has against it."""
    try:
        said = value_of(ask.one(target, "guard.fit", {"vm": vm}, timeout_s=PLAN_S))
    except MnhaError:
        return ""
    return str(said.get("why") or (live and said.get("live")) or "")


def _other_cpu(ask: Ask, vm: str, holder: str, target: str) -> str:
    """What the target's libvirt has against the guest's CPU."""
    try:
        wanted = _said(ask, holder, "mnvm.cpu", {"vm": vm})
        return str(_said(ask, target, "mnvm.cpu_objection", {"wanted": wanted}) or "") if wanted else ""
    except MnhaError:
        return ""


def _said(ask: Ask, node: str, fun: str, kwarg: dict[str, Any]) -> Any:
    """What a node's function returns.

    :raises MnhaError: nothing of use.
    """
    reply = ask.one(node, fun, kwarg, timeout_s=PLAN_S)
    if not reply.ok:
        raise FailedError(f"{node}: {reply.said}")
    return reply.value
