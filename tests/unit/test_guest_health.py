"""When a guest counts as hung."""

from __future__ import annotations

from mnha.daemon.adapters.health import Health, judge

SILENT = {"guest agent": "timed out", "port 80": "refused"}
ONE_ANSWER = {"guest agent": "timed out", "port 80": ""}


def rounds(*answers: dict[str, str], overdue: bool = False) -> Health:
    health = Health()
    for failures in answers:
        health = judge(health, failures, 3, overdue=overdue)
    return health


def test_a_guest_that_answered_and_then_is_silent_three_times_is_hung() -> None:
    assert not rounds(ONE_ANSWER, SILENT, SILENT).hung
    hung = rounds(ONE_ANSWER, SILENT, SILENT, SILENT)
    assert hung.hung
    assert "guest agent: timed out; port 80: refused" in hung.why


def test_any_answer_of_any_way_starts_the_count_again() -> None:
    assert not rounds(ONE_ANSWER, SILENT, SILENT, ONE_ANSWER, SILENT, SILENT).hung


def test_a_guest_that_never_answered_is_told_but_not_hung() -> None:
    assert rounds(*[SILENT] * 50).why == ""
    told = rounds(*[SILENT] * 50, overdue=True)
    assert not told.hung
    assert told.why.startswith("it has never answered")


def test_with_no_way_to_ask_nothing_is_hung() -> None:
    assert not rounds(*[{}] * 50, overdue=True).hung
