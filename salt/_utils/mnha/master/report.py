"""What `mnha.status` tells, summed up from Consul's records and the nodes' reports (`mnvm.report`). Pure.

Consul's word comes first: who holds the lease, and what each node has recorded of itself. Guards add to it. A node that
is silent is shown as silent: what nobody could say is never told as a fact. What is known of a node is old as soon as
its guard is not heard: its checks are not shown then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import keys
from ..core import choose
from . import checks
from .minions import Reply

HEALTHY, DEGRADED, UNKNOWN = 0, 1, 2
WORDS = {HEALTHY: "healthy", DEGRADED: "degraded", UNKNOWN: "unknown"}
"""What the exit codes of `mnha.status` mean."""
GUARD_SILENT = "guard silent"
NOT_LOADED = "is not available"
SILENCES = {
    "down": "which is down",
    "minion silent": "whose minion is silent",
    GUARD_SILENT: "whose guard is silent",
    "guard": "whose guard does not know its VM",
}
"""By a node's `contact`: why it says nothing of a VM."""
SILENCE_S = 2.0
"""If not a single minion has answered by then, none is waited for."""

PATIENCE_S = 0.6
"""So long at least is a node waited for after the last answer."""
RENEWED_S = 3.0
"""A node that has renewed a lease within this time lives: three renewals with the default timings."""


def heard_enough(replies: Mapping[str, Reply], waited_s: float) -> bool:
    """Whether nobody is worth waiting for any more: every node that Consul sees alive has answered; or the rest
    has been silent for as long again as the answers took, for a node that has just lost its power is seen alive
    for some seconds.

    :param waited_s: since the question.
    """
    if not replies:
        return waited_s >= SILENCE_S
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


