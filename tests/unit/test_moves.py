"""How far a migration is by libvirt's figures, and how a guest is said to have ended."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.daemon.adapters.asking import ACPI, AGENT, FORGET_S, Asking
from mnha.daemon.adapters.moves import MIB, Moves, figures, percent


@pytest.mark.parametrize(
    ("left", "total", "is_so"),
    [(0, 0, 0), (5, 0, 0), (100, 100, 0), (58, 100, 42), (1, 1000, 99), (1, 10**9, 99), (0, 100, 100), (130, 100, 0)],
)
def test_only_what_is_complete_is_a_hundred_per_cent(left: int, total: int, is_so: int) -> None:
    assert percent(left, total) == is_so


def test_libvirts_figures_in_mib_and_what_it_does_not_tell_is_left_out() -> None:
    stats = {"type": 2, "data_total": 256 * MIB, "data_processed": 100 * MIB, "data_remaining": 128 * MIB,
             "memory_bps": 52 * MIB, "downtime": 61}  # fmt: skip
    assert figures(stats) == {"percent": 50, "sent_mib": 100, "left_mib": 128, "rate_mib_s": 52.0, "downtime_ms": 61}
    assert figures({"type": 2, "operation": 5}) == {}


class Clocks:
    """Both clocks, as the test sets them."""

    def __init__(self) -> None:
        self.boot_s, self.wall_s = 10.0, 1000.0

    def moves(self) -> Moves:
        return Moves(lambda: self.boot_s, lambda: self.wall_s)


def test_a_migration_is_told_from_its_begin_to_its_end_and_after_that() -> None:
    clocks = Clocks()
    moves = clocks.moves()
    assert moves.told() is None
    moves.begin("node2")
    clocks.boot_s = 12.5
    moves.count({"data_total": 100, "data_remaining": 58})
    told = moves.told()
    assert told is not None
    assert (told["target"], told["outcome"], told["percent"], told["took_s"]) == ("node2", "", 42, 2.5)
    moves.stop()
    moves.count({"downtime": 61})
    moves.end("")
    clocks.boot_s = 99.0
    told = moves.told()
    assert told is not None
    assert (told["outcome"], told["percent"], told["left_mib"], told["took_s"]) == ("done", 100, 0, 2.5)
    assert (told["stopped_at"], told["downtime_ms"], told["ended_s_ago"]) == (1000.0, 61, 86.5)


def test_one_that_has_failed_says_why_and_the_next_one_begins_anew() -> None:
    moves = Clocks().moves()
    moves.begin("node2")
    moves.count({"data_total": 100, "data_remaining": 58})
    moves.end("canceled by client")
    told = moves.told()
    assert told is not None
    assert (told["outcome"], told["why"], told["percent"]) == ("failed", "canceled by client", 42)
    moves.begin("node3")
    assert (moves.told() or {})["percent"] == 0


def test_what_comes_of_no_migration_is_dropped_and_a_resume_is_remembered() -> None:
    moves = Clocks().moves()
    moves.count({"downtime": 61})
    moves.stop()
    moves.end("")
    assert moves.told() is None
    assert moves.resumed_at is None
    moves.resume()
    assert moves.resumed_at == 1000.0


# ---- asked to shut down


def wanted(*moments_s: float) -> Asking:
    asking = Asking()
    for moment_s in moments_s:
        asking = asking.again(moment_s)
    return asking


@pytest.mark.parametrize(
    ("asking", "killed", "text"),
    [
        (wanted(10.0).asked(AGENT), False, "the guest shut down by itself after 3.1 s, asked through its agent"),
        (
            wanted(10.0).refused(AGENT, "not connected").asked(ACPI),
            False,
            "the guest shut down by itself after 3.1 s, asked by ACPI (not through its agent: not connected)",
        ),
        (
            wanted(10.0).asked(AGENT).asked(ACPI).asked(ACPI),
            True,
            "the guest was killed after 3.1 s, asked through its agent and by ACPI",
        ),
        (
            wanted(10.0).refused(AGENT, "no").refused(ACPI, "none"),
            True,
            "the guest was killed after 3.1 s, and could not be asked (not through its agent: no; not by ACPI: none)",
        ),
    ],
    ids=["agent", "acpi", "killed", "could not be asked"],
)
def test_how_it_ended_names_the_ways_and_the_time(asking: Asking, killed: bool, text: str) -> None:
    told = asking.told(13.1, killed=killed)
    assert told is not None
    assert (told.text, told.after_s) == (text, 3.1)
    assert told.how == ("killed" if killed else asking.ways[-1])


def test_an_agent_that_answers_at_last_is_no_failure() -> None:
    asking = wanted(10.0).refused(AGENT, "it boots").asked(ACPI).asked(AGENT)
    assert (asking.ways, asking.failed) == ((ACPI, AGENT), ())


def test_the_time_counts_from_the_first_of_one_wish_and_an_old_wish_is_forgotten() -> None:
    assert wanted(10.0, 20.0, 30.0).first_s == 10.0
    assert wanted(10.0, 10.1 + FORGET_S).first_s == 10.1 + FORGET_S
    late = wanted(10.0).asked(AGENT)
    assert late.told(10.1 + FORGET_S, killed=False) is None, "it ended for another reason, long after"
    nobody: Any = Asking().told(10.0, killed=True)
    assert nobody is None, "nobody had asked it"
