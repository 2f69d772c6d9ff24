"""The sweep: fixed seeds of dozens of simulated hours, and the command that plays them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from . import compiled
from .mutants import MOST_SEEDS, MUTANTS
from .sweep import RARE, Result, State, play, script_of, seeds_of, shorten

SEEDS = 800
HOURS = 23
"""What fits beside the lab; `make nightly` plays far more."""
FEW = 25


def command(*arguments: str, timeout_s: float = 600.0) -> subprocess.CompletedProcess[str]:
    """Run the sweep's command."""
    called = (sys.executable, "-m", "tests.simulation", *arguments)
    return subprocess.run(called, cwd=compiled.ROOT, stdout=subprocess.PIPE, text=True, timeout=timeout_s, check=False)


def test_dozens_of_simulated_hours_violate_no_invariant(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Also, each rare event came up: a world in which nothing happens would pass as well."""
    with capfd.disabled():
        run = command(
            "--seeds", f"0:{SEEDS}", "--hours", str(HOURS), "--state", str(tmp_path / "state"), timeout_s=3600.0
        )
    assert run.returncode == 0, run.stdout
    state = json.loads((tmp_path / "state").read_text(encoding="utf-8"))
    assert state["failures"] == {}
    assert state["simulated_s"] >= HOURS * 3600
    assert [name for name in RARE if not state["counts"].get(name)] == []


def test_compiled_and_interpreted_seeds_come_to_the_same(tmp_path: Path) -> None:
    seeds = ("--seeds", f"0:{FEW}", "--state")
    assert command(*seeds, str(tmp_path / "compiled")).returncode == 0
    assert command(*seeds, str(tmp_path / "interpreted"), "--interpreted").returncode == 0
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("compiled", "interpreted"))
    del one["took_s"], other["took_s"]
    assert one == other
    assert one["done"] == FEW


def test_a_sweep_continues_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "state"
    half = State(compiled.digest(), 0, FEW)
    for seed in range(FEW - 5):
        half.add(play(seed))
    half.save(path)
    assert command("--seeds", f"0:{FEW}", "--state", str(path), "--interpreted").returncode == 0
    whole = State(compiled.digest(), 0, FEW)
    for seed in range(FEW):
        whole.add(play(seed))
    ended = json.loads(path.read_text())
    assert ended["done"] == FEW
    assert ended["counts"] == dict(whole.counts)
    assert ended["simulated_s"] == pytest.approx(whole.simulated_s)


@pytest.mark.parametrize("field", ["source", "last"])
def test_a_state_of_something_else_is_not_continued(tmp_path: Path, field: str) -> None:
    path = tmp_path / "state"
    state = State(compiled.digest(), 0, FEW)
    setattr(state, field, "other" if field == "source" else FEW + 1)
    state.save(path)
    with pytest.raises(SystemExit, match=f"{field} .*, not"):
        State.load(path, range(FEW))


def test_a_sweep_that_tries_too_little_fails() -> None:
    run = command("--seeds", "0:3", "--hours", "1", "--interpreted")
    assert run.returncode == 1
    assert "too little: 0 of 1 hours" in run.stdout


def test_a_failure_is_told_with_its_shortest_script_and_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from . import sweep

    found = MUTANTS["off_assumed"].find(range(MOST_SEEDS))
    assert found, "no seed shows it"
    seed = found.seed
    monkeypatch.setattr(sweep, "shorten", lambda number: shorten(number, limit_s=5.0))
    with MUTANTS["off_assumed"].applied():
        failed = play(seed)
        told = sweep.report(failed)
    assert told.startswith(f"seed {seed} of source {compiled.digest()}: {failed.failure}")
    assert "VIOLATION" in told
    replay = told.splitlines()[-1]
    assert replay.startswith(f"replay: python -m tests.simulation --seeds {seed}")
    dropped = replay.partition("--drop ")[2].partition(" ")[0]
    with MUTANTS["off_assumed"].applied():
        again = play(seed, drop=[int(number) for number in dropped.split(",") if number])
    assert again.failure
    assert again.failure in told


def test_a_seed_plays_the_same_each_time() -> None:
    first, second = play(10_003, full_trace=True), play(10_003, full_trace=True)
    assert first.trace
    assert first == second


def test_a_fault_that_is_dropped_does_not_strike() -> None:
    count = len(script_of(10_004).faults)
    assert play(10_004).counts["fault"] > 0
    assert play(10_004, drop=range(count)).counts["fault"] == 0


def test_failures_are_counted_by_their_seeds() -> None:
    state = State("x", 0, 2)
    state.add(Result(0, 3600.0, "", 1.0, play(0).counts))
    state.add(Result(1, 1800.0, "two at once", 0.0, play(1).counts))
    assert (state.hours, state.failures, state.slowest_settle_s) == (1.5, {"1": "two at once"}, 1.0)


@pytest.mark.parametrize(("text", "seeds"), [("17", range(17, 18)), ("0:3", range(3))])
def test_seeds_are_read(text: str, seeds: range) -> None:
    assert seeds_of(text) == seeds
