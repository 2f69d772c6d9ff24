"""Shows what the verbs of `salt-run mnha` return: first the sentence, then tables. `--out=json` shows the data
instead.

The data are `{CLUSTER: {"result": …, "comment": …, …}}`. Everything shown is computed from them; nothing is
asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__virtualname__ = "mnha"


def __virtual__():
    return __virtualname__


def output(data: Any, **kwargs: Any) -> str:
    """The text for the terminal.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.status
    """
    if not isinstance(data, Mapping):
        return str(data)
    return (
        "\n".join(line for name, part in data.items() if name != "retcode" for line in _cluster(str(name), part)) + "\n"
    )


def _cluster(name: str, part: Any) -> Iterable[str]:
    if not isinstance(part, Mapping):
        yield f"{name}: {part}"
        return
    mark = f"{part['health'].upper()}: " if "health" in part else "" if part.get("result", True) else "FAILED: "
    yield f"{name}: {mark}{part.get('comment', '')}"
    for key, show in _PARTS.items():
        if part.get(key):
            yield from show(part[key])
    if part.get("timeline") or part.get("steps_s"):
        yield from _timeline(part)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Rows in columns as wide as their longest cell."""
    lines = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]


def _vms(vms: Mapping[str, Any]) -> Iterable[str]:
    yield ""
    for name, vm in vms.items():
        start, run = vm.get("last_start") or {}, (vm.get("desired") or {}).get("run", "not known")
        yield f"VM {name}: desired {run}; it {vm.get('where') or 'may be running or not: nobody could say'}"
        yield f"  lease        {_lease(vm)}"
        if sentence := (vm.get("states") or {}).get(vm.get("on"), {}).get("sentence"):
            yield f"  guard        {vm['on']}: {sentence}"
        if vm.get("candidates") is not None:
            yield f"  candidates   {', '.join(vm['candidates']) or 'none'}"
        if start:
            yield f"  last start   {start.get('at', '?')} on {start.get('node', '?')}, epoch {start.get('epoch', '?')}"


def _lease(vm: Mapping[str, Any]) -> str:
    """Who holds it, and when it was renewed last."""
    lease, age_s = vm.get("lease"), vm.get("lease_age_s")
    if not lease:
        return (
            "missing: Consul holds no such record that can be read"
            if vm.get("missing")
            else "not known: nobody could ask Consul"
        )
    if lease.get("phase") == "released":
        return f"free: nobody holds the lease, epoch {lease.get('epoch', '?')}"
    if not lease.get("holder"):
        return f"held by nobody, epoch {lease.get('epoch', '?')}: nobody has taken it since it was created"
    moves = f", migrating to {lease.get('target')}" if lease.get("phase") == "migrating" else ""
    age = f", renewed {age_s:.1f} s ago" if age_s is not None else ", its last renewal was seen by nobody"
    return f"held by {lease.get('holder')}, epoch {lease.get('epoch', '?')}{moves}{age}"


def _nodes(nodes: Mapping[str, Any]) -> Iterable[str]:
    yield ""
    rows = []
    for name, row in nodes.items():
        guard = row.get("guard") or {}
        states = "; ".join(f"{vm}: {one.get('state')}" for vm, one in (guard.get("vms") or {}).items())
        contact = row.get("contact", "")
        answer = contact if contact != "guard" else states or "no VM"
        rows.append(
            (
                name,
                answer,
                row.get("consul", "unknown"),
                _checks(row.get("checks")),
                "no" if row.get("maintenance") is None else "yes",
            )
        )
    yield from table(("NODE", "GUARD", "CONSUL", "CHECKS", "MAINTENANCE"), rows)


def _checks(checks: Mapping[str, Any] | None) -> str:
    """Those that fail, if any; `-` if nobody was heard to tell of them."""
    if not checks:
        return "-"
    return ", ".join(f"{key}!" for key, check in checks.items() if not check.get("ok")) or "ok"


