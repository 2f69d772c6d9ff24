"""Figures of the benchmarks: statistics, targets, tables."""

from __future__ import annotations

import pytest

from lab.settings import plan_nodes
from mnha.core.timing import PROFILES
from tests.bench import __main__ as bench
from tests.bench.bed import Round
from tests.bench.failover import EXPIRED_TO_QEMU, OLD_DEAD, POWER_LOSS, QEMU, STORAGE_CUT
from tests.bench.peer.pacemaker import corosync_conf
from tests.bench.stats import Comparison, Measure, Target, comparison_table, summarize, table


def measure(*values: float, limit: float = 2.0, missing: int = 0) -> Measure:
    return Measure("crash", "QEMU began", "s", values, (Target("median", limit),), missing)


@pytest.mark.parametrize(
    ("values", "median", "p95"),
    [([3.0], 3.0, 3.0), ([1.0, 2.0], 1.5, 2.0), (list(range(1, 11)), 5.5, 10), (list(range(1, 21)), 10.5, 19)],
)
def test_p95_is_the_nearest_rank(values: list[float], median: float, p95: float) -> None:
    found = summarize(values)
    assert found is not None
    assert (found.median, found.p95, found.max, found.n) == (median, p95, max(values), len(values))


def test_a_target_is_met_only_if_every_round_yielded_a_value() -> None:
    assert measure(1.0, 2.0, 9.0).is_met() is True
    assert measure(1.0, 2.1, 9.0).is_met() is False
    assert measure(1.0, 1.0, missing=1).is_met() is False
    assert measure().is_met() is False
    assert Measure("x", "y", "s", (1.0,)).is_met() is None


def test_rounds_become_measures_and_a_lost_moment_is_missing() -> None:
    rounds = [Round(1, moments={QEMU: 8.4, EXPIRED_TO_QEMU: 1.0}), Round(2, fault="never started")]
    found = {m.name: m for m in POWER_LOSS.measures(rounds, PROFILES["default"], "default")}
    began = found["QEMU began"]
    assert (began.values, began.missing, began.is_met()) == ((8.4,), 1, False)
    assert [target.limit for target in began.targets] == [9.0, 12.0]
    fast = POWER_LOSS.measures(rounds[:1], PROFILES["fast"], "fast")
    assert {m.benchmark for m in fast} == {"power_loss_fast"}


@pytest.mark.parametrize(("profile", "limit_s"), [("default", 7.0), ("fast", 3.5)])
def test_a_cut_off_vm_must_be_dead_within_d_and_k(profile: str, limit_s: float) -> None:
    (dead,) = [
        m
        for m in STORAGE_CUT.measures([Round(1, moments={OLD_DEAD: limit_s + 0.01})], PROFILES[profile], profile)
        if m.targets
    ]
    assert (dead.targets[0].limit, dead.is_met()) == (limit_s, False)


def test_the_table_says_what_was_missed() -> None:
    text = table([measure(1.0, 3.0, 3.0, missing=1), Measure("idle", "CPU", "%", (0.5,))])
    assert "|   3.00 | 3.00 | 3.00 | 3 of 4 | median ≤ 2 | NO  |" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_the_comparison_gives_the_ratio_and_a_dash_for_what_was_not_measured() -> None:
    text = comparison_table(
        [
            Comparison("kill", "s", "median", measure(2.0), measure(7.0)),
            Comparison("power", "s", "max", None, measure(7.0)),
        ],
        "Pacemaker",
    )
    assert "| 2.00 |      7.00 |   3.5 |" in text
    assert "|    - |      7.00 |     - |" in text


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("", {"default": list(bench.ORDER), "fast": ["power_loss"]}),
        ("--only crash", {"default": ["crash"]}),
        ("--only power_loss_fast", {"default": [], "fast": ["power_loss"]}),
        ("--profile fast --only power_loss_fast", {"fast": ["power_loss"]}),
        ("--profile fast --only status", {"fast": ["status"]}),
    ],
)
def test_each_benchmark_runs_in_a_lab_with_its_timings(words: str, wanted: dict[str, list[str]]) -> None:
    assert bench.plan(bench.parser().parse_args(words.split())) == wanted


def test_the_peer_has_a_link_on_each_network_of_each_node() -> None:
    text = corosync_conf(plan_nodes(3), 3000)
    assert text.count("ring0_addr: 192.168.93.") == text.count("ring1_addr: 172.20.198.") == 3
    assert "token: 3000" in text
    assert text.count("{") == text.count("}")
