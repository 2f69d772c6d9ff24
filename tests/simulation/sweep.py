"""Many seeds, one world each: ``python -m tests.simulation.sweep --seeds 0:2000``.

A failure prints its seed and the commit, the shortest script of faults that still fails, and the end of the trace. The
same seed on the same commit replays it exactly: ``--seeds 1234 --trace``.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import multiprocessing
import os
import random
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mnha.model import Run

from .engine import SECOND, us
from .faults import Fault, draw_config, draw_faults, strike
from .world import Config, ViolationError, World


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of a seed.

    :param failure: what is violated; empty when all holds.
    :param settle_s: how long it took until all was well after the last fault.
    """

    seed: int
    simulated_s: float
    failure: str
    settle_s: float
    counts: Counter[str]
    trace: str = ""


def play(
    seed: int,
    drop: Iterable[int] = (),
    full_trace: bool = False,
    twist: Callable[[Config], Config] = lambda config: config,
) -> Result:
    """Play one seed, without the faults of the numbers in `drop`, in a world changed by `twist`."""
    chance = random.Random(seed)
    config = twist(draw_config(chance))
    seconds = chance.choice((40.0, 90.0, 180.0))
    faults = draw_faults(chance, seconds)
    last_wish = Run.STARTED if chance.random() < 0.8 else Run.STOPPED
    world = World(seed, config)
    gc.disable()
    dropped = set(drop)
    failure, settle_s = "", 0.0
    try:
        world.consul.set_desired(Run.STARTED)
        for number, fault in enumerate(faults):
            if number not in dropped:
                world.engine.at(fault.at_us, strike, world, fault)
        while world.engine.now < us(seconds):
            world.run_for(1.0)
            world.check_watchdogs()
        world.heal(last_wish)
        settle_s = world.settle()
    except ViolationError as error:
        failure = str(error)
    except Exception as error:  # the guard died of a bug of its own
        failure = f"{type(error).__name__}: {error} in {traceback.format_exc(limit=-3)}"
    tail = world.tail(1_000_000 if full_trace else 60) if failure or full_trace else ""
    gc.enable()
    return Result(seed, world.engine.now / SECOND, failure, settle_s, world.counts, tail)


def fault_count(seed: int) -> int:
    """How many faults the script of a seed has."""
    return len(faults_of(seed))


def faults_of(seed: int) -> list[Fault]:
    """The script of a seed."""
    chance = random.Random(seed)
    draw_config(chance)
    return draw_faults(chance, chance.choice((40.0, 90.0, 180.0)))


def shorten(seed: int, limit_s: float = 60.0) -> tuple[Result, list[int]]:
    """The same failure with as few faults as can be found in `limit_s`: halves first, then one by one."""
    end_s = time.monotonic() + limit_s
    result, drop = play(seed), set[int]()
    kept = list(range(fault_count(seed)))
    size = max(1, len(kept) // 2)
    while size and result.failure:
        shorter = False
        for begin in range(0, len(kept), size):
            attempt = drop | set(kept[begin : begin + size])
            if time.monotonic() > end_s:
                return result, sorted(drop)
            tried = play(seed, attempt)
            if tried.failure:
                result, drop, shorter = tried, attempt, True
                kept = [number for number in kept if number not in drop]
                break
        if not shorter:
            size //= 2
    return result, sorted(drop)


def commit() -> str:
    """The commit of this tree, with + if it was changed."""
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def report(result: Result) -> str:
    """A failure, for people."""
    shortest, drop = shorten(result.seed)
    faults = [f"  {fault}" for number, fault in enumerate(faults_of(result.seed)) if number not in drop]
    return "\n".join(
        [
            f"seed {result.seed} at commit {commit()}: {result.failure}",
            f"shortest script ({shortest.failure}):",
            *faults,
            shortest.trace,
            f"replay: python -m tests.simulation.sweep --seeds {result.seed} --drop {','.join(map(str, drop))} --trace",
        ]
    )


def seeds_of(text: str) -> range:
    """``0:2000`` or ``17``."""
    first, _, last = text.partition(":")
    return range(int(first), int(last) if last else int(first) + 1)


def sweep(seeds: Sequence[int], jobs: int, hours: float, keep_going: bool) -> int:
    """Play all seeds, or until `hours` are simulated; return how many failed."""
    begun_s, failed, counts = time.monotonic(), 0, Counter[str]()
    simulated_s, played, longest_s = 0.0, 0, 0.0
    with multiprocessing.Pool(jobs) as pool:
        for result in pool.imap(play, seeds, chunksize=4):
            played, simulated_s = played + 1, simulated_s + result.simulated_s
            counts.update(result.counts)
            longest_s = max(longest_s, result.settle_s)
            if result.failure:
                failed += 1
                print(report(result) if failed == 1 else f"seed {result.seed}: {result.failure}", flush=True)
                if not keep_going:
                    break
            if hours and simulated_s >= hours * 3600:
                break
        pool.terminate()
    took_s = time.monotonic() - begun_s
    shown = ("took", "gave back", "qemu", "killed", "reset by watchdog", "refused", "reply lost after the commit")
    print(", ".join(f"{name} {counts[name]}" for name in shown))
    print(
        f"{played} seeds, {failed} failed, {simulated_s / 3600:.1f} simulated hours in {took_s:.1f} s "
        f"({simulated_s / 3600 / took_s:.2f} h/s), all well at the latest {longest_s:.1f} s after healing; "
        f"commit {commit()}"
    )
    return failed


def main() -> int:
    """Parse the command line and sweep."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.sweep", description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=range(200), help="first:last, or one")
    parser.add_argument("--hours", type=float, default=0.0, help="end after so many simulated hours")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    parser.add_argument("--drop", default="", help="numbers of faults to leave out, by commas")
    arguments = parser.parse_args()
    if arguments.trace:
        drop = [int(number) for number in arguments.drop.split(",") if number]
        for seed in arguments.seeds:
            result = play(seed, drop=drop, full_trace=True)
            print(result.trace, result.failure or "all invariants hold", sep="\n")
        return 0
    return 1 if sweep(arguments.seeds, arguments.jobs, arguments.hours, arguments.keep_going) else 0


if __name__ == "__main__":
    sys.exit(main())
