"""Measures the product in a lab, and the peer in the same kind of lab: `python -m tests.bench`.

Progress goes to stderr, the tables to stdout, everything that was noted to the JSON file. Exit code: 0 if all targets
are met, 1 if one is not or a benchmark broke off, 2 for wrong arguments, 3 if two instances of the VM overlapped (or it
is not proven that none did), 130 after Ctrl-C. The lab is removed in all cases.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.settings import LabError
from lab.shell import say
from tests.bench import apply, failover, idle, machine, network, stats, status
from tests.bench.bed import Bed, Round, UnsafeError, product_lab, repeat
from tests.bench.peer import measure as peer_measure
from tests.bench.peer.pacemaker import DEFAULT_TOKEN_MS, PeerBed, peer_lab
from tests.bench.stats import Comparison, Measure

FAST = "power_loss_fast"
ORDER = (idle.NAME, status.NAME, apply.NAME, "crash", "power_loss", "storage_cut", "management_cut")
NAMES = (*ORDER, FAST, network.NAME)
SHORT_TOKEN_MS = 1000
OK, NOT_MET, UNSAFE, INTERRUPTED = 0, 1, 3, 130


@dataclass
class Results:
    """All that was measured so far; what broke off is in `faults`."""

    measures: list[Measure] = field(default_factory=list)
    peer: list[Measure] = field(default_factory=list)
    rounds: dict[str, list[Any]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine.describe)

    def find(self, benchmark: str, name: str, *, peer: bool = False) -> Measure | None:
        """The measure of that name, if it was measured."""
        known = self.peer if peer else self.measures
        return next((m for m in known if (m.benchmark, m.name) == (benchmark, name)), None)

    def to_dict(self) -> dict[str, Any]:
        """The JSON file."""
        return {
            "version": 1, "machine": self.machine, "faults": self.faults, "rounds": self.rounds,
            "measures": [m.to_dict() for m in self.measures], "peer": [m.to_dict() for m in self.peer],
        }  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures failover in a lab of its own.")
    top.add_argument("--rounds", type=int, default=10, help="repetitions of each (default 10)")
    top.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"only these: {', '.join(NAMES)}")
    top.add_argument("--profile", choices=("default", "fast"), default="default", help="the lease's timings")
    top.add_argument("--peer", choices=("pacemaker",), help="measure the peer as well, after ours")
    top.add_argument("--peer-only", action="store_true", help="measure nothing but the peer")
    top.add_argument("--json", type=Path, help="write everything to this file")
    return top


def plan(options: argparse.Namespace) -> dict[str, list[str]]:
    """Which benchmarks run in the lab of which profile. power_loss_fast is power_loss in a lab with fast timings."""
    wanted = [name for name in ORDER if not options.only or name in options.only]
    if options.profile == "default" and (not options.only or FAST in options.only):
        return {"default": wanted, "fast": ["power_loss"]}
    if options.profile == "fast" and options.only and FAST in options.only and "power_loss" not in wanted:
        wanted.append("power_loss")
    return {options.profile: wanted}


def run_one(bed: Bed, name: str, count: int, results: Results) -> None:
    """One benchmark; what it measured before it breaks off is kept."""
    title = failover.name_of(name, bed.profile)
    if name == idle.NAME:
        found = keep(idle.windows(bed, min(count, idle.WINDOWS)), title, results)
        results.measures += idle.measures(found, title)
    elif name == status.NAME:
        asked = keep(status.rounds(bed, count), title, results)
        results.measures += status.measures(asked, title)
    elif name == apply.NAME:
        applied = keep(apply.rounds(bed, count), title, results)
        results.measures += apply.measures(applied, title)
    else:
        fault = failover.FAULTS[name]
        rounds: list[Round] = []
        try:
            rounds = keep(repeat(bed, title, count, fault.run, fault.before), title, results, rounds)
        finally:
            results.measures += fault.measures(rounds, bed.timings, bed.profile)


def keep(source: Iterable[Any], title: str, results: Results, found: list[Any] | None = None) -> list[Any]:
    """Collect what comes, and note it at once, so that it is there if the source breaks off."""
    found = [] if found is None else found
    noted = results.rounds.setdefault(title, [])
    for item in source:
        found.append(item)
        noted.append(item.to_dict())
        results.faults += [f"{title}: {item.fault}"] if getattr(item, "fault", "") else []
    return found


def run_ours(options: argparse.Namespace, results: Results) -> None:
    """All benchmarks of the product, each profile in a lab of its own."""
    for profile, names in plan(options).items():
        if names:
            with guarded(results, f"lab with {profile} timings"), product_lab(profile) as bed:
                for name in names:
                    with guarded(results, failover.name_of(name, profile)):
                        run_one(bed, name, options.rounds, results)


def run_network(options: argparse.Namespace, results: Results) -> None:
    """The change of a host's network, in a machine of its own."""
    if not options.only or network.NAME in options.only:
        with guarded(results, network.NAME):
            found = network.run()
            results.rounds[network.NAME] = [found]
            results.measures += network.measures(found)


