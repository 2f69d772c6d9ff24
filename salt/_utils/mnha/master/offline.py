"""The steps of a move that shuts the VM down: its holder gives the lease back, for another node to take. It always
works, whatever the CPUs are and however fast the guest writes to its memory.

What they keep: the desired state stays *started*. So whatever becomes of this master in the middle, the VM is started
somewhere: by the reactor when the lease has been free for two seconds, or by the guards of their own accord.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DeadlineError, FailedError, UnreachableError
from .failover import PLAN_S, AskHeard, order, value_of
from .following import holder_of
from .result import Result

GO_ON = "it is to run, so that the guards go on trying: see mnha.status"
SLACK_S = 10.0
"""How much longer than the guard's own time limit its answer is waited for."""


def move(
    ask: AskHeard, planner: str, vm: str, holder: str, target: str, by: str, wait_s: float, silent: Sequence[str] = ()
) -> Result:  # fmt: skip
    """Have `holder` shut the VM down and give its lease back, and `target` start it; if that can't, any node.

    :param planner: a node that reaches Consul.
    :param wait_s: how long the guest may take to shut down, before nothing is waited for any more; it is killed after
        its `stop_timeout_s`.
    :param silent: nodes whose minions do not answer: they come last.
    """
    began_s = time.monotonic()
    release = {"vm": vm, "wait_s": wait_s, "reason": f"moved to {target}, shut down meanwhile, by {by}"}
    why, ended = "", ""
    try:
        released = value_of(ask.one(holder, "guard.release", release, timeout_s=wait_s + SLACK_S))
        ended = str((released.get("ended") or {}).get("text") or "")
    except (FailedError, UnreachableError, DeadlineError) as error:
        why = error.message  # it may be off all the same: the lease knows
    try:
        plan = value_of(ask.one(planner, "mnvm.plan", {"vm": vm}, timeout_s=PLAN_S))
    except (FailedError, UnreachableError, DeadlineError) as error:
        text = f"{vm} was to be shut down on {holder}; what became of it nobody could say: {error.message}; {GO_ON}"
        return Result(False, text, vm=vm, node=holder)
    if why and holder_of(plan["lease"]) == holder:
        return Result(False, f"{vm} was not moved, {holder} still has its lease: {why}; see mnha.status", node=holder)
    off_s = time.monotonic() - began_s
    wanted = {**plan, "order": list(dict.fromkeys([target, *plan["order"], holder]))}
    reason = f"moved from {holder} to {target}, shut down meanwhile, by {by}"
    result = order(ask, wanted, planner, reason, silent=silent)
    result.took_s = round(time.monotonic() - began_s, 2)
    result.steps_s = {"shut_down_s": round(off_s, 2), **result.steps_s}
    result.text = _told(result, vm, holder, target, ended, off_s)
    result.ok = result.ok and result.node == target
    return result


def _told(result: Result, vm: str, holder: str, target: str, ended: str, off_s: float) -> str:
    """What became of it."""
    how = ended or f"its guest was off after {off_s:.1f} s"
    if result.node == target and result.ok:
        return f"{vm} was moved from {holder} to {target}, epoch {result.epoch}, in {result.took_s:.1f} s: {how}"
    if result.ok:
        tried = _why(result.tried, target)
        return f"{vm} was shut down on {holder}, and {target} did not start it{tried}: it runs on {result.node} again"
    return f"{vm} was shut down on {holder}, and no node has started it yet: {result.text}; {GO_ON}"


def _why(tried: Mapping[str, Any], node: str) -> str:
    return f" ({tried[node]})" if node in tried else ""