def status(
    nodes: Sequence[str], replies: Mapping[str, Reply], now_s: float, waited_s: float,
    records: Mapping[str, Any] | None = None, renewed_s: Mapping[str, float] | None = None, why_silent: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Sum it up. The cluster's own data are Consul's `records` if this machine could read them, else those of the first
    report with a quorum, else of any that could ask a server: then they may be old.

    :param now_s: the wall clock, for the reader.
    :param waited_s: how long the silent nodes were waited for.
    :param records: as `mnha.master.view.view_of` makes them, with `errors`; None if this machine can't read them.
    :param renewed_s: VM -> how long ago, at the most, this machine saw its lease change in Consul.
    :param why_silent: why no minion could be asked at all.
    """
    reports: dict[str, Any] = {
        node: reply.value if reply.ok and isinstance(reply.value, dict) else {"errors": {"report": _unreported(reply)}}
        for node, reply in replies.items()
    }
    views = [one for one in (records or {}, *reports.values()) if one.get("vms") is not None]
    view: Mapping[str, Any] = next((one for one in views if "consul" not in one["errors"]), views[0] if views else {})
    seen: Sequence[Mapping[str, Any]] = next(
        (one["members"] for one in (view, *reports.values()) if one.get("members")), []
    )
    members = {row["node"]: row["status"] for row in seen}
    rows = {node: _row(node, view, reports, members, waited_s) for node in nodes}
    found: dict[str, Any] = {
        "quorum": bool(view) and "consul" not in view["errors"],
        "known": bool(view),
        "vms": {},
        "nodes": rows,
        "members": members,
        "minions": len(reports),
        "why_silent": why_silent,
        "at": now_s,
    }
    found["vms"] = _vms(view, found, renewed_s or {})
    code, reasons = health(found)
    doubt = "" if found["quorum"] else _no_quorum(found)
    told = [*(f"{name} {vm['where']}" for name, vm in found["vms"].items()), *([doubt] if doubt else [])]
    return {"result": code != UNKNOWN, "code": code, "health": WORDS[code], "comment": "; ".join(told or reasons[:1]),
            "warnings": [*reasons, *_notes(view, records, reports)], **found}  # fmt: skip


def _unreported(reply: Reply) -> str:
    """What a minion says that has no report. Salt has no word for a module that it could not load but this."""
    text = str(reply.value)
    return f"{text} Salt there can't load this project's modules: apply its states" if NOT_LOADED in text else text


def health(found: Mapping[str, Any]) -> tuple[int, list[str]]:
    """How the cluster is, as the exit code of `mnha.status`, and why it is no better.

    :data:`UNKNOWN`: Consul has no quorum or could not be asked, or nobody could say whether a VM runs.
    :data:`DEGRADED`: a VM is not as desired, or something is missing that the next fault will need: a node, a
    candidate, a check. :data:`HEALTHY`: neither, and no reason.

    :param found: as :func:`status` puts it together.
    """
    doubts = [] if found["quorum"] else [_no_quorum(found)]
    doubts += [f"{name} {vm['where']}" for name, vm in found["vms"].items() if vm["state"] == "unknown"]
    faults = [text for name, vm in found["vms"].items() for text in _vm_faults(name, vm)]
    if found["quorum"] and not found["vms"]:
        faults.append("no VM has a lease yet: `state.apply states.guard` creates it")
    if not found["minions"]:
        faults.append(_nobody_heard(found))
    faults += [text for node, row in found["nodes"].items() for text in _node_faults(node, row, found)]
    return UNKNOWN if doubts else DEGRADED if faults else HEALTHY, list(dict.fromkeys([*doubts, *faults]))


# ---- nodes


def _row(
    node: str, view: Mapping[str, Any], reports: Mapping[str, Any], members: Mapping[str, str], waited_s: float
) -> dict[str, Any]:
    """What is known of a node. `contact`: who of it was heard, or what its silence means. `checks`: those of a guard
    that is heard, else None: the `record` may be an old one.
    """
    report, consul = reports.get(node), members.get(node, "unknown")
    if report is not None:
        contact = "guard" if report.get("guard") else GUARD_SILENT
    else:
        contact = {"alive": "minion silent", "unknown": "silent"}.get(consul, "down")
    return {
        "contact": contact,
        "answers": report is not None,
        "silent_s": None if report is not None else round(waited_s, 1),
        "consul": consul,
        "maintenance": (view.get("maintenance") or {}).get(keys.maintenance(node)),
        "record": (view.get("nodes") or {}).get(keys.node(node)),
        "checks": checks.of_status(report["guard"]) if contact == "guard" and report else None,
        **{key: (report or {}).get(key) for key in ("guard", "errors")},
    }


def _node_faults(node: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is wrong with a node."""
    texts = [f"{node}: {text}" for text in (row["errors"] or {}).values()]
    texts += [f"{node}: {name}: {one.get('why')}" for name, one in (row["checks"] or {}).items() if not one.get("ok")]
    texts += [f"{node}: guard: {name}: {why}" for name, why in ((row["guard"] or {}).get("faults") or {}).items()]
    if row["contact"] == "down":
        texts.append(f"{node}: down: Consul says {row['consul']}")
    elif row["answers"] and row["consul"] not in ("alive", "unknown"):
        texts.append(f"{node}: Consul says {row['consul']}, but its minion answers: is consul running there?")
    elif row["contact"] == "minion silent" and found["minions"]:
        texts.append(f"{node}: minion silent, but Consul sees the node alive: is salt-minion running there?")
    elif row["contact"] == "silent" and found["minions"]:
        texts.append(f"{node}: silent, and Consul does not say whether it is alive")
    return texts


def _nobody_heard(found: Mapping[str, Any]) -> str:
    """What it means that not a single minion has answered."""
    why = found["why_silent"] or "no minion answers this master: the way between them is broken, or all are down"
    if found["known"]:
        return f"{why}; this is what Consul holds. VM and guards do not depend on it, failover through Salt does"
    return f"{why}. VM and guards do not depend on it; on a node, `salt-run mnha.status` reads Consul itself"


def _no_quorum(found: Mapping[str, Any]) -> str:
    return "no quorum of Consul is in reach" if found["known"] else "nobody could ask Consul"


# ---- VMs


def _vms(view: Mapping[str, Any], found: Mapping[str, Any], renewed_s: Mapping[str, float]) -> dict[str, Any]:
    """Each VM: desired state, lease, last start, where it runs, who could take it over, and what the guards say."""
    rows = found["nodes"]
    guards = {node: ((row["guard"] or {}).get("vms") or {}) for node, row in rows.items()}
    names = sorted({key.split("/")[1] for key in view.get("vms") or {}} | {vm for one in guards.values() for vm in one})
    result = {}
    for name in names:
        said = {node: one[name] for node, one in guards.items() if name in one}
        vm = {
            key: (view.get("vms") or {}).get(f"{keys.vm(name)}/{key}")
            for key in (keys.LEASE, keys.DESIRED, keys.LAST_START)
        }
        vm |= _lease_seen(said, renewed_s.get(name))
        vm |= _location(name, vm, said, found)
        vm["where"] = _where(vm, rows)
        vm["hung"] = next((one["health"].get("why") or "no answer" for one in said.values()
                           if (one.get("health") or {}).get("hung")), "")  # fmt: skip
        vm["states"] = {node: {key: one.get(key) for key in ("state", "sentence", "vm")} for node, one in said.items()}
        result[name] = {**vm, **_choice(name, vm, view, found)}
    return result


def _lease_seen(said: Mapping[str, Any], renewed_s: float | None) -> dict[str, Any]:
    """How old the lease's last renewal is by who saw it last, and whether it is overdue or has expired by that."""
    seen = [vm["lease"] for vm in said.values() if vm.get("lease")]
    last: Mapping[str, Any] = min(seen, key=lambda lease: lease["age_s"], default={})
    if renewed_s is not None and renewed_s < last.get("age_s", float("inf")):
        last = {"age_s": renewed_s}
    return {
        "lease_age_s": last.get("age_s"),
        "overdue": bool(last.get("overdue")),
        "expired": bool(last.get("expired")),
    }


def _holder(vm: Mapping[str, Any]) -> str:
    lease = vm["lease"] or {}
    return "" if lease.get("phase") == "released" else str(lease.get("holder") or "")


def _location(name: str, vm: Mapping[str, Any], said: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Whether and where it runs: `state` (running, paused, starting, off, lost, unknown), `on` (that node; of the last
    three who holds the lease), `by` (guard, record or lease), `running_on`.

    The record of a silent node counts as long as its lease is seen renewed: nobody but its guard does that.
    """
    state, node, by = "unknown", _holder(vm), "lease"
    for wanted in (("running",), ("paused",), ("starting", "arriving")):
        if on := next((one for one, its in said.items() if its.get("vm") in wanted), None):
            return {"state": wanted[0], "on": on, "by": "guard", "running_on": on if wanted[0] != "starting" else None}
    if node in said:
        state, by = ("unknown" if said[node].get("vm") == "unknown" else "off"), "guard"
    elif node:
        row = found["nodes"].get(node) or {}
        recorded = (((row.get("record") or {}).get("guard") or {}).get("vms") or {}).get(name) or {}
        renewed = vm["lease_age_s"] is not None and not vm["overdue"]
        if found["quorum"] and renewed and recorded.get("vm") in ("running", "paused"):
            return {"state": recorded["vm"], "on": node, "by": "record", "running_on": node}
        if vm["expired"] or (row.get("contact") == "down" and not renewed):
            state = "lost"
    elif (vm["lease"] and found["quorum"]) or set(said) == set(found["nodes"]):
        state = "off"
    return {"state": state, "on": node, "by": by, "running_on": None}


def _where(vm: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Where a VM runs, as a predicate."""
    node, state = vm["on"], vm["state"]
    if state in ("running", "paused", "starting"):
        text = {"running": f"runs on {node}", "paused": f"is paused on {node}", "starting": f"is starting on {node}"}
        return text[state] + (" by its record, and its lease is being renewed" if vm["by"] == "record" else "")
    if state == "off":
        if node:
            return f"is not running: it is off on {node}, which holds the lease"
        return "is stopped" if (vm["desired"] or {}).get("run") == "stopped" else "is not running"
    if not node:
        return "may be running or not: nobody could say"
    contact = (rows.get(node) or {}).get("contact", "silent")
    silence = SILENCES.get(contact, "which is silent")
    held = f"is held by {node}, {silence}"
    if state == "lost":
        return f"{held}; the lease has expired" if vm["expired"] else held
    return held if contact == "guard" else f"{held}: whether it runs is not known"


def _choice(name: str, vm: Mapping[str, Any], view: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Which nodes could take it over, best first, and why the others could not; None where nobody can say. A silent
    guard takes nothing, whatever its record says.
    """
    if not found["quorum"]:
        return {"candidates": None, "rejected": {}}
    conf = ((((view.get("applied") or {}).get("cluster") or {}).get("vms")) or {}).get(name) or {}
    nodes = [
        choose.Node(node, row["record"], None if row["consul"] == "unknown" else row["consul"] == "alive",
                    row["maintenance"]) for node, row in found["nodes"].items()
    ]  # fmt: skip
    needs = choose.Needs(name, int(conf.get("memory_mib") or 0), int(conf.get("cpus") or 0))
    choice = choose.choose(nodes, needs, conf.get("prefer") or (), _holder(vm))
    silent = [node for node in choice.order if found["nodes"][node]["contact"] == GUARD_SILENT]
    return {
        "candidates": [node for node in choice.order if node not in silent],
        "rejected": {**choice.rejected, **dict.fromkeys(silent, "its guard is silent")},
    }


def _vm_faults(name: str, vm: Mapping[str, Any]) -> list[str]:
    """Why a VM is not as it should be, or would not survive the loss of its node."""
    texts, run, holder = [], (vm["desired"] or {}).get("run"), _holder(vm)
    is_up = vm["state"] in ("running", "paused", "starting")
    if vm["state"] == "paused" or (run == "started" and vm["state"] != "running") or (run == "stopped" and is_up):
        texts.append(f"{name} {vm['where']}; desired: {run or 'not known'}")
    if vm["hung"]:
        texts.append(f"{name}: the guest does not answer: {vm['hung']}")
    if holder and (vm["overdue"] or vm["expired"]):
        texts.append(f"{name}: the lease is overdue: {holder} renewed it {vm['lease_age_s']:.1f} s ago")
    if vm["candidates"] == []:
        why = "; ".join(f"{node} {text}" for node, text in vm["rejected"].items() if node != holder)
        texts.append(f"{name}: no candidate is left to take it over: {why or 'there is no other node'}")
    return texts


def _notes(view: Mapping[str, Any], records: Mapping[str, Any] | None, reports: Mapping[str, Any]) -> list[str]:
    """What an operator should know and that is no fault."""
    applied = (view.get("applied") or {}).get("cluster")
    if view and applied is None:
        return ["no configuration has been applied yet: state.apply"]
    pillar = next((one["config"] for one in (view, *reports.values()) if one.get("config")), None)
    if applied is not None and pillar is not None and applied != pillar:
        return ["the pillar differs from the applied configuration: state.apply puts it in force"]
    return []
