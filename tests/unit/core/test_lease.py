"""The lease's rules."""

from __future__ import annotations

import dataclasses

import pytest

from mnha.core import lease as rules
from mnha.core.model import Phase
from mnha.core.timing import LONGEST_S, PROFILES, Timings

from .views import NOW_S, TIMINGS, lease, sighting, view


def test_the_deadline_counts_from_the_question() -> None:
    assert rules.deadline_after(100.0, TIMINGS) == 105.0


@pytest.mark.parametrize(
    ("granted_until_s", "may"), [(None, False), (NOW_S - 0.001, False), (NOW_S, False), (NOW_S + 0.001, True)]
)
def test_a_vm_may_run_until_its_deadline_and_not_at_it(granted_until_s: float | None, may: bool) -> None:
    assert rules.may_run_vm(view(granted_until_s=granted_until_s)) is may


@pytest.mark.parametrize(
    ("holder", "phase", "mine"),
    [
        ("me", Phase.HELD, True),
        ("me", Phase.MIGRATING, True),
        ("me", Phase.RELEASED, False),
        ("you", Phase.HELD, False),
        ("", Phase.HELD, False),
    ],
)
def test_a_lease_is_mine_by_name_and_unless_released(holder: str, phase: Phase, mine: bool) -> None:
    assert rules.is_mine(view(sighting=sighting(lease(holder, phase)))) is mine


def test_a_lease_never_seen_is_nobodys_and_may_not_be_taken() -> None:
    blind = view(sighting=None)
    assert not rules.is_mine(blind)
    assert not rules.may_take(blind)


@pytest.mark.parametrize(("age_s", "may"), [(0.0, False), (7.999, False), (8.0, True)])
def test_a_held_lease_may_be_taken_after_l(age_s: float, may: bool) -> None:
    assert rules.may_take(view(sighting=sighting(lease("you"), age_s))) is may


def test_a_released_lease_may_be_taken_at_once() -> None:
    assert rules.may_take(view(sighting=sighting(lease("", Phase.RELEASED), 0.0)))


def test_an_observer_waits_by_the_longer_timings() -> None:
    seen = sighting(lease("you"), 0.0)
    assert rules.expires_s(seen, PROFILES["fast"]) == NOW_S + TIMINGS.lease_s
    assert rules.overdue_s(seen, PROFILES["fast"]) == NOW_S + 3 * TIMINGS.renew_s


def test_an_installation_creates_a_lease_that_must_expire_first() -> None:
    """It may replace one that was deleted under a running VM."""
    assert not rules.may_take(view(sighting=sighting(rules.first(TIMINGS), 0.0)))


def test_a_lease_that_is_created_again_is_waited_for_as_long_as_any_timings_allow() -> None:
    again = rules.created_again(PROFILES["fast"])
    assert (again.holder, again.phase, again.epoch) == ("", Phase.HELD, 0)
    longest = Timings(renew_s=1.0, deadline_s=57.0, kill_s=2.0, lease_s=LONGEST_S)
    assert not rules.may_take(view(sighting=sighting(again, age_s=longest.reset_s)))
    assert rules.may_take(view(sighting=sighting(again, age_s=LONGEST_S)))


def test_the_epoch_grows_exactly_when_the_lease_changes_hands() -> None:
    old = lease("you")
    assert rules.renewed(old, TIMINGS).epoch == rules.released(old, "why").epoch == old.epoch
    assert rules.taken(old, "me", TIMINGS, "why").epoch == old.epoch + 1


def test_every_write_grows_the_sequence() -> None:
    old = lease("you")
    records = (rules.renewed(old, TIMINGS), rules.released(old, "why"), rules.taken(old, "me", TIMINGS, "why"))
    assert {record.seq for record in records} == {old.seq + 1}


def test_a_renewal_tells_the_timings_in_force() -> None:
    assert rules.renewed(lease(), PROFILES["fast"]).timings == PROFILES["fast"]


def test_a_released_lease_names_nobody() -> None:
    free = rules.released(lease("you", target="him"), "why")
    assert (free.holder, free.target, free.phase, free.reason) == ("", None, Phase.RELEASED, "why")


@pytest.mark.parametrize(
    ("holder", "epoch", "is_so"),
    [("me", 7, True), ("me", 6, True), ("me", 8, False), ("you", 7, False), ("you", 6, False), ("", 7, False)],
)
def test_a_holder_that_changes_without_an_epoch_of_its_own_was_written_by_nobody_who_may(
    holder: str, epoch: int, is_so: bool
) -> None:
    before = lease("you")
    after = dataclasses.replace(before, holder=holder, epoch=epoch)
    assert rules.is_out_of_turn(before, after) is is_so
