"""The sweep with fixed seeds: all invariants hold, and the world does bring about what it is there for."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from .sweep import Result, fault_count, play, seeds_of, shorten

SEEDS = range(10_000, 10_160)
BUDGET_S = 45.0
"""On a slow machine fewer seeds are played; never fewer than a quarter."""

REACHED = (
    "took", "gave back", "qemu", "killed", "refused", "reply lost after the commit", "reset by watchdog",
    "guard killed", "guard replaced", "guard stands still in a call", "fenced by systemd", "frozen", "start failed",
    "answer", "died",
)  # fmt: skip


@pytest.fixture(scope="module")
def results() -> list[Result]:
    """What came of the seeds."""
    end_s, played = time.monotonic() + BUDGET_S, list[Result]()
    for seed in SEEDS:
        if time.monotonic() > end_s and len(played) >= len(SEEDS) // 4:
            break
        played.append(play(seed))
    return played


def test_no_seed_violates_an_invariant(results: list[Result]) -> None:
    assert [f"seed {result.seed}: {result.failure}" for result in results if result.failure] == []


@pytest.mark.parametrize("event", REACHED)
def test_the_world_brings_about(results: list[Result], event: str) -> None:
    total = Counter[str]()
    for result in results:
        total.update(result.counts)
    assert total[event] > 0


def test_a_seed_plays_the_same_each_time() -> None:
    first, second = play(10_003, full_trace=True), play(10_003, full_trace=True)
    assert first.trace == second.trace
    assert first == second


def test_a_fault_that_is_dropped_does_not_strike() -> None:
    without = play(10_004, drop=range(fault_count(10_004)))
    assert without.counts["fault"] == 0
    assert without.counts["took"] == 1


def test_a_failure_is_shortened_and_still_fails() -> None:
    from .mutants import MUTANTS, seeds_of_table

    seed = seeds_of_table()["off_assumed"]
    with MUTANTS["off_assumed"].applied():
        shortest, drop = shorten(seed, limit_s=5.0)
        assert shortest.failure
        assert play(seed, drop=drop).failure == shortest.failure


@pytest.mark.parametrize(("text", "seeds"), [("17", range(17, 18)), ("0:3", range(3))])
def test_seeds_are_read(text: str, seeds: range) -> None:
    assert seeds_of(text) == seeds
