"""The steps of a planned move, as a master takes them: a live migration, its abort, and a node's maintenance. Pure but
for `ask`, which reaches the minions.

What they keep: nothing is ordered from a node that does not hold the lease by the newest record, and no node is chosen
that a failover would not choose either (:mod:`mnha.core.choose`). Whatever is ordered, the guards and the lease decide.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .. import keys
from ..errors import DeadlineError, FailedError, InputError, MnhaError, UnreachableError
from . import fitness, offline
from .failover import PLAN_S, AskHeard, value_of
from .following import holder_of
from .minions import Reply, Watch
from .result import Result
from .wishes import follow, with_quorum

MOVE_WAIT_S = 600.0
"""How long a migration may take before it is given up: 32 GiB at 1 Gbit/s take five minutes."""
SLACK_S = 35.0
"""On top of that: its abortion, and Salt's way."""
RESUME_WAIT_S = 10.0
"""How long the target may take to renew the lease that it was handed, and to resume the VM."""
POLL_S = 0.3
JUST_S = 60.0
"""Who aborts a migration that is over for no longer than that may have meant that one."""
PING_S = 1.5
"""So long a holder that was not among the first to answer is asked once more whether its minion is there."""


class AskAny(AskHeard, Protocol):
    """Asks also any of several minions; see :class:`mnha.master.minions.Minions`."""

    def first(
        self, nodes: Sequence[str], fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 5.0
    ) -> Reply:
        """The first good answer of any of `nodes`."""

    def watched(
        self, node: str, fun: str, kwarg: Mapping[str, Any] | None, timeout_s: float, watch: Watch | None
    ) -> Reply:
        """The answer of one node, with a look now and then at how far it is."""


class Show(Protocol):
    """Shows how far a migration is; see :class:`mnha.master.progress.Migration`."""

    def begin(self, source: str, target: str) -> None:
        """It begins."""

    def show(self, told: Any) -> None:
        """It goes on: what `guard.migration` returns."""

    def end(self, *, arrived: bool) -> None:
        """It has ended."""


@dataclass(frozen=True)
class How:
    """How a VM is to be moved.

    :param wait_s: how long it may take.
    :param offline: shut it down, and start it there.
    :param test: only tell what would be done.
    :param show: shows how far it is; None: nobody looks.
    """

    wait_s: float = MOVE_WAIT_S
    offline: bool = False
    test: bool = False
    show: Show | None = None


LIVE = How()


def migrate(ask: AskAny, nodes: Sequence[str], vm: str | None, target: str, by: str, how: How = LIVE) -> Result:
    """Move a VM to `target`; without one, to the best node.

    :param nodes: the cluster's.
    :param by: who wants it, for the record.
    :raises InputError: there is no such node.
    """
    if target and target not in nodes:
        raise InputError(f"{target} is no node of the cluster; its nodes are {', '.join(nodes)}")
    able, heard = with_quorum(ask, nodes, "migrated")
    planned = ask.first(able, "mnvm.plan", {"vm": vm, "alone": True}, timeout_s=PLAN_S)
    planner, plan = planned.node, value_of(planned)
    name, holder = plan["vm"], holder_of(plan["lease"])
    rejected = {node: why for node, why in plan["rejected"].items() if node != holder}
    if not plan["lease"]:
        return Result(False, f"{name} has no lease in Consul: nothing can be migrated; mnha.status tells the remedy")
    if not holder:
        return Result(False, f"{name} runs on no node: nothing can be migrated; `salt-run mnha.start` starts it")
    if target == holder:
        text = f"Requested operation is not valid: domain '{name}' is already active: it runs on {holder}"
        return Result(False, text, node=holder)
    if target and target not in plan["order"]:
        why = rejected.get(target, "is no candidate")
        return Result(False, f"{name} stays on {holder}: {target} {why}{_instead(plan)}", node=holder,
                      rejected=rejected)  # fmt: skip
    if holder not in heard and (why := _silence(ask, holder, plan)):
        return Result(False, f"{name} stays on {holder}: {why}", node=holder)
    if how.offline and target and target not in heard:
        text = f"{name} stays on {holder}: the minion of {target} is silent, and the start is ordered through it"
        return Result(False, f"{text}; run `systemctl start salt-minion` there", node=holder)
    awake = [node for node in plan["order"] if node in heard]
    candidates = [target] if target else awake if how.offline else plan["order"]
    chosen, unfit = _fit(ask, name, holder, candidates, heard, how)
    if not chosen:
        rejected = unfit if target else rejected | unfit
        others = "; ".join(f"{node} {why}" for node, why in rejected.items())
        stays = f"{name} stays on {holder}: " if target else f"{name} stays on {holder}, no other node can take it: "
        return Result(False, f"{stays}{others}", node=holder, rejected=rejected)
    if how.test:
        way = "shut down, and started there" if how.offline else "migrated, live"
        return Result(True, f"{name} would be moved from {holder} to {chosen}: {way}", vm=name, node=holder)
    seers = [planner, *(node for node in heard if node != planner)]
    if how.offline:
        silent = [node for node in nodes if node not in heard]
        result = offline.move(ask, planner, name, holder, chosen, by, how.wait_s, silent)
        _record(ask, seers, "moved" if result.ok else "move failed", result.text, vm=name, took_s=result.took_s)
        return result
    return _order(ask, seers, name, holder, chosen, by, how)


