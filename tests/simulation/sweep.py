"""Many seeds, one world each: ``python -m tests.simulation --seeds 0:2000``.

A failure prints its seed and the source's digest, the shortest script of faults that still fails, and the end of the
trace. The same seed with the same source replays it exactly: ``--seeds 1234 --trace``.

With ``--state FILE`` what came of it stands in that file as JSON, written anew every few seconds; the same command
continues where an earlier one ended, as long as the source is the same.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import multiprocessing
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mnha.core.model import Run

from .compiled import digest
from .engine import SECOND, us
from .faults import Fault, draw_config, draw_faults, draw_management, draw_views, strike
from .world import Config, ViolationError, World

SAVE_EVERY_S = 5.0
"""How often the state is written, and progress told."""

RARE = (
    "took", "took without an order", "gave back", "qemu", "killed", "died", "refused", "reply lost after the commit",
    "start failed", "reset by watchdog", "reset by operator", "frozen", "guard killed", "guard replaced",
    "guard stands still in a call", "guard ends", "fencer killed", "fencer stands still",
    "fencer stands still in a call", "power lost", "storage lost", "deleted", "answer",
)  # fmt: skip
"""What a sweep has to bring about to be worth anything; a long one that lacks one of these fails."""


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


@dataclasses.dataclass(frozen=True)
class Script:
    """What a seed stands for: a world, what breaks in it, and what is wanted at last."""

    config: Config
    seconds: float
    faults: list[Fault]
    last_wish: Run


def script_of(seed: int) -> Script:
    """Draw the script of a seed."""
    chance = random.Random(seed)
    config, seconds = draw_config(chance), chance.choice((40.0, 90.0, 180.0))
    faults = draw_faults(chance, seconds)
    config, wrong = draw_views(random.Random(f"views of seed {seed}"), config, seconds)
    config, gone = draw_management(random.Random(f"management of seed {seed}"), config, seconds)
    return Script(config, seconds, [*faults, *wrong, *gone], Run.STARTED if chance.random() < 0.8 else Run.STOPPED)


def play(
    seed: int,
    drop: Iterable[int] = (),
    full_trace: bool = False,
    twist: Callable[[Config], Config] = lambda config: config,
) -> Result:
    """Play one seed, without the faults of the numbers in `drop`, in a world changed by `twist`."""
    script, dropped = script_of(seed), set(drop)
    world = World(seed, twist(script.config))
    failure, settle_s = "", 0.0
    try:
        world.consul.set_desired(Run.STARTED)
        for number, fault in enumerate(script.faults):
            if number not in dropped:
                world.engine.at(fault.at_us, strike, world, fault)
        while world.engine.now < us(script.seconds):
            world.run_for(1.0)
            world.check()
        world.heal(script.last_wish)
        settle_s = world.settle()
    except ViolationError as error:
        failure = str(error)
    except Exception as error:  # the guard died of a bug of its own
        failure = f"{type(error).__name__}: {error} in {traceback.format_exc(limit=-3)}"
    tail = world.tail(1_000_000 if full_trace else 60) if failure or full_trace else ""
    return Result(seed, world.engine.now / SECOND, failure, settle_s, world.counts, tail)


# ---- a failure


def shorten(seed: int, limit_s: float = 60.0) -> tuple[Result, list[int]]:
    """The same failure with as few faults as can be found in `limit_s`: halves first, then one by one."""
    end_s = time.monotonic() + limit_s
    result, drop = play(seed), set[int]()
    kept = list(range(len(script_of(seed).faults)))
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


def report(result: Result) -> str:
    """A failure, for people."""
    shortest, drop = shorten(result.seed)
    script = script_of(result.seed)
    faults = [f"  {fault}" for number, fault in enumerate(script.faults) if number not in drop]
    dropped = f" --drop {','.join(map(str, drop))}" if drop else ""
    return "\n".join(
        [
            f"seed {result.seed} of source {digest()}: {result.failure}",
            f"shortest script ({shortest.failure}):",
            f"  {script.config}",
            *(faults or ["  no fault at all"]),
            shortest.trace,
            f"replay: python -m tests.simulation --seeds {result.seed}{dropped} --trace",
        ]
    )


# ---- many seeds


@dataclasses.dataclass
class State:
    """What a sweep has come to. Written as JSON, it is the result, and what a later sweep continues.

    :param done: how many of the seeds from `first` on were played.
    :param slowest_settle_s: the longest time until all was well after healing.
    :param failures: seeds with what was violated.
    :param took_s: wall-clock seconds of all runs together.
    """

    source: str
    first: int
    last: int
    done: int = 0
    simulated_s: float = 0.0
    slowest_settle_s: float = 0.0
    took_s: float = 0.0
    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Count one seed."""
        self.done += 1
        self.simulated_s += result.simulated_s
        self.slowest_settle_s = max(self.slowest_settle_s, result.settle_s)
        self.counts.update(result.counts)
        if result.failure:
            self.failures[str(result.seed)] = result.failure

    @property
    def hours(self) -> float:
        """Simulated hours."""
        return self.simulated_s / 3600

    def progress(self, jobs: int) -> str:
        """A line for people."""
        total = self.last - self.first
        left_s = self.took_s / self.done * (total - self.done) if self.done else 0.0
        return (
            f"{self.done} of {total} seeds, {self.hours:.0f} simulated hours, {len(self.failures)} failed; "
            f"{self.took_s:.0f} s, {self.hours / max(self.took_s, 1e-9) / jobs:.2f} h/s for each of {jobs} jobs, "
            f"about {left_s:.0f} s to go"
        )

    def summary(self) -> str:
        """The end, for people."""
        rare = ", ".join(f"{name} {self.counts[name]}" for name in RARE)
        return (
            f"{self.done} seeds, {len(self.failures)} failed, {self.hours:.1f} simulated hours in {self.took_s:.1f} s, "
            f"all well at the latest {self.slowest_settle_s:.1f} s after healing; source {self.source}\n{rare}"
        )

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(vars(self), indent=1), encoding="utf-8")
        new.replace(path)

    @classmethod
    def load(cls, path: Path, seeds: range) -> State:
        """Read what was saved for the same seeds and source, or begin.

        :raises SystemExit: it is of another source or of other seeds.
        """
        state = cls(digest(), seeds.start, seeds.stop)
        if path.exists():
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            for name in ("source", "first", "last"):
                if data[name] != getattr(state, name):
                    raise SystemExit(
                        f"{path} has {name} {data[name]}, not {getattr(state, name)}: remove it or go back"
                    )
            state = cls(**{**data, "counts": Counter(data["counts"])})
        return state