def _consul(margin: Mapping[str, Any]) -> Iterable[str]:
    well, may_fail = len(margin["well"]), max(0, margin["may_fail"])
    yield f"  Consul: {well} of {margin['servers']} servers vote and are well; {may_fail} may fail"


def _warnings(warnings: Sequence[str]) -> Iterable[str]:
    yield ""
    yield from (f"  ! {text}" for text in warnings)


def _history(events: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield ""
    rows = [
        [
            event.get("last") or event.get("at", ""),
            *("" if event.get(key) is None else event[key] for key in ("node", "vm", "epoch", "event")),
            event.get("text", "") + _times(event),
        ]
        for event in events
    ]
    yield from table(("AT", "NODE", "VM", "EPOCH", "EVENT", "WHAT"), rows)


def _times(event: Mapping[str, Any]) -> str:
    """How often it happened, if more than once."""
    return f" ({event['count']} times since {event.get('at')})" if event.get("count", 1) > 1 else ""


def _faults(faults: Mapping[str, Sequence[str]]) -> Iterable[str]:
    alike: dict[tuple[str, ...], list[str]] = {}
    for node, lines in faults.items():
        alike.setdefault(tuple(lines), []).append(node)
    for told, nodes in alike.items():
        yield f"  {', '.join(nodes)}:"
        yield from (f"    {line}" for line in told)


def _removed(lines: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """What is or would be removed, by node."""
    yield "  removed, or to be:"
    yield from (f"  {line}" for line in _faults(lines))


def _pillar(text: str) -> Iterable[str]:
    """A pillar, to be copied."""
    yield ""
    yield from text.splitlines()


def _named(title: str) -> Any:
    def show(values: Mapping[str, Any]) -> Iterable[str]:
        yield from (f"  {title} {name}: {value}" for name, value in values.items())

    return show


def _timeline(part: Mapping[str, Any]) -> Iterable[str]:
    """Moments of the node's own clock, counted from the lease's expiry (or the order), and the master's
    steps.
    """
    moments = {key: value for key, value in (part.get("timeline") or {}).items() if isinstance(value, int | float)}
    if moments:
        zero = moments.get("expired_s", min(moments.values()))
        shown = sorted(moments.items(), key=lambda item: item[1])
        yield "  " + ", ".join(f"{key.removesuffix('_s')} {value - zero:+.2f} s" for key, value in shown)
    if part.get("steps_s"):
        yield "  master: " + ", ".join(
            f"{key.removesuffix('_s')} {value:.2f} s" for key, value in part["steps_s"].items()
        )


def _corrections(lines: Sequence[str]) -> Iterable[str]:
    """What was read otherwise than it stands in a file."""
    yield "  corrected:"
    yield from (f"    {line}" for line in lines)


def _differences(lines: Mapping[str, Sequence[str]]) -> Iterable[str]:
    """What changes, by when that takes effect."""
    for when, places in lines.items():
        yield f"  {when}:"
        yield from (f"    {place}" for place in places)


def _versions(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield ""
    keys = ("version", "at", "by", "changes")
    yield from table([key.upper() for key in keys], [[row.get(key, "") for key in keys] for row in rows])


def _configuration(files: Mapping[str, Any]) -> Iterable[str]:
    """The old suite's file of each VM."""
    for vm, one in files.items():
        yield ""
        yield f"configuration of {vm}:"
        yield from json.dumps(one, indent=4).splitlines()


def _console(told: Mapping[str, Any]) -> Iterable[str]:
    """What the serial console showed last."""
    yield f"  the end of {told['log']}:"
    yield from (f"    {line}" for line in str(told["tail"]).splitlines())


_PARTS = {
    "vms": _vms,
    "nodes": _nodes,
    "consul": _consul,
    "warnings": _warnings,
    "history": _history,
    "versions": _versions,
    "configuration": _configuration,
    "console": _console,
    "corrections": _corrections,
    "differences": _differences,
    "removed": _removed,
    "faults": _faults,
    "doubts": _faults,
    "tried": _named("tried"),
    "rejected": _named("not"),
    "guards": _named("guard of"),
    "pillar": _pillar,
}
