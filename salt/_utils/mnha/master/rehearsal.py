"""What a verb would do, for `test=True`: by the same records that it would decide by, and nothing is written.

Each returns what a verb returns (`result`, `comment`, …). `result` is False where the verb would fail by what is known
now; what the guards will say when they are asked in earnest can't be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import keys
from ..errors import InputError
from .failover import value_of
from .following import holder_of
from .migration import AskAny, is_preferred
from .wishes import with_quorum

ASK_S = 8.0


def start(ask: AskAny, nodes: Sequence[str], vm: str | None) -> dict[str, Any]:
    """What `mnha.start` would do.

    :raises UnreachableError: no node answers, or none has a quorum.
    """
    plan = _plan(ask, nodes, vm, "started")
    name, holder = plan["vm"], holder_of(plan["lease"])
    text = f"desired of {name} would be started (it is {plan['desired'] or 'not known'})"
    if holder:
        return _told(
            True, f"{text}; {holder} has its lease, and would run it on", {**plan, "rejected": {}}, node=holder
        )
    if not plan["order"]:
        return _told(False, f"{text}, but {plan['sentence']}", plan)
    return _told(True, f"{text}, and {plan['order'][0]} would take it", plan, node=plan["order"][0])


def stop(ask: AskAny, nodes: Sequence[str], vm: str | None) -> dict[str, Any]:
    """What `mnha.stop` would do; errors as of :func:`start`."""
    plan = _plan(ask, nodes, vm, "stopped")
    name, holder = plan["vm"], holder_of(plan["lease"])
    after = f"{holder} would shut it down" if holder else "no node has its lease, so it is off"
    text = f"desired of {name} would be stopped (it is {plan['desired'] or 'not known'}); {after}"
    return _told(True, text, {**plan, "rejected": {}})


def maintenance(ask: AskAny, nodes: Sequence[str], node: str, state: str | bool) -> dict[str, Any]:
    """What `mnha.maintenance` would do; errors as of :func:`start`.

    :raises InputError: there is no such node, or the state is neither `on` nor `off`.
    """
    if node not in nodes:
        raise InputError(f"{node!r} is no node of the cluster; its nodes are {', '.join(nodes)}")
    if state not in (True, False, "on", "off"):
        raise InputError(f"the maintenance of {node} is on or off, not {state!r}")
    planner = with_quorum(ask, nodes, "marked")[0][0]
    found = ask.first([planner], "consul_ha.kv_list", {"prefix": keys.VMS}, timeout_s=ASK_S).value
    holders = {vm: holder_of(value) for key, value in found.items() if value and (vm := keys.vm_of_lease(key))}
    if state in (True, "on"):
        return _enter(ask, planner, node, [vm for vm, holder in holders.items() if holder == node])
    moves = []
    for vm, holder in holders.items():
        plan = value_of(ask.one(planner, "mnvm.plan", {"vm": vm}, timeout_s=ASK_S))
        if is_preferred(plan.get("prefer") or (), node, holder):
            moves.append(f"{vm} would be migrated back from {holder}")
    text = "; ".join([f"{node} would be a candidate again", *(moves or ["every VM would stay where it is"])])
    return {"result": True, "comment": text, "node": node}


def _enter(ask: AskAny, planner: str, node: str, held: Sequence[str]) -> dict[str, Any]:
    """What would become of the VMs that a node holds when it went into maintenance."""
    places: dict[str, str] = {}
    if held:
        plan = value_of(ask.one(planner, "mnvm.plan", {"vm": held[0]}, timeout_s=ASK_S))
        places = {vm: plan["together"].get(vm, "") for vm in held}
    moves = [f"{vm} would be migrated to {to}" if to else f"{vm} would find no place" for vm, to in places.items()]
    text = "; ".join([f"{node} would be in maintenance", *(moves or ["it has no VM"])])
    return {"result": all(places.values()), "comment": text, "node": node}


def adopt_share(status: Mapping[str, Any], node: str) -> dict[str, Any]:
    """What `mnha.adopt_share` would do.

    :param status: of the node's guard.
    """
    for name, vm in status["vms"].items():
        lease = vm["lease"] or {}
        if (holder := holder_of(lease)) and holder != node and not lease.get("expired"):
            return {"result": False, "comment": f"{name} is held by {holder}: its share is the cluster's", "node": node}
    storage = (status.get("checks") or {}).get("storage") or {}
    said = f"; its guard says of it now: {storage['why']}" if storage.get("why") else ""
    return {"result": True, "comment": f"what {node} has mounted would be the cluster's share{said}", "node": node}


def accept_disk(status: Mapping[str, Any], vm: str | None) -> dict[str, Any]:
    """What `mnha.accept_disk` would do.

    :param status: of any node's guard that sees Consul.
    :raises InputError: there is no such VM, or none is named though there are several.
    """
    vms = status["vms"]
    if (name := vm or (next(iter(vms)) if len(vms) == 1 else "")) not in vms:
        raise InputError(f"there is no VM {name!r}; name one of {', '.join(vms)}")
    lease = vms[name]["lease"] or {}
    if vms[name]["vm"] != "off" or (holder_of(lease) and not lease.get("expired")):
        return {"result": False, "comment": f"{name} may be running: it has to be off", "vm": name}
    return {"result": True, "comment": f"{name} would be started from its image again", "vm": name}


def reset_password(user: str, vm: str, node: str, is_allowed: bool) -> dict[str, Any]:
    """What `mnha.reset_password` would do to a VM on `node`.

    :param is_allowed: whether the configuration in force lets it.
    """
    if not is_allowed:
        text = f"no password is reset in {vm}: set mnha:cluster:vms:{vm}:allow_reset_root_password to true, and apply"
        return {"result": False, "comment": text, "vm": vm, "node": node}
    text = f"the agent in {vm} on {node} would set a new password of {user}"
    return {"result": True, "comment": text, "vm": vm, "node": node}


def _plan(ask: AskAny, nodes: Sequence[str], vm: str | None, what: str) -> dict[str, Any]:
    """The plan for a VM, of a node that has a quorum."""
    able, _ = with_quorum(ask, nodes, what)
    return value_of(ask.first(able, "mnvm.plan", {"vm": vm}, timeout_s=ASK_S))


def _told(well: bool, text: str, plan: Mapping[str, Any], node: str = "") -> dict[str, Any]:
    return {"result": well, "comment": text, "vm": plan["vm"], "node": node, "rejected": plan["rejected"]}
