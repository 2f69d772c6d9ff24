"""The steps of a failover and of a start, as a master takes them. Pure but for `ask`, which reaches the
minions.

What they keep: an order always names the epoch that it replaces, so that whatever a master believes, however
late it is and however many masters there are, the guards and the lease decide. A step that is refused, fails or
is not answered leads to the next candidate; an outcome is *ok* only if a guard has said that the VM runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import DeadlineError, FailedError, MnhaError, UnreachableError
from .minions import Reply

PLAN_S = 6.0
START_WAIT_S = 60.0
MAX_CANDIDATES = 9


class Ask(Protocol):
    """Asks one minion; see :class:`mnha.master.minions.Minions`."""

    def one(self, node: str, fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 5.0) -> Reply:
        """The answer of one node."""


@dataclass
class Outcome:
    """What became of it. `ok` and `done` are different things: another master's work leaves nothing to do, and
    is ok.
    """

    ok: bool
    text: str
    done: bool = False
    node: str = ""
    epoch: int = -1
    timeline: dict[str, Any] = field(default_factory=dict)
    tried: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    steps_s: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trouble:
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
        raise FailedError(f"{reply.node}: {reply.value}")
    return reply.value


def fail_over(ask: Ask, trouble: Trouble, master: str, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Claim the failover, choose, order, go on to the next candidate, record."""
    began_s = clock()
    question = {"vm": trouble.vm, "epoch": trouble.epoch, "seq": trouble.seq, "attempt": trouble.attempt, "by": master,
                "index": trouble.index}  # fmt: skip
    plan = value_of(ask.one(trouble.reporter, "mnvm.plan_failover", question, timeout_s=PLAN_S))
    if not plan["needed"]:
        return Outcome(True, f"nothing to do: {plan['why']}")
    if not plan["claimed"]:
        return Outcome(True, f"nothing to do: {plan['by']} works on it")
    planned_s = clock() - began_s
    reason = f"{trouble.event} of {plan['lease'].get('holder') or 'nobody'}, reported by {trouble.reporter}"
    outcome = order(ask, plan, trouble.reporter, reason, clock)
    outcome.steps_s = {"plan_s": round(planned_s, 3), **outcome.steps_s}
    if outcome.ok and not outcome.done:
        return outcome  # somebody else's work: theirs to record
    _record(ask, trouble, master, outcome, plan.get("action"))
    return outcome


def order(
    ask: Ask, plan: Mapping[str, Any], adviser: str, reason: str, clock: Callable[[], float] = time.monotonic
) -> Outcome:
    """Order the take-over from one candidate of `plan` after the other, until a VM runs.

    :param adviser: the node that is asked how the lease stands after a start has failed: it has a new epoch
        then.
    """
    outcome = Outcome(False, plan["sentence"], rejected=dict(plan["rejected"]), epoch=plan["lease"].get("epoch", -1))
    if plan.get("desired") != "started":
        outcome.text = (
            f"{plan['vm']} is not to run: desired is {plan.get('desired') or 'unknown'}; `salt-run mnha.start`"
        )
        return outcome
    queue, began_s = list(plan["order"]), clock()
    while queue and len(outcome.tried) < MAX_CANDIDATES:
        node = queue.pop(0)
        kind, text, answer = _order_one(ask, node, plan["vm"], outcome.epoch, reason)
        outcome.tried[node] = f"{kind}: {text}" if text else kind
        outcome.steps_s[f"order_{node}_s"] = round(clock() - began_s, 3)
        if kind == "ok":
            outcome.ok = outcome.done = True
            outcome.node, outcome.timeline = node, dict(answer.get("timeline") or {})
            outcome.epoch = answer.get("epoch", outcome.epoch)
            outcome.text = f"{plan['vm']} runs on {node}, epoch {outcome.epoch}"
            return outcome
        plan = _advice(ask, adviser, plan)
        lease = plan["lease"]
        if kind != "failed" and lease.get("holder") and lease.get("epoch", -1) > outcome.epoch:
            # Whoever did not answer, or refused: somebody has taken the lease, and its guard starts the VM.
            outcome.ok, outcome.node, outcome.epoch = True, lease["holder"], lease["epoch"]
            outcome.text = f"{lease['holder']} has taken the lease, epoch {lease['epoch']}; {_tried(outcome)}"
            return outcome
        outcome.epoch = lease.get("epoch", outcome.epoch)
        queue = [name for name in plan["order"] if name not in outcome.tried]
    if outcome.tried:
        outcome.text = f"{plan['vm']} was not taken over: {_tried(outcome)}"
    return outcome


def _tried(outcome: Outcome) -> str:
    """What each node that was ordered said."""
    return "; ".join(f"{node}: {text}" for node, text in outcome.tried.items())


def _order_one(ask: Ask, node: str, vm: str, epoch: int, reason: str) -> tuple[str, str, dict[str, Any]]:
    """Order it from one node: (`ok`, `refused`, `failed`, …; message; the whole answer)."""
    order_ = {"vm": vm, "epoch": epoch, "wait_s": START_WAIT_S, "reason": reason}
    try:
        reply = ask.one(node, "guard.takeover", order_, timeout_s=START_WAIT_S + 8)
    except (UnreachableError, DeadlineError) as error:
        return error.kind, error.message, {}
    if not isinstance(reply.value, dict) or "result" not in reply.value:
        return "broken", str(reply.value), {}
    return reply.value["result"], str(reply.value.get("message", "")), reply.value


def _advice(ask: Ask, adviser: str, plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """How things stand now; as before if the adviser does not answer."""
    try:
        return value_of(ask.one(adviser, "mnvm.plan", {"vm": plan["vm"]}, timeout_s=PLAN_S))
    except MnhaError:
        return plan


def _record(ask: Ask, trouble: Trouble, master: str, outcome: Outcome, action: str | None) -> None:
    """Write the outcome into the history and end the claim, through a node that answers; a record that can't be
    written is no failure.
    """
    entry = {
        "event": "failover" if outcome.ok else "failover failed",
        "text": outcome.text,
        "vm": trouble.vm,
        "epoch": outcome.epoch,
        "master": master,
        "cause": trouble.event,
        "attempt": trouble.attempt,
        "action": action,
        "timeline": outcome.timeline,
        "steps_s": outcome.steps_s,
        "tried": outcome.tried,
        "rejected": outcome.rejected,
    }
    for node in dict.fromkeys([outcome.node or trouble.reporter, trouble.reporter]):
        try:
            if ask.one(node, "mnvm.record", entry, timeout_s=PLAN_S).ok:
                return
        except MnhaError:
            continue
    outcome.text += " (the history could not be written)"
