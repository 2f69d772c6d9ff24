"""Proves from what the VM left behind that no two instances of it ever ran at once.

An instance is one boot of the VM. The guest writes a record on its disk five times a second, each one after reading
back that nobody else wrote since its last one. If instances never overlapped, then

* the records of each boot are one unbroken run on the disk, their counters rise by one, a run begins with a boot
  record of counter 0 (unless the ring has overwritten its beginning);
* epochs (the lease's fencing token, given at the start of the VM) never fall;
* neither the disk nor a console of any node has an OVERLAP;
* what the consoles tell agrees with the disk: a record that a console has seen is still there.

Not seen by it: an instance that ran so briefly that it wrote nothing. `lab.monitor` sees that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from lab import disk
from lab.records import BOOT, OVERLAP, Record, Ring, read_ring

_LINE = re.compile(
    r"mnha-heartbeat (?P<word>BOOT|beat|OVERLAP) boot=(?P<boot>[0-9a-f]{32}) epoch=(?P<epoch>\d+) "
    r"(?:counter=(?P<counter>\d+)|other=(?P<other>[0-9a-f]{32})) seq=(?P<seq>\d+)"
)


@dataclass(frozen=True)
class Instance:
    """One boot of the VM as its disk tells it; `nodes` are those whose console saw it."""

    boot_id: str
    epoch: int
    first_seq: int
    last_seq: int
    first_counter: int
    last_counter: int
    ran_s: float
    gap_s: float | None
    """From the last record of the instance before to the first of this one, by the guests' real-time clocks, which
    are set from the host's at boot to a second: no measure, only an impression."""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """`ok` only if there is at least one record and nothing speaks for an overlap."""

    instances: tuple[Instance, ...]
    faults: tuple[str, ...]
    records: int = field(default=0)

    @property
    def ok(self) -> bool:
        return self.records > 0 and not self.faults

    def as_dict(self) -> dict:
        return {"ok": self.ok, **asdict(self)}

    def text(self) -> str:
        """The table of instances and the verdict, for people."""
        lines = [f"{'boot':10} {'epoch':>5} {'counters':>15} {'ran':>9} {'gap before':>11}  node"]
        for item in self.instances:
            counters = f"{item.first_counter}..{item.last_counter}"
            gap = "-" if item.gap_s is None else f"{item.gap_s:.1f} s"
            lines.append(
                f"{item.boot_id[:8]:10} {item.epoch:5} {counters:>15} {item.ran_s:7.1f} s {gap:>11}  "
                f"{','.join(item.nodes) or '?'}"
            )
        lines += [f"FAULT: {fault}" for fault in self.faults]
        lines.append(
            f"no overlap: {self.records} records, {len(self.instances)} instances, one after the other"
            if self.ok
            else f"NOT PROVEN: {len(self.faults)} faults in {self.records} records"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class ConsoleLine:
    """One heartbeat line of a node's console log."""

    node: str
    word: str
    boot_id: str
    epoch: int
    seq: int
    counter: int | None = None
    other: str | None = None


def parse_console(node: str, text: str) -> list[ConsoleLine]:
    """The heartbeat lines of a console log; everything else in it is passed over."""
    return [
        ConsoleLine(
            node, match["word"], match["boot"], int(match["epoch"]), int(match["seq"]),
            None if match["counter"] is None else int(match["counter"]), match["other"],
        )
        for match in _LINE.finditer(text)
    ]  # fmt: skip


def check(image: Path, consoles: Mapping[str, Path]) -> Verdict:
    """The verdict on the VM's disk image and the console logs of all nodes (by node)."""
    if not image.is_file():
        return Verdict((), (f"there is no disk image {image}: is the cluster up?",))
    lines = [line for node, path in consoles.items() for line in parse_console(node, path.read_text(errors="replace"))]
    return judge(read_ring(disk.read(image)), lines)


def judge(ring: Ring, lines: Sequence[ConsoleLine]) -> Verdict:
    """The verdict on records and console lines. An empty disk proves nothing, and that is a fault."""
    runs = split_runs(ring.records)
    faults = [f"the disk holds what no heartbeat wrote there: {text}" for text in ring.broken]
    if not ring.records:
        faults.append("no record at all on the disk: the VM never ran, or its heartbeat does not work")
    has_wrapped = len(ring.records) >= ring.slots
    faults += check_runs(runs, has_wrapped)
    faults += check_consoles(ring, lines)
    nodes: dict[str, set[str]] = {}
    for line in lines:
        nodes.setdefault(line.boot_id, set()).add(line.node)
    return Verdict(tuple(_instances(runs, nodes)), tuple(dict.fromkeys(faults)), len(ring.records))


def split_runs(records: Iterable[Record]) -> list[list[Record]]:
    """The records, in the order of `seq`, cut wherever the boot id changes."""
    runs: list[list[Record]] = []
    for record in records:
        if runs and runs[-1][-1].boot_id == record.boot_id:
            runs[-1].append(record)
        else:
            runs.append([record])
    return runs


def check_runs(runs: Sequence[Sequence[Record]], has_wrapped: bool) -> list[str]:
    """What in the disk's records speaks for an overlap; empty if nothing does."""
    faults = []
    seen: set[str] = set()
    for number, run in enumerate(runs):
        first, boot = run[0], run[0].boot_id[:8]
        if first.boot_id in seen:
            faults.append(f"boot {boot} wrote record {first.seq} after another instance had written")
        seen.add(first.boot_id)
        begins_here = first.kind == BOOT and first.counter == 0
        if not begins_here and not (number == 0 and has_wrapped):
            faults.append(
                f"boot {boot} begins with counter {first.counter} at record {first.seq}: earlier ones are lost"
            )
        for before, after in pairwise(run):
            if after.seq != before.seq + 1 or after.counter != before.counter + 1:
                faults.append(
                    f"boot {boot}: record {before.seq} (counter {before.counter}) is followed by "
                    f"{after.seq} (counter {after.counter})"
                )
            if after.epoch != before.epoch:
                faults.append(f"boot {boot}: epoch {before.epoch} became {after.epoch} without a boot")
        faults += [
            f"OVERLAP on the disk: boot {boot} found boot {record.other[:8]} writing at record {record.seq}"
            for record in run
            if record.kind == OVERLAP
        ]
    for one, two in pairwise(runs):
        if two[0].epoch < one[-1].epoch:
            faults.append(f"epoch fell from {one[-1].epoch} to {two[0].epoch} at boot {two[0].boot_id[:8]}")
        if two[0].seq != one[-1].seq + 1:
            faults.append(f"records {one[-1].seq + 1} to {two[0].seq - 1} are missing")
    return faults


def check_consoles(ring: Ring, lines: Sequence[ConsoleLine]) -> list[str]:
    """What in the consoles speaks for an overlap, by itself or because the disk says otherwise."""
    by_seq = {record.seq: record for record in ring.records}
    oldest = ring.records[0].seq if ring.records else 0
    faults = []
    for line in lines:
        boot = line.boot_id[:8]
        if line.word == "OVERLAP":
            faults.append(f"OVERLAP on the console of {line.node}: boot {boot} found {(line.other or '?')[:8]} writing")
            continue
        record = by_seq.get(line.seq)
        if record is None and line.seq >= oldest:
            faults.append(f"the console of {line.node} saw record {line.seq} of boot {boot}, the disk has lost it")
        elif record is not None and record.boot_id != line.boot_id:
            faults.append(
                f"record {line.seq} is of boot {boot} by the console of {line.node}, "
                f"of boot {record.boot_id[:8]} on the disk: overwritten"
            )
    return faults


def _instances(runs: Sequence[Sequence[Record]], nodes: Mapping[str, set[str]]) -> Iterable[Instance]:
    before: Record | None = None
    for run in runs:
        first, last = run[0], run[-1]
        yield Instance(
            first.boot_id, last.epoch, first.seq, last.seq, first.counter, last.counter,
            (last.boottime_ns - first.boottime_ns) / 1e9,
            None if before is None else (first.realtime_ns - before.realtime_ns) / 1e9,
            tuple(sorted(nodes.get(first.boot_id, ()))),
        )  # fmt: skip
        before = last
