"""What `mnha.status` tells, summed up from Consul's records and the nodes' reports (`mnvm.report`). Pure.

Consul's word comes first: who holds the lease, and what each node has recorded of itself. Guards add to it. A node that
is silent is shown as silent: what nobody could say is never told as a fact. What is known of a node is old as soon as
its guard is not heard: its checks are not shown then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import keys
from ..consul.voters import Margin
from ..core import choose, placement
from . import certificates, checks, missing, paused, placing, quorum, unreadable
from .replies import Reply

Compare = Callable[[Any, Mapping[str, Any]], list[str]]
"""Of Consul's record of what was applied last, and of each node's own: what an operator should know of it."""

HEALTHY, DEGRADED, UNKNOWN = 0, 1, 2
WORDS = {HEALTHY: "healthy", DEGRADED: "degraded", UNKNOWN: "unknown"}
"""What the exit codes of `mnha.status` mean."""
GUARD_SILENT = "guard silent"
NOT_ASKED = "not asked"
"""Consul sees the node alive, and nobody here can ask its minion."""
NO_REPORT = "no report"
SILENCES = {
    "down": "which is down",
    "minion silent": "whose minion is silent",
    GUARD_SILENT: "whose guard is silent",
    NO_REPORT: "whose minion can't tell",
    NOT_ASKED: "which can't be asked from here",
    "guard": "whose guard does not know its VM",
}
"""By a node's `contact`: why it says nothing of a VM."""
LOST = "mnha_service.lost"
"""What a minion is asked that answers and can't report: it is in a module that needs nothing."""
SILENCE_S = 2.0
"""If not a single minion has answered by then, none is waited for."""

PATIENCE_S = 0.6
"""So long at least is a node waited for after the last answer."""
RENEWED_S = 3.0
"""A node that has renewed a lease within this time lives: three renewals with the default timings."""


def heard_enough(replies: Mapping[str, Reply], waited_s: float) -> bool:
    """Whether nobody is worth waiting for any more: every node has answered; or the rest has been silent for as long
    again as the answers took. Consul's word does not shorten that: it sees a node failed whose server alone has ended,
    and one alive that has just lost its power.

    :param waited_s: since the question.
    """
    if not replies:
        return waited_s >= SILENCE_S
    last_s = max(reply.after_s for reply in replies.values())
    if _is_everybody(replies):
        return True
    return waited_s - last_s >= max(PATIENCE_S, last_s) and not _is_holder_missing(replies, waited_s)


def without_report(replies: Mapping[str, Reply]) -> list[str]:
    """The nodes whose minions answer, but can't report."""
    return [node for node, reply in replies.items() if not (reply.ok and isinstance(reply.value, dict))]


def explained(replies: Mapping[str, Reply], lost: Mapping[str, Reply]) -> dict[str, Reply]:
    """The answers, those that are none told by what the minion has lost.

    :param lost: what those minions said to :data:`LOST`.
    """
    told = {node: _why_no_report(node, reply) for node, reply in lost.items()}
    return {node: replace(one, value=told.get(node) or one.value) for node, one in replies.items()}


def _why_no_report(node: str, reply: Reply) -> str:
    if isinstance(reply.value, list):
        return "; ".join(map(str, reply.value))
    return f"its minion has none of this project's modules: `salt {node} state.apply` brings them"


