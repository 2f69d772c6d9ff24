"""The steps of a start and of a stop, as a master takes them. Pure but for `ask`, which reaches the minions.

What they keep: the desired state is written to Consul through any node that answers, and the guards obey it there; what
becomes of it is told by Consul (:mod:`mnha.master.following`). So no step needs the minion of the node that has the VM.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.timing import LONGEST_S
from ..errors import DeadlineError, FailedError, UnreachableError
from . import paused
from .failover import START_WAIT_S, Ask, AskHeard, order, value_of
from .following import holder_of
from .result import Result

ASK_S = 8.0
SLACK_S = 8.0
"""How much longer than its own time limit a minion's function is waited for."""
MAX_ORDERS = 3
"""A start is ordered so often at the most: each time the lease may be free again when it is looked at."""


def start(ask: AskHeard, nodes: Sequence[str], vm: str | None, by: str, wait_s: float = START_WAIT_S) -> Result:
    """Write the wish; wait until who holds the lease runs the VM. If nobody holds it, or who does is silent, order the
    take-over from the best node whose minion answers.

    :param by: who wants it, for the record.
    :raises UnreachableError: nobody could write it, or it is not known.
    """
    planner, plan, awake = desire(ask, nodes, "started", vm, by)
    silent = [node for node in nodes if node not in awake]
    name, seers = plan["vm"], [planner, *(node for node in awake if node != planner)]
    result = Result(False, "", vm=name)
    for number in range(MAX_ORDERS):
        # One that was created and never taken is looked at only if the order fails: its time is mostly over.
        if holder_of(plan["lease"]) or (number and is_waiting(plan["lease"])):
            seen = follow(ask, seers, name, "running", wait_s)
            holder, epoch = seen["holder"], seen["lease"].get("epoch", -1)
            if seen["outcome"] in ("running", "paused", "overruled", "timeout"):
                result.node, result.epoch = holder, epoch
                result.ok = seen["outcome"] == "running"
                result.text = (
                    f"{name} runs on {holder}, epoch {epoch}" if result.ok else _not_started(name, seen, wait_s)
                )
                return result
            plan = value_of(ask.one(planner, "mnvm.plan", {"vm": name}, timeout_s=ASK_S))
        lease = plan["lease"]
        more_s = 0.0 if is_free(lease) else float((lease.get("timings") or {}).get("lease_s", LONGEST_S))
        result = order(ask, plan, planner, f"mnha.start by {by}", silent=silent, wait_s=START_WAIT_S + more_s)
        if not result.ok and holder_of(plan["lease"]):
            result.text = f"{holder_of(plan['lease'])} has the lease and does not renew it; {result.text}"
        if result.done or not (result.ok or (result.tried and is_waiting(lease))):
            return result
        # Somebody else has taken the lease: whether the VM runs there is seen in the next round.
        if result.ok:
            plan = {**plan, "lease": {"holder": result.node, "epoch": result.epoch, "phase": "held"}}
    return result


def is_free(lease: Mapping[str, Any]) -> bool:
    """Whether a lease may be taken at once."""
    return lease.get("phase") == "released"


def is_waiting(lease: Mapping[str, Any]) -> bool:
    """Whether a lease was created and never taken: it has to expire first."""
    return not is_free(lease) and not holder_of(lease)


def _not_started(name: str, seen: Mapping[str, Any], wait_s: float) -> str:
    told, holder = seen["told"], seen["holder"]
    if seen["outcome"] == "overruled":
        return _overruled(name, seen)
    if seen["outcome"] == "paused":
        return f"desired is started; {paused.started(name, holder, seen['lease'].get('epoch', -1), told)}"
    said = f"its record says {told['state']}, VM {told.get('vm')}" if told.get("state") else "it has recorded nothing"
    return (
        f"desired is started, and {holder} has the lease, but the VM does not run there after {wait_s:g} s: {said};"
        " see mnha.status"
    )


