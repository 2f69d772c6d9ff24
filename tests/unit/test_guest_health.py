"""When a guest counts as hung: never for want of one answer alone."""

from __future__ import annotations

import pytest

from mnha.core.hang import Health, Patience, Reply, Word, judge

PATIENCE = Patience(failures=3, boot_s=300.0)
AGENT_SILENT, PORT_SILENT = Reply(Word.SILENT, "timed out"), Reply(Word.SILENT, "no route")
AWAY, ANSWER = Reply(Word.NOT_ASKED, "libvirtd does not answer"), Reply(Word.ANSWERED)
ONE = {"guest agent": AGENT_SILENT}
BOTH = {"guest agent": AGENT_SILENT, "port 80": PORT_SILENT}
PORT_ANSWERS = {"guest agent": AGENT_SILENT, "port 80": ANSWER}
NOBODY_ASKED = {"guest agent": AWAY}
ROUND_S = 8.0


def rounds(*replies: dict[str, Reply], ran: bool | None = True, before: Health | None = None) -> Health:
    health = before or Health(answered=True)
    for one in replies:
        health = judge(health, one, PATIENCE, ran=ran, passed_s=ROUND_S, overdue=False)
    return health


@pytest.mark.parametrize("replies", [ONE, BOTH])
def test_a_silent_guest_whose_virtual_cpus_stand_still_is_hung_after_three_rounds(replies: dict[str, Reply]) -> None:
    assert not rounds(*[replies] * 2, ran=False).hung
    hung = rounds(*[replies] * 3, ran=False)
    assert hung.hung
    assert hung.why.startswith("guest agent: timed out")
    assert hung.why.endswith("its virtual CPUs stand still")


@pytest.mark.parametrize("ran", [True, None])
def test_an_agent_that_is_silent_for_ever_is_told_of_and_never_hung_while_the_guest_lives(ran: bool | None) -> None:
    """It is upgraded, or was stopped."""
    silent = rounds(*[ONE] * 1000, ran=ran)
    assert (silent.hung, silent.absent, silent.failures, silent.silent_s) == (False, True, 1000, 8000.0)
    assert not rounds(*[ONE] * 30, ran=ran).absent, "not yet longer than a boot may take"


def test_one_moment_in_which_a_virtual_cpu_runs_starts_the_count_again() -> None:
    health = rounds(*[ONE] * 2, ran=False)
    assert rounds(ONE, ran=True, before=health).still == 0
    assert not rounds(ONE, ONE, ran=False, before=rounds(ONE, ran=True, before=health)).hung


def test_that_nobody_could_ask_counts_for_nothing() -> None:
    health = rounds(*[ONE] * 2, ran=False)
    away = rounds(*[NOBODY_ASKED] * 100, ran=False, before=health)
    assert (away.failures, away.still, away.silent_s, away.hung) == (2, 2, 16.0, False)
    assert away.why == "it could not be asked: guest agent: libvirtd does not answer"
    assert rounds(ONE, ran=False, before=away).hung


def test_several_ways_that_are_all_silent_hang_a_guest_only_after_the_time_of_a_boot() -> None:
    """It may reboot, or shut down slowly, its network gone already."""
    assert not rounds(*[BOTH] * 37).hung
    hung = rounds(*[BOTH] * 38)
    assert hung.hung
    assert hung.why.endswith("all of it for 304 s")
    assert not rounds(*[PORT_ANSWERS] * 100).hung
    assert not rounds(*[{**BOTH, "port 80": AWAY}] * 100).hung, "the second way was not asked"


def test_without_knowing_whether_the_cpus_run_a_silent_guest_is_not_hung() -> None:
    assert not rounds(*[BOTH] * 1000, ran=None).hung


def test_any_answer_of_any_way_starts_the_count_again() -> None:
    assert rounds(*[BOTH] * 2, PORT_ANSWERS, ran=False) == Health(answered=True, why="guest agent: timed out")


def test_a_guest_that_never_answered_is_told_but_not_hung() -> None:
    def never(overdue: bool) -> Health:
        health = Health()
        for _ in range(50):
            health = judge(health, BOTH, PATIENCE, ran=False, passed_s=ROUND_S, overdue=overdue)
        return health

    assert never(overdue=False).why == ""
    assert not never(overdue=True).hung
    assert never(overdue=True).why.startswith("it has never answered")


def test_with_no_way_to_ask_nothing_is_hung() -> None:
    assert not rounds(*[{}] * 50, ran=False).hung
