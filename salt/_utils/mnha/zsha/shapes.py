"""What `zsha` prints, in the old suite's shapes. Pure.

Everything is computed from what :func:`mnha.master.report.status` has put together: a VM is said to run where that says
so, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..master.checks import of_status

HEAD = ">>>"


def status(found: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    """The sections of `zsha status`, line by line.

    :param found: of :func:`mnha.master.report.status`.
    :param cluster: the configuration in force, as a mapping; empty: it is not known.
    """
    address = _addresses(cluster)
    for name, vm in found["vms"].items():
        title = "MN-VM" if len(found["vms"]) == 1 else f"MN-VM {name}"
        yield f"{HEAD}{title} Running On"
        yield _runs(vm, address)
        yield f"{HEAD}Last {title} Start Record"
        start = vm.get("last_start") or {}
        yield f"{start.get('at')} {address(start.get('node'))} {start.get('node')}" if start else "none"
    yield f"{HEAD}ZStack HA Services Running On"
    yield from [f"{address(node)} {node}" for node, row in found["nodes"].items() if _serves(row)] or ["none"]
    yield f"{HEAD}Consul Members"
    yield from _table(("Node", "Address", "Status"), [(n, address(n), s) for n, s in found["members"].items()])
    for name, vm in found["vms"].items():
        networks = ((cluster.get("vms") or {}).get(name) or {}).get("networks") or ()
        on = str(vm["on"])
        yield f"{HEAD}Management Node IP"
        yield from _guest(networks, on, management=True)
        yield f"{HEAD}Public Network IP"
        yield from _guest(networks, on, management=False)
    yield f"{HEAD}Checking Host I/O"
    yield from _storage(found["nodes"], address)
    yield "done."


def warnings(found: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong, as far as it can be known without asking the other nodes' minions."""
    for text in found["warnings"]:
        if "minion silent" not in text and "no minion answers" not in text:
            yield f"! {text}"


def configuration(files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The section that `zsha status-conf` has besides."""
    yield f"{HEAD}Configuration"
    for one in files.values():
        yield from json.dumps(one, indent=4).splitlines()


def history(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What happened, an event a line, the newest last; of one that repeats itself its last time, and how often."""
    for one in events:
        at = f"{one.get('last') or one.get('at') or '-'}"
        times = f" ({one['count']} times since {one.get('at')})" if one.get("count", 1) > 1 else ""
        where = " ".join(str(one[key]) for key in ("node", "vm") if one.get(key))
        yield f"{at} {where or '-'}: {one.get('event')}: {one.get('text', '')}{times}"


def code(found: Mapping[str, Any]) -> int:
    """The exit code: 0: each VM is as desired; 1: one is not; 2: that is not known, or there is no quorum."""
    if not found["quorum"] or not found["vms"] or any(vm["state"] == "unknown" for vm in found["vms"].values()):
        return 2
    wanted = {"started": "running", "stopped": "off"}
    return int(any(vm["state"] != wanted.get(str((vm["desired"] or {}).get("run"))) for vm in found["vms"].values()))


def _runs(vm: Mapping[str, Any], address: Any) -> str:
    if vm["state"] == "running":
        return f"{address(vm['on'])} : running"
    if vm["state"] == "off" and not vm["on"]:
        return f"none : {'stopped' if (vm['desired'] or {}).get('run') == 'stopped' else 'not running'}"
    where = address(vm["on"]) if vm["on"] else "unknown"
    return f"{where} : {vm['state']}: it {vm['where']}"


def _guest(networks: Sequence[Mapping[str, Any]], node: str, *, management: bool) -> Iterator[str]:
    """The guest's addresses in its networks, at the node that has it."""
    found = [one.get("address") for one in networks if bool(one.get("management")) is management and one.get("address")]
    lines = [
        str(one.get(node) or ", ".join(f"{value}@{name}" for name, value in one.items()))
        if isinstance(one, Mapping)
        else str(one)
        for one in found
    ]
    yield from lines or ["none"]


def _storage(nodes: Mapping[str, Any], address: Any) -> Iterator[str]:
    """What each node's guard says of its way to the images, those in Ceph included: now of this one, by its record of
    the others.
    """
    for node, row in nodes.items():
        record = row["record"] or {}
        told = row["checks"] or of_status({**record, "vms": (record.get("guard") or {}).get("vms")})
        if not _serves(row) or "storage" not in told:
            yield f"{address(node)} {node}: not known"
            continue
        failing = {name: one.get("why") for name, one in told.items() if not one.get("ok")}
        wrong = [str(failing["storage"])] if "storage" in failing else []
        wrong += [f"{name.removesuffix('image')}{why}" for name, why in failing.items() if name.endswith(": image")]
        yield f"{address(node)} {node}: {'; '.join(wrong) or 'ok'}{'' if row['checks'] else ' (by its record)'}"


def _serves(row: Mapping[str, Any]) -> bool:
    """Whether its guard answers, if it is this one; of the others, whether Consul sees them: only records are known."""
    return row["contact"] == "guard" or (row["consul"] == "alive" and not row["answers"])


def _addresses(cluster: Mapping[str, Any]) -> Any:
    """Node -> its management address; its name where that is not known."""
    nodes = cluster.get("nodes") or {}
    return lambda node: (nodes.get(node) or {}).get("management") or str(node)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
