"""The steps of a failover and of a start, as a master takes them. Pure but for `ask`, which reaches the
minions.

What they keep: an order always names the epoch that it replaces, so that whatever a master believes, however
late it is and however many masters there are, the guards and the lease decide. A step that is refused, fails or
is not answered leads to the next candidate; a result is *ok* only if a guard has said that the VM runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import DeadlineError, FailedError, MnhaError, UnreachableError
from .minions import ALIVE_S, PATIENCE_S, Reply
from .result import Result

PLAN_S = 6.0
START_WAIT_S = 60.0
MAX_CANDIDATES = 9


class Ask(Protocol):
    """Asks one minion; see :class:`mnha.master.minions.Minions`."""

    def one(self, node: str, fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 5.0) -> Reply:
        """The answer of one node."""


class AskHeard(Ask, Protocol):
    """Asks also several minions; see :class:`mnha.master.minions.Minions`."""

    def heard(
        self, nodes: Sequence[str], fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 5.0,
        good: Callable[[Reply], bool] = lambda reply: reply.ok, patience_s: float = PATIENCE_S,
    ) -> dict[str, Reply]:  # fmt: skip
        """The answers of those whose minions are there."""


@dataclass(frozen=True)
class Incident:
    """What an event has reported."""

    vm: str
    epoch: int
    seq: int
    attempt: int
    reporter: str
    event: str
    index: int | None = None


def value_of(reply: Reply) -> dict[str, Any]:
    """The value of a good answer.

    :raises FailedError: the function failed; with what it said.
    """
    if not reply.ok or not isinstance(reply.value, dict):
        raise FailedError(f"{reply.node}: {reply.said}")
    return reply.value


def fail_over(ask: AskHeard, incident: Incident, master: str, clock: Callable[[], float] = time.monotonic) -> Result:
    """Claim the failover, choose, order, go on to the next candidate, record."""
    began_s = clock()
    question = {"vm": incident.vm, "epoch": incident.epoch, "seq": incident.seq, "attempt": incident.attempt,
                "by": master, "index": incident.index}  # fmt: skip
    plan = value_of(ask.one(incident.reporter, "mnvm.plan_failover", question, timeout_s=PLAN_S))
    if not plan["needed"]:
        return Result(True, f"nothing to do: {plan['why']}", vm=incident.vm)
    if not plan["claimed"]:
        return Result(True, f"nothing to do: {plan['by']} works on it", vm=incident.vm)
    planned_s = clock() - began_s
    reason = f"{incident.event} of {plan['lease'].get('holder') or 'nobody'}, reported by {incident.reporter}"
    result = order(ask, plan, incident.reporter, reason, clock, _silent(ask, plan["order"]))
    result.steps_s = {"plan_s": round(planned_s, 3), **result.steps_s}
    if result.ok and not result.done:
        return result  # somebody else's work: theirs to record
    _record(ask, incident, master, result, plan.get("action"))
    return result


def _silent(ask: AskHeard, nodes: Sequence[str]) -> list[str]:
    """Those of several candidates whose minions do not answer a ping, as the first of the others does: they would be
    waited for, for seconds each. Mostly there is time for that: the lease has not expired yet.
    """
    if len(nodes) < 2:
        return []
    try:
        heard = ask.heard(nodes, "test.ping", timeout_s=PLAN_S, patience_s=ALIVE_S)
    except MnhaError:
        return []
    return [node for node in nodes if node not in heard]


def order(
    ask: Ask, plan: Mapping[str, Any], planner: str, reason: str, clock: Callable[[], float] = time.monotonic,
    silent: Collection[str] = (), wait_s: float = START_WAIT_S,
) -> Result:  # fmt: skip
    """Order the take-over from one candidate of `plan` after the other, until a VM runs.

    :param planner: the planning node: asked again after a start has failed, for the lease has a new epoch then.
    :param silent: nodes whose minions have not answered lately: they come last.
    :param wait_s: how long each may take: until the lease may be taken, and the VM runs.
    """
    result = Result(False, plan["sentence"], vm=plan["vm"], rejected=dict(plan["rejected"]),
                    epoch=plan["lease"].get("epoch", -1), reason="no candidate")  # fmt: skip
    if plan.get("desired") != "started":
        result.text = (
            f"{plan['vm']} is not to run: desired is {plan.get('desired') or 'unknown'}; `salt-run mnha.start`"
        )
        result.reason = "not desired"
        return result
    queue, began_s, kinds = _heard_first(plan["order"], silent), clock(), {}
    while queue and len(result.tried) < MAX_CANDIDATES:
        node = queue.pop(0)
        kind, text, answer = _order_one(ask, node, plan["vm"], result.epoch, reason, wait_s)
        result.tried[node] = f"{kind}: {text}" if text else kind
        kinds[node] = kind
        result.steps_s[f"order_{node}_s"] = round(clock() - began_s, 3)
        if kind == "ok":
            result.ok = result.done = True
            result.node, result.timeline = node, dict(answer.get("timeline") or {})
            result.epoch = answer.get("epoch", result.epoch)
            result.text = f"{plan['vm']} runs on {node}, epoch {result.epoch}"
            return result
        plan = _planned_again(ask, planner, plan)
        lease = plan["lease"]
        if kind != "failed" and lease.get("holder") and lease.get("epoch", -1) > result.epoch:
            # Whoever did not answer, or refused: somebody has taken the lease, and its guard starts the VM.
            result.ok, result.node, result.epoch = True, lease["holder"], lease["epoch"]
            result.text = f"{lease['holder']} has taken the lease, epoch {lease['epoch']}; {_tried(result)}"
            return result
        result.epoch = lease.get("epoch", result.epoch)
        queue = _heard_first([name for name in plan["order"] if name not in result.tried], silent)
    if result.tried:
        result.text = f"{plan['vm']} was not taken over: {_tried(result)}"
        result.reason = ", ".join(f"{node} {kinds[node]}" for node in sorted(kinds))
    return result


def _heard_first(nodes: Iterable[str], silent: Collection[str]) -> list[str]:
    """`nodes`, each of both parts in its order: an order to a silent minion costs seconds."""
    return sorted(nodes, key=lambda node: node in silent)


def _tried(result: Result) -> str:
    """What each node that was ordered said."""
    return "; ".join(f"{node}: {text}" for node, text in result.tried.items())


def _order_one(ask: Ask, node: str, vm: str, epoch: int, reason: str, wait_s: float) -> tuple[str, str, dict[str, Any]]:
    """Order it from one node: (`ok`, `refused`, `failed`, …; message; the whole answer)."""
    order_ = {"vm": vm, "epoch": epoch, "wait_s": wait_s, "reason": reason}
    try:
        reply = ask.one(node, "guard.takeover", order_, timeout_s=wait_s + 8)
    except (UnreachableError, DeadlineError) as error:
        return error.kind, error.message, {}
    if not isinstance(reply.value, dict) or "result" not in reply.value:
        return "broken", reply.said, {}
    return reply.value["result"], str(reply.value.get("message", "")), reply.value


def _planned_again(ask: Ask, planner: str, plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """The plan as it is now; as before if the planner does not answer."""
    try:
        return value_of(ask.one(planner, "mnvm.plan", {"vm": plan["vm"]}, timeout_s=PLAN_S))
    except MnhaError:
        return plan


def _record(ask: Ask, incident: Incident, master: str, result: Result, action: str | None) -> None:
    """Write the result into the history and end the claim, through a node that answers; a record that can't be
    written is no failure. Failures of one `reason` become one entry (:func:`mnha.master.history.find_same`).
    """
    entry = {
        "event": "failover" if result.ok else "failover failed",
        "text": result.text,
        "vm": incident.vm,
        "epoch": result.epoch,
        "master": master,
        "reason": f"{incident.event}, to {result.node}" if result.ok or not result.reason else result.reason,
        "cause": incident.event,
        "attempt": incident.attempt,
        "action": action,
        "timeline": result.timeline,
        "steps_s": result.steps_s,
        "tried": result.tried,
        "rejected": result.rejected,
    }
    for node in dict.fromkeys([result.node or incident.reporter, incident.reporter]):
        try:
            if ask.one(node, "mnvm.record", entry, timeout_s=PLAN_S).ok:
                return
        except MnhaError:
            continue
    result.text += " (the history could not be written)"