def _is_everybody(replies: Mapping[str, Reply]) -> bool:
    """Whether every node that Consul knows has answered."""
    for reply in replies.values():
        members = reply.value.get("members") if reply.ok and isinstance(reply.value, dict) else None
        if members:
            return {row["node"] for row in members} <= set(replies)
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
    compare: Compare = lambda recorded, given: [], own: str = "", *, asks: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Sum it up. The cluster's own data are Consul's `records` if this machine could read them, else those of the first
    report with a quorum, else of any that could ask a server: then they may be old.

    :param now_s: the wall clock, for the reader.
    :param waited_s: how long the silent nodes were waited for.
    :param records: as `mnha.master.view.view_of` makes them, with `errors`; None if this machine can't read them.
    :param renewed_s: VM -> how long ago, at the most, this machine saw its lease change in Consul.
    :param why_silent: why no minion could be asked at all.
    :param compare: what this master wants with what is in force.
    :param own: the node that this master is, if it is one.
    :param asks: whether the other nodes' minions were asked at all.
    """
    reports: dict[str, Any] = {
        node: reply.value if reply.ok and isinstance(reply.value, dict) else {"errors": {"report": str(reply.value)}}
        for node, reply in replies.items()
    }
    views = [one for one in (records or {}, *reports.values()) if one.get("vms") is not None]
    views.sort(key=lambda one: ("consul" in one["errors"], not one.get("servers")))
    view: Mapping[str, Any] = views[0] if views else {}
    seen: Sequence[Mapping[str, Any]] = next(
        (one["members"] for one in (view, *reports.values()) if one.get("members")), []
    )
    members = {row["node"]: row["status"] for row in seen}
    alive = "minion silent" if asks and not why_silent else NOT_ASKED
    rows = {node: _row(node, view, reports, members, waited_s, alive) for node in nodes}
    found: dict[str, Any] = {
        "quorum": _is_quorum_in_reach(view, [one for one in views if one is not records] or views, len(nodes)),
        "known": bool(view),
        "unreadable": view.get("unreadable") or {},
        "vms": {},
        "nodes": rows,
        "members": members,
        "consul": Margin.of(view["servers"], len(nodes)).to_dict() if view.get("servers") else None,
        "minions": len(reports),
        "why_silent": why_silent,
        "own": own,
        "applied": view.get("applied"),
        "at": now_s,
    }
    found["vms"] = _vms(view, found, renewed_s or {})
    code, reasons = health(found)
    doubt = "" if found["quorum"] else _no_quorum(found)
    told = [*(f"{name} {vm['where']}" for name, vm in found["vms"].items()), *([doubt] if doubt else [])]
    return {"result": code != UNKNOWN, "code": code, "health": WORDS[code], "comment": "; ".join(told or reasons[:1]),
            "warnings": [*reasons, *_told(rows), *_ending(found), *_notes(view, reports, compare)],
            **found}  # fmt: skip


def _is_quorum_in_reach(best: Mapping[str, Any], voices: Sequence[Mapping[str, Any]], servers: int) -> bool:
    """Whether Consul has one, by the best view. A server goes on to name the leader that it has just lost: where
    another one knows none, it is believed only if that leader has told of its servers, or if most servers name one.

    :param voices: what each node says of it, once.
    :param servers: how many there should be.
    """
    if not best or "consul" in best["errors"]:
        return False
    well = sum("consul" not in one["errors"] for one in voices)
    return bool(best.get("servers")) or well == len(voices) or 2 * well > servers


START_CONSUL = (
    "more than half of its servers have to run, in reach of each other: `systemctl start consul` on their nodes"
)


def health(found: Mapping[str, Any]) -> tuple[int, list[str]]:
    """How the cluster is, as the exit code of `mnha.status`, and why it is no better.

    :data:`UNKNOWN`: Consul has no quorum or could not be asked, or nobody could say whether a VM runs.
    :data:`DEGRADED`: a VM is not as desired, or something is missing that the next fault will need: a node, a
    candidate, a check. :data:`HEALTHY`: neither, and no reason.

    :param found: as :func:`status` puts it together.
    """
    remedy = f": {START_CONSUL}" if found["known"] else ""
    doubts = [] if found["quorum"] else [f"{_no_quorum(found)}{remedy}"]
    margin = quorum.told(found["consul"]) if found["quorum"] and found["consul"] else ""
    doubts += [f"{name} {vm['where']}" for name, vm in found["vms"].items() if vm["state"] == "unknown"]
    faults = [
        text for name, vm in found["vms"].items() for text in (*_vm_faults(name, vm), *_stranded(name, vm, found))
    ]
    if found["quorum"] and not found["vms"]:
        faults.append("no VM has a lease yet: `state.apply states.guard` creates it")
    faults += [margin] if margin else []
    if not found["minions"]:
        faults.append(_nobody_heard(found))
    faults += _of_nodes({node: _node_faults(row, found) for node, row in found["nodes"].items()})
    faults += unreadable.told(found["unreadable"])
    return UNKNOWN if doubts else DEGRADED if faults else HEALTHY, list(dict.fromkeys([*doubts, *faults]))


# ---- nodes


def _row(
    node: str,
    view: Mapping[str, Any],
    reports: Mapping[str, Any],
    members: Mapping[str, str],
    waited_s: float,
    alive: str,
) -> dict[str, Any]:
    """What is known of a node. `contact`: who of it was heard, or what its silence means. `checks`: those of a guard
    that is heard, else None: the `record` may be an old one.

    :param alive: what the silence of a node means that Consul sees alive.
    """
    report, consul = reports.get(node), members.get(node, "unknown")
    if report is not None:
        contact = "guard" if report.get("guard") else GUARD_SILENT if "node" in report else NO_REPORT
    else:
        contact = {"alive": alive, "unknown": "silent"}.get(consul, "down")
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


def _node_faults(row: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What is wrong with a node."""
    texts = list((row["errors"] or {}).values())
    texts += [f"{name}: {one.get('why')}" for name, one in (row["checks"] or {}).items() if not one.get("ok")]
    if row["guard"]:
        texts += [word.text for word in certificates.told(row["guard"], found["at"]) if word.is_fault]
    texts += [f"guard: {name}: {why}" for name, why in ((row["guard"] or {}).get("faults") or {}).items()]
    if row["contact"] == "down":
        texts.append(f"down: Consul says {row['consul']}")
    elif row["answers"] and row["consul"] not in ("alive", "unknown"):
        texts.append(f"Consul says {row['consul']}, but it answers: is consul running there?")
    elif row["contact"] == "minion silent" and found["minions"]:
        texts.append(f"minion silent, but Consul sees the node alive: {_why_silent(row, found)}")
    elif row["contact"] == "silent" and found["minions"]:
        texts.append("silent, and Consul does not say whether it is alive")
    return texts