def _fit(
    ask: AskAny, vm: str, holder: str, candidates: Sequence[str], heard: Sequence[str], how: How
) -> tuple[str, dict[str, str]]:
    """The first of `candidates` that has nothing against it, or whose minion can't say; empty: none. And what those
    before it have against it.
    """
    unfit: dict[str, str] = {}
    for node in candidates:
        why = fitness.objection(ask, vm, holder, node, live=not how.offline) if node in heard else ""
        if not why:
            return node, unfit
        unfit[node] = why
    return "", unfit


def _instead(plan: Mapping[str, Any]) -> str:
    """Which nodes could have it instead of one that can't."""
    return f"; {', '.join(plan['order'])} could have it" if plan["order"] else ""


def abort(ask: AskAny, nodes: Sequence[str], vm: str | None, *, test: bool = False) -> Result:
    """Abort a live migration: the VM goes on where it is.

    :param test: only tell what would be aborted.
    :raises FailedError: there is none, or it can't be aborted any more; with what the guard of its source says.
    :raises UnreachableError: nobody could be asked.
    """
    able, heard = with_quorum(ask, nodes, "aborted")
    plan = value_of(ask.first(able, "mnvm.plan", {"vm": vm}, timeout_s=PLAN_S))
    name, holder = plan["vm"], holder_of(plan["lease"])
    if not holder:
        return Result(False, f"{name} runs on no node: there is no migration to abort")
    if holder not in heard and (why := _silence(ask, holder, plan)):
        return Result(False, f"a migration of {name} can't be aborted on {holder}: {why}", node=holder)
    if test:
        found = value_of(ask.one(holder, "guard.migration", {"vm": name}, timeout_s=SLACK_S))["migration"]
        if not found or found["outcome"]:
            return Result(False, f"no migration of {name} away from {holder} is under way", node=holder, vm=name)
        text = f"the migration of {name} to {found['target']}, {found['percent']} % of it sent, would be aborted"
        return Result(True, text, node=holder, vm=name)
    try:
        told = value_of(ask.one(holder, "guard.migrate_abort", {"vm": name}, timeout_s=SLACK_S))
    except FailedError as error:
        others = [node for node in heard if node != holder]
        raise FailedError(f"{error.message}{_just_left(ask, others, name, holder)}") from None
    return Result(True, str(told.get("message", "")), done=True, node=holder, vm=name)


def _just_left(ask: AskAny, nodes: Sequence[str], vm: str, holder: str) -> str:
    """Which of `nodes` has handed the VM over to its holder a moment ago, so that whoever wants to abort that comes too
    late; empty: none.
    """
    for node in nodes:
        try:
            last = value_of(ask.one(node, "guard.migration", {"vm": vm}, timeout_s=PLAN_S)).get("migration") or {}
        except MnhaError:
            continue
        ago_s = last.get("ended_s_ago")
        if (last.get("outcome"), last.get("target")) == ("done", holder) and ago_s is not None and ago_s < JUST_S:
            return f"; {node} has handed it over {ago_s:.0f} s ago: `salt-run mnha.migrate {node}` brings it back"
    return ""


