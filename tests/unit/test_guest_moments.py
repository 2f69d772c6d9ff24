"""When a guest is asked for its addresses, and when they are set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnha.guest.moments import BOOT_S, CALM_S, HURRY_S, IN_A_HURRY_S, PATIENCE_S, SETTLE_S, Begin, Found, Moments

NOW_S = 1000.0


def asked(moments: Moments, *answers: Found) -> list[float]:
    """After how many seconds each time they are to be set; what is set succeeds."""
    found = []
    for answer in answers:
        now_s = moments.next_s
        if moments.answered(now_s, answer):
            found.append(now_s - NOW_S)
            moments.was_set(now_s, well=True)
    return found


@pytest.mark.parametrize("found", list(Found))
def test_a_guest_that_a_migration_has_brought_is_set_at_once(found: Found) -> None:
    assert asked(Moments(Begin.RUNNING, NOW_S), found) == [0.0]


def test_a_guest_that_boots_right_is_told_where_it_runs_and_left_alone() -> None:
    moments = Moments(Begin.BOOT, NOW_S)
    assert asked(moments, *[Found.RIGHT] * 5) == [SETTLE_S]
    assert moments.is_right
    assert moments.next_s - NOW_S == SETTLE_S + 4 * CALM_S, "asked now and then only"


def test_a_guest_that_has_configured_itself_otherwise_is_set_when_that_lasts() -> None:
    assert asked(Moments(Begin.BOOT, NOW_S), Found.OTHER, Found.OTHER) == [SETTLE_S]
    assert asked(Moments(Begin.BOOT, NOW_S), Found.OTHER, Found.RIGHT, Found.OTHER) == [SETTLE_S], "it is right by then"


def test_a_guest_that_may_be_about_to_configure_itself_is_not_disturbed() -> None:
    moments = Moments(Begin.BOOT, NOW_S)
    (set_s,) = asked(moments, *[Found.MISSING] * 8)
    assert BOOT_S <= set_s < BOOT_S + SETTLE_S
    late = Moments(Begin.BOOT, NOW_S)
    assert asked(late, Found.MISSING, Found.MISSING, Found.RIGHT) == [2 * SETTLE_S], "it has"


def test_addresses_that_somebody_changes_later_are_set_again_once_that_lasts() -> None:
    moments = Moments(Begin.RUNNING, NOW_S)
    assert asked(moments, Found.RIGHT, Found.MISSING, Found.MISSING) == [0.0, CALM_S + SETTLE_S]
    again = Moments(Begin.RUNNING, NOW_S)
    assert asked(again, Found.RIGHT, Found.OTHER, Found.RIGHT, Found.OTHER) == [0.0], "each for a moment only"


def test_a_failure_is_tried_again_later_and_later() -> None:
    moments, now_s, pauses = Moments(Begin.RUNNING, NOW_S), NOW_S, []
    for _ in range(20):
        assert moments.answered(now_s, Found.OTHER)
        moments.was_set(now_s, well=False)
        pauses.append(moments.next_s - now_s)
        now_s = moments.next_s
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (SETTLE_S, CALM_S)
    assert not moments.is_right


def test_a_silent_agent_is_asked_in_a_hurry_only_after_a_migration_and_seldom_when_it_stays_silent() -> None:
    def pauses(how: Begin) -> list[float]:
        moments, found = Moments(how, NOW_S), []
        while moments.next_s < NOW_S + 2 * PATIENCE_S:
            now_s = moments.next_s
            moments.silent(now_s)
            found.append(moments.next_s - now_s)
        return found

    arrived, boots = pauses(Begin.RUNNING), pauses(Begin.BOOT)
    assert arrived[: int(IN_A_HURRY_S / HURRY_S)] == [HURRY_S] * int(IN_A_HURRY_S / HURRY_S)
    assert set(boots) == {SETTLE_S, CALM_S}
    assert arrived[-1] == boots[-1] == CALM_S


def test_an_agent_is_overdue_when_a_boot_should_have_ended_or_soon_after_an_arrival() -> None:
    boots, arrived = Moments(Begin.BOOT, NOW_S), Moments(Begin.RUNNING, NOW_S)
    assert [boots.is_overdue(NOW_S + after_s, 300.0) for after_s in (0, 300, 301)] == [False, False, True]
    assert [arrived.is_overdue(NOW_S + after_s, 300.0) for after_s in (0, CALM_S, CALM_S + 1)] == [False, False, True]
    asked(arrived, Found.RIGHT)
    assert not arrived.is_overdue(NOW_S + 10_000, 300.0), "it was heard"


ANSWERS = st.lists(st.sampled_from([*Found, None, "fails"]), max_size=60)


@given(st.sampled_from(list(Begin)), ANSWERS)
def test_time_goes_on_whatever_the_guest_says(how: Begin, answers: list[Found | str | None]) -> None:
    moments = Moments(how, NOW_S)
    for answer in answers:
        now_s = moments.next_s
        if answer is None:
            moments.silent(now_s)
        elif moments.answered(now_s, answer if isinstance(answer, Found) else Found.OTHER):
            moments.was_set(now_s, well=answer != "fails")
        assert HURRY_S <= moments.next_s - now_s <= CALM_S


@given(st.lists(st.sampled_from([Found.OTHER, Found.MISSING]), min_size=1, max_size=60), st.sampled_from(list(Begin)))
def test_addresses_that_stay_wrong_are_set_soon(answers: list[Found], how: Begin) -> None:
    moments = Moments(how, NOW_S)
    while moments.next_s < NOW_S + BOOT_S + SETTLE_S:
        for answer in answers:
            if asked(moments, answer):
                return
    pytest.fail("never set")