def _why_silent(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Why a node's minion does not answer, and what else is wrong there, by the last word of its guard, which lives
    without it; a question where that does not tell the first.
    """
    if _has_lost_management(own := found["own"], found):
        return f"this master, {own}, has lost its management network, over which minions are asked"
    record = row["record"] or {}

    def failing(*kinds: str) -> list[str]:
        told = [one for kind in kinds for one in (record.get(kind) or {}).values() if not one.get("ok")]
        return [f"its guard's record says: {one.get('why')}" for one in told]

    why = failing("salt_checks", "network_checks") or ["is salt-minion running there?"]
    return "; ".join([*why, *failing("checks")])


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
    configured = ((view.get("applied") or {}).get("cluster") or {}).get("vms") or {}
    recorded = {key.split("/")[1] for key in view.get("vms") or {}}
    names = sorted({*configured, *recorded, *(vm for one in guards.values() for vm in one)})
    result = {}
    for name in names:
        said = {node: one[name] for node, one in guards.items() if name in one}
        vm = {
            key: (view.get("vms") or {}).get(f"{keys.vm(name)}/{key}")
            for key in (keys.LEASE, keys.DESIRED, keys.LAST_START)
        }
        vm["missing"] = missing.told(name, vm, found["quorum"], unreadable.of_vm(name, found["unreadable"]))
        vm |= _lease_seen(said, renewed_s.get(name))
        vm |= _location(name, vm, said, found)
        vm["paused"] = said[vm["on"]].get("paused") if vm["on"] in said else None
        vm["where"] = _where(vm, rows)
        vm["hung"] = next((one["health"].get("why") or "no answer" for one in said.values()
                           if (one.get("health") or {}).get("hung")), "")  # fmt: skip
        vm["absent"] = next((one["health"].get("silent_s") for one in said.values()
                             if (one.get("health") or {}).get("absent")), 0.0)  # fmt: skip
        vm["guest"] = next((one["guest"]["why"] for one in said.values() if (one.get("guest") or {}).get("why")), "")
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

    The record of a silent node counts as long as its lease is seen renewed: nobody but its guard does that. Not of one
    that Consul sees failed: what a dead holder had sent may be committed seconds later, by the next leader.
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
        is_seen = row.get("contact") != "down"
        if found["quorum"] and renewed and is_seen and recorded.get("vm") in ("running", "paused"):
            return {"state": recorded["vm"], "on": node, "by": "record", "running_on": node}
        if vm["expired"] or (row.get("contact") == "down" and not renewed):
            state = "lost"
    elif (vm["lease"] and found["quorum"]) or _all_say_off(said, found):
        state = "off"
    return {"state": state, "on": node, "by": by, "running_on": None}


def _all_say_off(said: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Whether the guard of each node says that the VM is off there."""
    return set(said) == set(found["nodes"]) and all(one.get("vm") == "off" for one in said.values())


def _where(vm: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Where a VM runs, as a predicate."""
    node, state = vm["on"], vm["state"]
    if state in ("running", "paused", "starting"):
        text = {"running": f"runs on {node}", "paused": f"is paused on {node}", "starting": f"is starting on {node}"}
        why = f": {paused.why(vm)}" if paused.why(vm) else ""
        return text[state] + (" by its record, and its lease is being renewed" if vm["by"] == "record" else why)
    if state == "off":
        if node:
            return f"is not running: it is off on {node}, which holds the lease"
        if (vm["desired"] or {}).get("run") == "stopped":
            return "is stopped"
        wait = missing.waits(vm["lease"])
        return f"is not running: {wait}" if wait else "is not running"
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
    if missing.has_no_lease(vm, found["quorum"]):
        return {"candidates": [], "rejected": dict.fromkeys(found["nodes"], missing.NO_LEASE)}
    conf = (view.get("applied") or {}).get("cluster") or {}
    nodes = [
        choose.Node(node, row["record"], None if row["consul"] == "unknown" else row["consul"] == "alive",
                    row["maintenance"]) for node, row in found["nodes"].items()
    ]  # fmt: skip
    choice = placement.place(placing.cluster_of(conf, view.get("vms") or {}, nodes, also=name), name)
    silent = [node for node in choice.order if found["nodes"][node]["contact"] == GUARD_SILENT]
    return {
        "candidates": [node for node in choice.order if node not in silent],
        "rejected": {**choice.rejected, **dict.fromkeys(silent, "its guard is silent")},
    }


def _vm_faults(name: str, vm: Mapping[str, Any]) -> list[str]:
    """Why a VM is not as it should be, or would not survive the loss of its node."""
    texts, run, holder = [vm["missing"]] if vm["missing"] else [], (vm["desired"] or {}).get("run"), _holder(vm)
    is_up = vm["state"] in ("running", "paused", "starting")
    is_away = vm["state"] not in ("running", "unknown")  # the latter is told as a doubt
    if vm["state"] == "paused" or (run == "started" and is_away) or (run == "stopped" and is_up):
        more = f"; {remedy}" if (remedy := paused.remedy(name, vm["on"] or "", vm)) else ""
        texts.append(f"{name} {vm['where']}; desired: {run or 'not known'}{more}")
    if vm["hung"]:
        texts.append(f"{name}: the guest does not answer: {vm['hung']}")
    if vm["absent"]:
        texts.append(f"{name}: the guest runs and has not answered for {vm['absent']:.0f} s: is its agent there?")
    if vm["guest"]:
        texts.append(f"{name}: guest: {vm['guest']}")
    if holder and (vm["overdue"] or vm["expired"]):
        texts.append(f"{name}: the lease is overdue: {holder} renewed it {vm['lease_age_s']:.1f} s ago")
    if vm["candidates"] == [] and vm["lease"]:
        why = "; ".join(f"{node} {text}" for node, text in vm["rejected"].items() if node != holder)
        texts.append(f"{name}: no candidate is left to take it over: {why or 'there is no other node'}")
    return texts


def _has_lost_management(node: str, found: Mapping[str, Any]) -> bool:
    """Whether a node's guard says so: now, or in its record."""
    row = found["nodes"].get(node) or {}
    told = row.get("checks") or (row.get("record") or {}).get("network_checks") or {}
    return (told.get(choose.MANAGEMENT) or {}).get("ok") is False


def _stranded(name: str, vm: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """That a VM stays where nobody can manage it, for no other node is better."""
    if vm["state"] != "running" or not _has_lost_management(vm["on"], found):
        return []
    better = [node for node in vm["candidates"] or () if node != vm["on"] and not _has_lost_management(node, found)]
    if better:
        return []
    return [
        f"{name}: it stays on {vm['on']}, which has lost its management network: no node that could take it has that"
    ]


def _told(rows: Mapping[str, Any]) -> list[str]:
    """What checks say that are well all the same."""
    texts = {
        node: [
            f"{name}: {one['why']}" for name, one in (row["checks"] or {}).items() if one.get("ok") and one.get("why")
        ]
        for node, row in rows.items()
    }
    return _of_nodes(texts)


def _ending(found: Mapping[str, Any]) -> list[str]:
    """Certificates that end soon, and have not yet."""
    guards = {node: row["guard"] for node, row in found["nodes"].items() if row["guard"]}
    words = {node: certificates.told(guard, found["at"]) for node, guard in guards.items()}
    return _of_nodes({node: [word.text for word in told if not word.is_fault] for node, told in words.items()})


def _of_nodes(texts: Mapping[str, Iterable[str]]) -> list[str]:
    """What is said of nodes, each text once, with all that it is said of."""
    nodes: dict[str, list[str]] = {}
    for node, said in texts.items():
        for text in dict.fromkeys(said):
            nodes.setdefault(text, []).append(node)
    return [f"{', '.join(of)}: {text}" for text, of in nodes.items()]


def _notes(view: Mapping[str, Any], reports: Mapping[str, Any], compare: Compare) -> list[str]:
    """What an operator should know and that is no fault."""
    if not view:
        return []
    if keys.CONFIG in (view.get("unreadable") or {}):
        return []
    if (view.get("applied") or {}).get("cluster") is None:
        return ["no configuration has been applied yet: state.apply"]
    given = {node: one["config"] for node, one in reports.items() if one.get("config")}
    broken_off = [f"{node}: {one['unapplied']}" for node, one in reports.items() if one.get("unapplied")]
    return [*compare(view["applied"], given), *broken_off]