def _silence(ask: AskAny, holder: str, plan: Mapping[str, Any]) -> str:
    """Why nothing can be ordered from the holder, whose minion has not answered; empty if it does now."""
    try:
        ask.one(holder, "test.ping", timeout_s=PING_S)
    except (UnreachableError, DeadlineError):
        if holder in plan["alive"]:
            return (
                "its minion is silent, and a migration is ordered through it; run `systemctl start salt-minion` there."
                " mnha.stop and mnha.start work without it"
            )
        return "the node is down, by Consul's word; a node that dies is failed over from, not migrated from"
    return ""


def _order(
    ask: AskAny, heard: Sequence[str], vm: str, holder: str, target: str, by: str, how: How
) -> Result:  # fmt: skip
    """Order the migration from the holder's guard; record what came of it.

    :param heard: nodes whose minions answer, one that reaches Consul first.
    """
    why, began_s = "", time.monotonic()
    order = {"target": target, "vm": vm, "wait_s": how.wait_s, "reason": f"migrated to {target} by {by}"}
    watch = Watch("guard.migration", {"vm": vm}, how.show.show) if how.show else None
    if how.show:
        how.show.begin(holder, target)
    try:
        answer = value_of(ask.watched(holder, "guard.migrate", order, how.wait_s + SLACK_S, watch))
    except (FailedError, UnreachableError, DeadlineError) as error:
        # Its answer may be lost, and the VM over there all the same: the lease knows.
        why, answer = error.message, _lease(ask, heard, vm)
    is_there = answer.get("holder", target) == target
    if how.show:
        how.show.end(arrived=is_there)
    if not is_there:
        now = answer.get("holder") or ""
        where = f"; {now} has its lease now, epoch {answer.get('epoch')}" if now not in ("", holder) else ""
        text = f"{vm} was not migrated from {holder} to {target}{where}: {why}"
        result = Result(False, text, node=now or holder)
    else:
        result = Result(True, "", done=True, node=target, vm=vm, epoch=answer.get("epoch", -1),
                        timeline=dict(answer.get("timeline") or {}))  # fmt: skip
        wrong, said = _not_running(ask, heard, vm, target)
        result.took_s = round(time.monotonic() - began_s, 2)
        result.downtime_s = downtime_s(answer.get("migration"), said, result.took_s)
        still = f"; its guest stood still for {result.downtime_s:.2f} s" if result.downtime_s is not None else ""
        result.text = (
            f"{vm} was migrated from {holder} to {target}, epoch {answer.get('epoch')}, in {result.took_s:.1f} s{still}"
        )
        if wrong:
            result.ok, result.text = False, f"the lease of {vm} went from {holder} to {target}, but there {wrong}"
    told = {"took_s": result.took_s, "downtime_s": result.downtime_s, "figures": answer.get("migration")}
    _record(ask, heard, "migrated" if result.ok else "migration failed", result.text, vm=vm, **told)
    return result


def downtime_s(figures: Mapping[str, Any] | None, said: Mapping[str, Any], took_s: float) -> float | None:
    """How long the guest stood still: from its stop at the source to its resume at the target, each by its node's wall
    clock. Where these do not agree with what libvirt measured, or with all the time that it took, by libvirt's figure:
    the least that it can have been. None: nobody says.

    :param figures: of the migration, by its source.
    :param said: the target's status of the VM.
    """
    least_ms, stopped_at = (figures or {}).get("downtime_ms"), (figures or {}).get("stopped_at")
    least_s = least_ms / 1000 if isinstance(least_ms, int) else 0.0
    resumed_at = said.get("resumed_at")
    if isinstance(stopped_at, int | float) and isinstance(resumed_at, int | float):
        by_clocks_s = resumed_at - stopped_at
        if least_s <= by_clocks_s <= took_s:
            return round(by_clocks_s, 3)
    return round(least_s, 3) if isinstance(least_ms, int) else None