def run_peer(options: argparse.Namespace, results: Results) -> None:
    """The peer: default token, a killed QEMU, and the token shortened."""
    with guarded(results, "pacemaker"), peer_lab() as bed:
        results.peer += peer_measure.memory(bed, "peer_idle")
        moments = (peer_measure.FENCE_ASKED, peer_measure.FENCED, peer_measure.QEMU, peer_measure.GUEST_UP)
        for name, token_ms, work, wanted in (
            ("peer_power_loss", DEFAULT_TOKEN_MS, peer_measure.lose_power, moments),
            ("peer_crash", DEFAULT_TOKEN_MS, peer_measure.crash, moments[2:]),
            ("peer_power_loss_token_1000", SHORT_TOKEN_MS, peer_measure.lose_power, moments),
        ):
            with guarded(results, name):
                run_peer_one(bed, name, token_ms, work, wanted, options.rounds, results)


def run_peer_one(
    bed: PeerBed,
    name: str,
    token_ms: int,
    work: Callable[..., None],
    moments: tuple[str, ...],
    count: int,
    results: Results,
) -> None:
    """One fault of the peer."""
    bed.heal()
    if bed.token_ms != token_ms:
        bed.set_token(token_ms)
    rounds: list[Round] = []
    try:
        keep(repeat(bed, name, count, work), name, results, rounds)
    finally:
        results.peer += peer_measure.measures(name, rounds, moments)


class guarded:
    """A part that may break off (LabError) without the others; the fault is noted."""

    def __init__(self, results: Results, title: str) -> None:
        self._results, self._title = results, title

    def __enter__(self) -> None:
        say(f"--- {self._title}")

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, LabError):
            return False
        say(f"{self._title} broke off: {error}")
        self._results.faults.append(f"{self._title} broke off: {error}")
        return True


def comparisons(results: Results) -> list[Comparison]:
    """The same quantities here and at the peer."""
    qemu = failover.TITLES[failover.QEMU]
    ours = {name: results.find(name, qemu) for name in ("power_loss", FAST, "crash")}
    peer = {
        name: results.find(name, qemu, peer=True)
        for name in ("peer_power_loss", "peer_power_loss_token_1000", "peer_crash")
    }
    power = "power cut → QEMU began elsewhere"
    return [
        Comparison(f"{power} (defaults of both)", "s", "median", ours["power_loss"], peer["peer_power_loss"]),
        Comparison(f"{power} (defaults of both)", "s", "max", ours["power_loss"], peer["peer_power_loss"]),
        Comparison(f"{power} (fast; token 1000)", "s", "median", ours[FAST], peer["peer_power_loss_token_1000"]),
        Comparison(f"{power} (fast; token 1000)", "s", "max", ours[FAST], peer["peer_power_loss_token_1000"]),
        Comparison("QEMU killed → QEMU began", "s", "median", ours["crash"], peer["peer_crash"]),
        Comparison("QEMU killed → QEMU began", "s", "max", ours["crash"], peer["peer_crash"]),
        *(memory_comparison(results, kind) for kind in ("RSS", "PSS")),
    ]


def memory_comparison(results: Results, kind: str) -> Comparison:
    """Guard, fencer and Consul beside Pacemaker and corosync."""
    own = [results.find(idle.NAME, f"{part} {kind} a node") for part in ("guard's and fencer's", "Consul's")]
    both: Measure | None = None
    if own[0] and own[1]:
        sums = tuple(sum(parts) for parts in zip(own[0].values, own[1].values, strict=True))
        both = Measure(idle.NAME, f"{kind} of guard, fencer and Consul", "MiB", sums)
    peer = results.find("peer_idle", f"{kind} of both a node", peer=True)
    return Comparison(f"{kind} a node: guard, fencer and Consul; Pacemaker and corosync", "MiB", "median", both, peer)


def report(results: Results) -> str:
    """The tables and what went wrong."""
    parts = [f"Machine: {machine.sentence(results.machine)}."]
    if results.measures or results.peer:
        parts.append(stats.table([*results.measures, *results.peer]))
    if results.peer:
        parts.append(stats.comparison_table(comparisons(results), "Pacemaker"))
    parts += [f"FAULT: {fault.splitlines()[0]}" for fault in results.faults]
    return "\n\n".join(parts)


def main() -> int:
    """Run what the command line wants."""
    options = parser().parse_args()
    if options.rounds < 1:
        parser().error(f"--rounds {options.rounds}: give 1 or more")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    began_s = time.monotonic()
    results = Results()
    code = OK
    try:
        if not options.peer_only:
            run_network(options, results)
            run_ours(options, results)
        if options.peer or options.peer_only:
            run_peer(options, results)
    except UnsafeError as error:
        results.faults.append(f"UNSAFE: {error}")
        say(f"UNSAFE: {error}")
        code = UNSAFE
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        if options.json:
            options.json.write_text(json.dumps(results.to_dict(), indent=1, default=str))
        print(report(results), flush=True)
        say(f"done in {time.monotonic() - began_s:.0f} s")
    missed = [m for m in results.measures if m.is_met() is False]
    return code or (NOT_MET if missed or results.faults else OK)


if __name__ == "__main__":
    sys.exit(main())