def stop(ask: AskHeard, nodes: Sequence[str], vm: str | None, by: str, wait_s: float) -> Result:
    """Write the wish; wait until the lease is given back, which its holder does when the VM is confirmed dead.

    :param by: who wants it, for the record.
    :raises UnreachableError: nobody could write it, or it is not known.
    """
    planner, plan, awake = desire(ask, nodes, "stopped", vm, by)
    name, holder = plan["vm"], holder_of(plan["lease"])
    result = Result(True, f"{name} is stopped: no node has its lease", vm=name, epoch=plan["lease"].get("epoch", -1))
    if not holder:
        return result
    seers = [planner, *(node for node in awake if node != planner)]
    seen = follow(ask, seers, name, "off", wait_s, plan.get("ends"))
    last, still_s = seen["holder"] or holder, seen["still_s"]
    result.node, result.done, result.epoch = last, True, seen["lease"].get("epoch", -1)
    if seen["outcome"] == "off":
        result.text = f"{name} is stopped; it ran on {last}{_ended(seen)}"
    elif seen["outcome"] == "expired":
        result.text = (
            f"{name} is stopped: {last} has not given its lease back, but nobody has renewed that for {still_s:g} s, so"
            f" that the VM is dead there, and no node starts it; see to {last}: mnha.status"
        )
    elif seen["outcome"] == "overruled":
        result.ok = result.done = False
        result.text = _overruled(name, seen)
    else:
        told = seen["told"]
        said = f"; its record says {told['state']}, VM {told.get('vm')}" if told.get("state") else ""
        result.ok = result.done = False
        result.text = f"desired of {name} is stopped, but {last} still has the lease after {wait_s:g} s{said}"
    return result


def _overruled(name: str, seen: Mapping[str, Any]) -> str:
    """That somebody else has wished for the contrary."""
    run, by = seen["desired"]["run"], seen["desired"].get("by") or "somebody"
    return f"another wish came after this one: desired of {name} is {run}, by {by}"


def _ended(seen: Mapping[str, Any]) -> str:
    """How a VM ended that is off, as far as the history tells."""
    killed, ended = seen.get("killed"), seen.get("ended")
    if ended:
        return f": {ended}" + (f" ({killed})" if killed else "")
    return f", and was killed there: {killed}" if killed else ""


def follow(
    ask: Ask, nodes: Sequence[str], vm: str, wanted: str, wait_s: float, ends: Sequence[Any] | None = None
) -> dict[str, Any]:
    """What becomes of the VM, as the first of `nodes` that can tell sees it in Consul; see `mnvm.follow`.

    :param ends: how it had ended before the wish; None: that is not known.
    :raises UnreachableError: none of them can.
    """
    end_s, failures = time.monotonic() + wait_s, []
    for node in nodes:
        left_s = max(1.0, end_s - time.monotonic())
        try:
            asked = {"vm": vm, "wanted": wanted, "wait_s": left_s} | ({} if ends is None else {"ends": ends})
            said = ask.one(node, "mnvm.follow", asked, left_s + SLACK_S)
            return value_of(said)
        except (UnreachableError, DeadlineError, FailedError) as error:
            failures.append(error.message)
    raise UnreachableError(
        f"the desired state of {vm} is written, and the guards obey it; what came of it nobody could say"
        f" ({'; '.join(failures)}): see mnha.status"
    )


def desire(
    ask: AskHeard, nodes: Sequence[str], run: str, vm: str | None, by: str
) -> tuple[str, dict[str, Any], list[str]]:
    """Write the desired state through a node that has a quorum, the first to say so; if it is silent then, through the
    next one. That node, its plan for the VM, and the nodes whose minions answered.

    :raises UnreachableError: no node answers, or none has a quorum, or whether it is written is not known.
    """
    able, awake = with_quorum(ask, nodes, "started or stopped")
    wish = {"run": run, "vm": vm, "by": f"mnha by {by}"}
    silent: dict[str, str] = {}
    for node in dict.fromkeys([*able, *awake, *nodes]):
        try:
            plan = value_of(ask.one(node, "mnvm.set_desired", wish, timeout_s=ASK_S))
        except (UnreachableError, DeadlineError) as error:
            silent[node] = error.message
        else:
            return node, plan, [one for one in awake if one not in silent]
    raise UnreachableError(
        f"{'; '.join(silent.values())}: that the VM is to be {run} was asked for; whether it is written is not known,"
        " see mnha.status"
    )


def with_quorum(ask: AskHeard, nodes: Sequence[str], what: str) -> tuple[list[str], list[str]]:
    """The nodes that have a quorum of Consul, the first to say so first, and all whose minions answered.

    :param what: what can't be done without one, for the message.
    :raises UnreachableError: no node answers, or none has a quorum.
    """
    replies = ask.heard(nodes, "consul_ha.quorum", timeout_s=ASK_S, good=lambda reply: reply.value is True)
    able = [node for node, reply in replies.items() if reply.value is True]
    if not able:
        asked = "; ".join(
            f"{node} finds no quorum of Consul" if reply.ok else f"{node}: {reply.said}"
            for node, reply in replies.items()
        )
        raise UnreachableError(f"{asked}: nothing can be {what}; see mnha.status")
    return able, list(replies)