def _lease(ask: AskAny, nodes: Sequence[str], vm: str) -> dict[str, Any]:
    """A VM's lease as the first of `nodes` that answers reads it; held by nobody if none does."""
    try:
        return dict(value_of(ask.first(nodes, "mnvm.plan", {"vm": vm}, timeout_s=PLAN_S))["lease"])
    except (FailedError, UnreachableError, DeadlineError):
        return {"holder": ""}


def _not_running(ask: AskAny, heard: Sequence[str], vm: str, target: str) -> tuple[str, dict[str, Any]]:
    """What the target's guard says of a VM that it was handed and that does not go on there; empty when it does; with
    its status. One that had to be started anew was not migrated: what the guest had in memory is lost. Consul tells
    where the target's minion is silent.
    """
    if target not in heard:
        return _not_running_by_consul(ask, heard, vm, target), {}
    end_s = time.monotonic() + RESUME_WAIT_S
    while True:
        try:
            said = value_of(ask.one(target, "guard.status", timeout_s=PLAN_S))["vms"][vm]
            if said["vm"] == "running":
                return ("the VM was started anew, from its disk" if said.get("came_by") == "start" else ""), said
            wrong = f"the VM is {said['vm']}: {said['sentence']}"
        except FailedError:  # as where the minion's modules are lost
            return _not_running_by_consul(ask, [node for node in heard if node != target], vm, target), {}
        except (UnreachableError, DeadlineError) as error:
            wrong = f"nobody could be asked: {error.message}"
        if time.monotonic() > end_s:
            return wrong, {}
        time.sleep(POLL_S)


def _not_running_by_consul(ask: AskAny, heard: Sequence[str], vm: str, target: str) -> str:
    """The same, by what the target's guard writes into Consul."""
    try:
        seen = follow(ask, heard, vm, "running", RESUME_WAIT_S)
    except UnreachableError as error:
        return f"nobody could be asked: {error.message}"
    if seen["outcome"] == "running" and seen["holder"] == target:
        return "the VM was started anew, from its disk" if seen["told"].get("came_by") == "start" else ""
    return f"the VM does not run by its record: {seen['told'].get('state', 'nothing is recorded')}"


def maintenance(
    ask: AskAny, nodes: Sequence[str], node: str, state: str | bool, by: str, reason: str = "", force: bool = False,
    how: How = LIVE,
) -> Result:  # fmt: skip
    """Enter it or leave it.

    :param state: `on` or `off`; YAML, and so Salt's command line, makes true and false of these words.
    :raises InputError: it is neither, or there is no such node.
    """
    if state in (True, "on"):
        return enter_maintenance(ask, nodes, node, by, reason, force, how)
    if state in (False, "off"):
        return leave_maintenance(ask, nodes, node, by, how)
    raise InputError(f"the maintenance of {node} is on or off, not {state!r}")


def enter_maintenance(
    ask: AskAny, nodes: Sequence[str], node: str, by: str, reason: str = "", force: bool = False,
    how: How = LIVE,
) -> Result:  # fmt: skip
    """Migrate away what `node` holds, then mark it: from then on it is no candidate. Where each VM goes is decided in
    one go, before the first one leaves.

    :param force: mark it even if something could not be migrated, which then goes on there.
    """
    planner, leases = _leases(ask, nodes, node)
    held = [vm for vm, lease in leases.items() if lease.get("phase") != "released" and lease.get("holder") == node]
    places = _places(ask, planner, held)
    stays = "; ".join(f"{vm} would find no place" for vm, target in places.items() if not target)
    if stays and len(held) > 1 and not force:
        return Result(False, f"{node} is not in maintenance, and nothing was moved (force=True moves what can be): "
                      f"{stays} if all of its VMs left: {', '.join(held)}", node=node)  # fmt: skip
    why = f"{by}, for the maintenance of {node}"
    if len(held) == 1:  # to the best node that says of itself that it can have it
        places = dict.fromkeys(places, "")
    moves = [migrate(ask, nodes, vm, places.get(vm, ""), why, how) for vm in dict.fromkeys([*places, *held])]
    left = "; ".join(move.text for move in moves if not move.ok)
    if left and not force:
        return Result(False, f"{node} is not in maintenance (force=True marks it all the same): {left}", node=node)
    record = {"by": by, "at": time.time(), "reason": reason}
    value_of_any(ask.one(planner, "consul_ha.kv_put", {"key": keys.maintenance(node), "value": record}))
    text = f"{node} is in maintenance: it is no candidate any more"
    _record(ask, [planner], "maintenance on", text, reason=reason, by=by)
    texts = [text, *(move.text for move in moves)]
    return Result(True, "; ".join(texts), done=True, node=node, warnings=_without_candidate(ask, planner, leases))


