"""What `mnha.status` tells, summed up from the nodes' reports (`mnvm.report`). Pure.

What a node says of itself comes from its own report, what Consul holds from the first node that could ask it. A
node that did not answer is shown by what the others know of it, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import keys
from .minions import Reply

PATIENCE_S = 0.6
"""So long at least is a node waited for after the last answer."""
RENEWED_S = 3.0
"""A node that has renewed a lease within this time lives: three renewals with the default timings."""


def heard_enough(replies: Mapping[str, Reply], waited_s: float) -> bool:
    """Whether nobody is worth waiting for any more: every node that Consul sees alive has answered; or the rest
    has been silent for as long again as the answers took, for a node that has just lost its power is seen alive
    for some seconds.

    :param replies: at least one.
    :param waited_s: since the question.
    """
    last_s = max(reply.after_s for reply in replies.values())
    if _all_living(replies):
        return True
    return waited_s - last_s >= max(PATIENCE_S, last_s) and not _is_holder_missing(replies, waited_s)


def _all_living(replies: Mapping[str, Reply]) -> bool:
    """Whether every node that Consul sees alive has answered."""
    for reply in replies.values():
        members = reply.value.get("members") if reply.ok and isinstance(reply.value, dict) else None
        if members:
            return {row["node"] for row in members if row["status"] == "alive"} <= set(replies)
    return False


def _is_holder_missing(replies: Mapping[str, Reply], waited_s: float) -> bool:
    """Whether a node has not answered that has renewed a lease lately, by the word of a guard that has."""
    for reply in replies.values():
        guard = (reply.value.get("guard") if reply.ok and isinstance(reply.value, dict) else None) or {}
        leases = [vm["lease"] for vm in (guard.get("vms") or {}).values() if vm.get("lease")]
        silent = [lease for lease in leases if lease["holder"] and lease["holder"] not in replies]
        if any(lease["age_s"] + waited_s - reply.after_s < RENEWED_S for lease in silent):
            return True
    return False


def status(nodes: Sequence[str], replies: Mapping[str, Reply], now_s: float, waited_s: float) -> dict[str, Any]:
    """Sum up the nodes' reports. The cluster's own data come from the first that has a quorum of Consul, else from
    any that could ask a server: then they may be old, and the status is no success.

    :param now_s: the wall clock, for the reader.
    :param waited_s: how long the silent nodes were waited for.
    """
    reports: dict[str, Any] = {
        node: reply.value if reply.ok and isinstance(reply.value, dict) else {"errors": {"report": str(reply.value)}}
        for node, reply in replies.items()
    }
    views = [one for one in reports.values() if one.get("vms") is not None]
    view: Mapping[str, Any] = next((one for one in views if "consul" not in one["errors"]), views[0] if views else {})
    seen: Sequence[Mapping[str, Any]] = next(
        (one["members"] for one in (view, *reports.values()) if one.get("members")), []
    )
    members = {row["node"]: row["status"] for row in seen}
    rows = {
        node: {
            "answers": node in reports,
            "silent_s": None if node in reports else round(waited_s, 1),
            "consul": members.get(node, "unknown"),
            "maintenance": (view.get("maintenance") or {}).get(keys.maintenance(node)),
            "record": (view.get("nodes") or {}).get(keys.node(node)),
            **{key: reports.get(node, {}).get(key) for key in ("guard", "errors")},
        }
        for node in nodes
    }
    vms = _vms(view, reports)
    warnings = _warnings(view, rows, vms)
    running = [f"{name} {_whereabouts(vm, rows)}" for name, vm in vms.items()]
    fresh = bool(view) and "consul" not in view["errors"]
    doubt = ["no quorum of Consul is in reach"] if view and not fresh else []
    return {"result": fresh, "comment": "; ".join([*(running or ["no guard answers"]), *doubt]), "vms": vms,
            "nodes": rows, "members": members, "warnings": warnings, "at": now_s}  # fmt: skip


def _vms(view: Mapping[str, Any], reports: Mapping[str, Any]) -> dict[str, Any]:
    """Each VM: wish, lease, last start, and what the guards say."""
    guards = {node: ((report.get("guard") or {}).get("vms") or {}) for node, report in reports.items()}
    names = sorted(
        {key.split("/")[1] for key in view.get("vms") or {}} | {vm for found in guards.values() for vm in found}
    )
    result = {}
    for name in names:
        said = {node: found[name] for node, found in guards.items() if name in found}
        part = {
            key: (view.get("vms") or {}).get(f"{keys.vm(name)}/{key}") for key in ("lease", "desired", "last_start")
        }
        ages = [vm["lease"]["age_s"] for vm in said.values() if vm.get("lease")]
        result[name] = {
            **part,
            "running_on": next((node for node, vm in said.items() if vm.get("vm") in ("running", "paused")), None),
            "lease_age_s": min(ages) if ages else None,
            "states": {node: {key: vm.get(key) for key in ("state", "sentence", "vm")} for node, vm in said.items()},
        }
    return result


def _whereabouts(vm: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Where a VM runs, as a predicate; of one whose holder is silent nobody knows it."""
    if vm["running_on"]:
        return f"runs on {vm['running_on']}"
    holder = (vm["lease"] or {}).get("holder")
    if holder and not rows.get(holder, {"answers": True})["answers"]:
        return f"is held by {holder}, which does not answer"
    return "is not running"


def _warnings(view: Mapping[str, Any], rows: Mapping[str, Any], vms: Mapping[str, Any]) -> list[str]:
    """What an operator should know or do."""
    told = []
    for node, row in rows.items():
        told += [f"{node}: {text}" for text in (row["errors"] or {}).values()]
        checks = ((row["guard"] or {}).get("checks")) or ((row["record"] or {}).get("checks")) or {}
        told += [f"{node}: {name}: {check.get('why')}" for name, check in checks.items() if not check.get("ok")]
        if not row["answers"] and row["consul"] == "alive":
            told.append(f"{node}: no answer within {row['silent_s']:g} s, but Consul sees it: is salt-minion running?")
    applied = (view.get("applied") or {}).get("cluster")
    if view and applied is None:
        told.append("no configuration has been applied yet: state.apply")
    elif view and applied != view.get("config"):
        told.append("the pillar differs from the applied configuration: state.apply puts it in force")
    for name, vm in vms.items():
        if (vm["desired"] or {}).get("run") == "started" and not vm["running_on"]:
            told.append(f"{name} is wished started and {_whereabouts(vm, rows)}")
    return list(dict.fromkeys(told))