def _begin_worker() -> None:
    """What is loaded lives as long as the worker does; what a seed makes is collected after it, not in between."""
    gc.disable()
    gc.freeze()


def _play(seed: int) -> Result:
    """Play a seed in a worker."""
    result = play(seed)
    gc.collect()
    return result


@contextlib.contextmanager
def _results(seeds: Sequence[int], jobs: int) -> Iterator[Iterator[Result]]:
    """What comes of `seeds`, in their order; the workers end with the block."""
    with multiprocessing.Pool(jobs, _begin_worker) as pool:
        yield pool.imap(_play, seeds, chunksize=8)


def sweep(state: State, jobs: int, keep_going: bool, save: Callable[[State], None]) -> None:
    """Play the seeds that `state` still lacks, or until the first failure; `save` it now and then and at the end."""
    begun_s, before_s = time.monotonic(), state.took_s
    saved_s = begun_s
    with _results(range(state.first + state.done, state.last), jobs) as results:
        for result in results:
            state.add(result)
            state.took_s = before_s + time.monotonic() - begun_s
            if result.failure:
                print(
                    report(result) if len(state.failures) == 1 else f"seed {result.seed}: {result.failure}", flush=True
                )
                if not keep_going:
                    break
            if time.monotonic() > saved_s + SAVE_EVERY_S:
                saved_s = time.monotonic()
                save(state)
                print(state.progress(jobs), file=sys.stderr, flush=True)
    save(state)


# ---- the command


def seeds_of(text: str) -> range:
    """``0:2000`` or ``17``."""
    first, _, last = text.partition(":")
    return range(int(first), int(last) if last else int(first) + 1)


def _parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=seeds_of, default=range(200), help="first:last, or one")
    parser.add_argument("--state", type=Path, help="the result, and what is continued if it exists")
    parser.add_argument("--hours", type=float, default=0.0, help="fail if fewer hours are simulated, or an event lacks")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first failure")
    parser.add_argument("--interpreted", action="store_true", help="do not compile")
    parser.add_argument("--trace", action="store_true", help="print the whole trace of each seed")
    parser.add_argument("--drop", default="", help="numbers of faults to leave out, by commas")
    return parser


def main() -> int:
    """Parse the command line and sweep; return 1 if anything is violated, or too little was tried."""
    arguments = _parser().parse_args()
    if arguments.trace:
        drop = [int(number) for number in arguments.drop.split(",") if number]
        for seed in arguments.seeds:
            result = play(seed, drop=drop, full_trace=True)
            print(result.trace, result.failure or "all invariants hold", sep="\n")
        return 0
    seeds, path = arguments.seeds, arguments.state
    state = State.load(path, seeds) if path else State(digest(), seeds.start, seeds.stop)
    sweep(state, arguments.jobs, arguments.keep_going, (lambda now: now.save(path)) if path else (lambda now: None))
    print(state.summary())
    lacking = [name for name in RARE if not state.counts[name]]
    if arguments.hours and not state.failures and (state.hours < arguments.hours or lacking):
        print(f"too little: {state.hours:.0f} of {arguments.hours:.0f} hours, never seen: {', '.join(lacking) or '-'}")
        return 1
    return 1 if state.failures else 0


if __name__ == "__main__":
    sys.exit(main())