def _places(ask: AskAny, planner: str, held: Sequence[str]) -> dict[str, str]:
    """Where each VM is to go when its node is left by all of them: the placed ones first, "" where there is no place.
    What needs none, for it is being stopped, is not among them.
    """
    if not held:
        return {}
    plan = value_of(ask.one(planner, "mnvm.plan", {"vm": held[0]}, timeout_s=PLAN_S))
    return {vm: target for vm, target in plan["together"].items() if vm in held}


def _without_candidate(ask: AskAny, planner: str, vms: Iterable[str]) -> list[str]:
    """A warning for each VM that no node could take over now."""
    warnings = []
    for vm in vms:
        try:
            plan = value_of(ask.one(planner, "mnvm.plan", {"vm": vm}, timeout_s=PLAN_S))
        except (FailedError, UnreachableError, DeadlineError) as error:
            warnings.append(f"{vm}: whether a candidate is left is not known: {error.message}")
            continue
        if not plan["order"]:
            warnings.append(f"{vm}: no candidate is left: if its node fails, no other takes it over")
    return warnings


def leave_maintenance(ask: AskAny, nodes: Sequence[str], node: str, by: str, how: How = LIVE) -> Result:
    """Take the mark from `node`. A VM comes back only if its `prefer` names this node before the one that it is on."""
    planner, leases = _leases(ask, nodes, node)
    if value_of_any(ask.one(planner, "consul_ha.kv_get", {"key": keys.maintenance(node)})) is None:
        return Result(True, f"{node} was not in maintenance", node=node)
    value_of_any(ask.one(planner, "consul_ha.kv_delete", {"key": keys.maintenance(node)}))
    text = f"{node} is a candidate again"
    _record(ask, [planner], "maintenance off", text, by=by)
    texts = [text]
    for vm, lease in leases.items():
        plan = value_of(ask.one(planner, "mnvm.plan", {"vm": vm}, timeout_s=PLAN_S))
        if lease.get("phase") != "released" and is_preferred(plan.get("prefer") or (), node, lease.get("holder") or ""):
            texts.append(migrate(ask, nodes, vm, node, f"{by}, for {node} is preferred", how).text)
    return Result(True, "; ".join(texts), done=True, node=node)


def is_preferred(prefer: Sequence[str], node: str, holder: str) -> bool:
    """Whether `prefer` names `node` before `holder`, the node that has the VM."""
    if not holder or node not in prefer or node == holder:
        return False
    return holder not in prefer or prefer.index(node) < prefer.index(holder)


def value_of_any(reply: Reply) -> Any:
    """The value of a good answer, of whatever kind.

    :raises FailedError: the function failed; with what it said.
    """
    if not reply.ok:
        raise FailedError(f"{reply.node}: {reply.said}")
    return reply.value


def _leases(ask: AskAny, nodes: Sequence[str], node: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """A node that reaches Consul, and the lease of each VM as it reads them.

    :raises InputError: there is no node `node`.
    """
    if node not in nodes:
        raise InputError(f"{node!r} is no node of the cluster; its nodes are {', '.join(nodes)}")
    able, _ = with_quorum(ask, nodes, "marked")
    reply = ask.first(able, "consul_ha.kv_list", {"prefix": keys.VMS}, timeout_s=PLAN_S)
    found = {vm: value for key, value in reply.value.items() if value and (vm := keys.vm_of_lease(key))}
    return reply.node, found


def _record(ask: AskAny, nodes: Sequence[str], event: str, text: str, **data: Any) -> None:
    """Write it into the history through a node that answers; a record that can't be written is no failure."""
    for node in nodes:
        try:
            if ask.one(node, "mnvm.record", {"event": event, "text": text, **data}, timeout_s=PLAN_S).ok:
                return
        except MnhaError:
            continue
