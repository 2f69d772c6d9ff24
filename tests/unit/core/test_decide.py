"""What a guard decides: the invariants for every view there can be, and the rules one by one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnha.core import decide as rules
from mnha.core import lease as lease_rules
from mnha.core import state as outlook
from mnha.core.model import MAX_UNANSWERED, Action, Move, Op, Order, Pause, Phase, Run, State, View, Vm

from .views import NOW_S, lease, sighting, view

MOMENTS = st.sampled_from([float("-inf"), NOW_S - 60.0, NOW_S - 1.0, NOW_S, NOW_S + 0.1, NOW_S + 4.0])
SIGHTINGS = st.none() | st.builds(
    lambda holder, phase, target, source, age_s: sighting(
        lease(
            "" if phase is Phase.RELEASED else holder,
            phase,
            target=target if phase is Phase.MIGRATING else None,
            source=source,
        ),
        age_s,
    ),
    st.sampled_from(["me", "you", ""]),
    st.sampled_from(Phase),
    st.sampled_from(["me", "you", "she"]),
    st.none() | st.just("you"),
    st.sampled_from([0.0, 4.0, 6.0, 7.999, 8.0, 100.0]),
)
ORDERS = st.none() | st.builds(
    Order,
    op=st.sampled_from(Op),
    reason=st.just("ordered"),
    until_s=MOMENTS,
    epoch=st.sampled_from([6, 7, 8]),
    index=st.sampled_from([49, 50]),
    target=st.sampled_from(["", "you", "she"]),
    kill_s=MOMENTS,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "vm": st.sampled_from(Vm),
    "sighting": SIGHTINGS,
    "missing": st.booleans(),
    "granted_until_s": st.none() | st.sampled_from([NOW_S - 1.0, NOW_S, NOW_S + 0.1, NOW_S + 2.5, NOW_S + 5.0]),
    "unanswered": st.integers(0, MAX_UNANSWERED),
    "next_ask_s": MOMENTS,
    "must_read": st.booleans(),
    "next_read_s": MOMENTS,
    "next_kill_s": MOMENTS,
    "start_asked_s": st.none() | MOMENTS,
    "shutdown_asked_s": st.none() | MOMENTS,
    "next_shutdown_s": st.just(float("-inf")) | MOMENTS,
    "desired": st.none() | st.sampled_from(Run),
    "order": ORDERS,
    "unable": st.sampled_from(["", "no storage"]),
    "storage_lost_s": st.none() | MOMENTS,
    "storage_elsewhere": st.sampled_from(["", "you"]),
    "storage_limit_s": st.sampled_from([0.0, 12.0, float("inf")]),
    "storage_full": st.booleans(),
    "pause": st.sampled_from(Pause),
    "troubled_s": st.none() | MOMENTS,
    "resumes": st.sampled_from([0, 2, 3]),
    "next_resume_s": MOMENTS,
    "resuming": st.booleans(),
    "gave_up_s": MOMENTS,
    "give_up_every_s": st.sampled_from([0.0, 600.0]),
    "probed": st.booleans(),
    "failed_starts": st.integers(0, 4),
    "not_before_s": MOMENTS,
    "move": st.sampled_from(Move),
    "move_until_s": MOMENTS,
    "move_aborted": st.booleans(),
    "launched_epoch": st.sampled_from([-1, 6, 7]),
    "armed": st.booleans(),
    "fencer_there": st.booleans(),
    "fencer_owes": st.integers(0, 2),
    "promised_until_s": st.none() | st.sampled_from([NOW_S - 1.0, NOW_S, NOW_S + 2.4, NOW_S + 2.6, NOW_S + 5.0]),
    "expected_until_s": st.none() | st.sampled_from([NOW_S - 1.0, NOW_S + 4.0, NOW_S + 7.5, NOW_S + 8.0]),
    "barred": st.booleans(),
}
OFFERED = sighting(lease(phase=Phase.MIGRATING, target="you"))
MIGRATE = Order(Op.MIGRATE, "ordered", NOW_S + 30.0, target="you")
ARRIVED = sighting(lease(source="you"))
PROMISED = {"barred": False, "promised_until_s": NOW_S + 4.0}
ACTING: dict[Action, View] = {
    Action.KILL: view(vm=Vm.RUNNING, granted_until_s=None),
    Action.READ: view(must_read=True),
    Action.RENEW: view(vm=Vm.RUNNING, desired=Run.STARTED),
    Action.TAKE: view(
        sighting=sighting(lease("you"), 100.0),
        granted_until_s=None,
        desired=Run.STARTED,
        order=Order(Op.TAKEOVER, "ordered", NOW_S + 30.0, epoch=7, index=50),
    ),
    Action.RELEASE: view(desired=Run.STOPPED),
    Action.PREPARE: view(desired=Run.STARTED),
    Action.EXPECT: view(sighting=sighting(lease("you", Phase.MIGRATING, target="me")), granted_until_s=None),
    Action.BAR: view(sighting=sighting(lease("you")), granted_until_s=None, barred=False),
    Action.START: view(desired=Run.STARTED, **PROMISED),
    Action.SHUTDOWN: view(vm=Vm.RUNNING, desired=Run.STOPPED),
    Action.MIGRATE: view(vm=Vm.RUNNING, desired=Run.STARTED, sighting=OFFERED, order=MIGRATE),
    Action.ABORT: view(vm=Vm.RUNNING, desired=Run.STARTED, sighting=OFFERED, move=Move.UNDER_WAY),
    Action.HAND_OVER: view(desired=Run.STARTED, sighting=OFFERED, order=MIGRATE, move=Move.DONE),
    Action.RESUME: view(vm=Vm.ARRIVING, sighting=ARRIVED, **PROMISED),
    Action.UNPAUSE: view(vm=Vm.PAUSED, pause=Pause.IO_ERROR, desired=Run.STARTED, **PROMISED),
    Action.VOID_ORDER: view(order=dataclasses.replace(MIGRATE, until_s=NOW_S)),
}
"""A view for each action in which it is decided."""


def near(seen: View) -> st.SearchStrategy[View]:
    """Views that differ from `seen` in a few fields."""
    few = st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=3, unique=True)
    changes = few.flatmap(lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in names}))
    return changes.map(lambda changed: seen.but(**changed))


def around(*acting: Action) -> st.SearchStrategy[View]:
    """Any views, and those on the edge of these actions: of those made at random next to none would start anything."""
    return st.one_of(st.builds(view, **FIELDS), *(near(ACTING[action]) for action in acting))


VIEWS = around(*Action)


def actions(seen: View) -> list[Action]:
    """What is decided."""
    return [decision.action for decision in rules.decide(seen)]


def order(op: Op = Op.TAKEOVER, **more: object) -> Order:
    """An order that is still good."""
    return dataclasses.replace(Order(op, "ordered", NOW_S + 30.0, epoch=7, index=50), **more)  # type: ignore[arg-type]


# ---- invariants


@pytest.mark.parametrize("action", Action)
def test_the_views_come_near_to_every_action(action: Action) -> None:
    assert action in actions(ACTING[action])


@given(VIEWS)
@settings(max_examples=500)
def test_what_may_not_run_is_killed_first_of_all(seen: View) -> None:
    may = lease_rules.may_run_vm(seen) and (seen.sighting is None or lease_rules.is_mine(seen))
    if seen.vm is Vm.ARRIVING:  # it does not run
        may = lease_rules.may_arrive(seen)
    if seen.vm.may_write and not may and seen.now_s >= seen.next_kill_s:
        assert actions(seen)[0] is Action.KILL


@given(around(Action.START))
@settings(max_examples=500)
def test_nothing_is_started_but_with_the_lease_a_deadline_and_a_dead_vm(seen: View) -> None:
    if Action.START in actions(seen):
        assert lease_rules.is_mine(seen)
        assert seen.vm is Vm.OFF
        assert seen.desired is Run.STARTED
        assert seen.granted_until_s is not None
        assert seen.granted_until_s - seen.now_s >= seen.timings.deadline_s / 2


@given(around(Action.START, Action.RESUME, Action.UNPAUSE, Action.PREPARE))
@settings(max_examples=1000)
def test_nothing_comes_to_life_for_which_the_fencer_has_not_the_last_word(seen: View) -> None:
    if {Action.START, Action.RESUME, Action.UNPAUSE} & set(actions(seen)):
        assert not seen.fencer_owes
        assert seen.promised_until_s is not None
        assert seen.promised_until_s - seen.now_s >= seen.timings.deadline_s / 2
        assert Action.PREPARE not in actions(seen)


@given(around(Action.PREPARE, Action.START, Action.RESUME))
@settings(max_examples=1000)
def test_the_fencer_is_prepared_for_nothing_else_than_what_then_starts_or_resumes(seen: View) -> None:
    if Action.PREPARE in actions(seen):
        assert seen.granted_until_s is not None
        confirmed = seen.but(barred=False, promised_until_s=seen.granted_until_s, expected_until_s=None)
        assert (Action.RESUME if seen.vm is Vm.ARRIVING else Action.START) in actions(confirmed)


@given(VIEWS)
@settings(max_examples=1000)
def test_the_fencer_is_asked_only_while_it_answers(seen: View) -> None:
    if {Action.PREPARE, Action.EXPECT, Action.BAR} & set(actions(seen)):
        assert seen.fencer_there
        assert not seen.fencer_owes


@given(around(Action.RENEW, Action.KILL))
@settings(max_examples=1000)
def test_no_running_vm_is_renewed_for_of_which_the_fencer_can_not_be_told(seen: View) -> None:
    if seen.vm.may_write and (seen.fencer_owes or not seen.fencer_there):
        assert Action.RENEW not in actions(seen)


@given(around(Action.RELEASE, Action.HAND_OVER))
@settings(max_examples=1000)
def test_no_lease_is_given_away_while_the_fencer_lets_something_come_to_life(seen: View) -> None:
    if {Action.RELEASE, Action.HAND_OVER} & set(actions(seen)):
        assert seen.barred


@given(around(Action.EXPECT, Action.BAR))
@settings(max_examples=1000)
def test_the_fencer_lets_a_migration_bring_the_vm_only_while_it_is_offered(seen: View) -> None:
    if Action.EXPECT in actions(seen):
        assert seen.lease is not None
        assert (seen.lease.phase, seen.lease.target) == (Phase.MIGRATING, "me")
        assert not lease_rules.is_expired(seen)
        assert seen.vm in (Vm.OFF, Vm.ARRIVING)


@given(around(Action.BAR, Action.PREPARE, Action.EXPECT))
@settings(max_examples=1000)
def test_only_a_dead_vm_is_barred_and_every_dead_one_that_is_not_to_live(seen: View) -> None:
    """A VM that is alive is barred by the kill, not by a decision of its own."""
    decided = set(actions(seen))
    if Action.BAR in decided:
        assert seen.vm is Vm.OFF
    if seen.vm is Vm.OFF and seen.fencer_there and not seen.fencer_owes and not seen.barred:
        lives = decided & {Action.PREPARE, Action.START}
        assert (Action.BAR in decided) is not (bool(lives) or lease_rules.is_offered(seen))


@given(around(Action.RELEASE, Action.TAKE, Action.HAND_OVER))
@settings(max_examples=500)
def test_no_lease_is_given_back_or_taken_while_a_vm_may_be_alive(seen: View) -> None:
    if seen.vm.may_write:
        assert not {Action.RELEASE, Action.TAKE, Action.HAND_OVER} & set(actions(seen))


@given(around(Action.TAKE))
@settings(max_examples=500)
def test_a_lease_is_taken_only_when_ordered_and_free_or_expired(seen: View) -> None:
    if Action.TAKE in actions(seen):
        assert seen.order is not None
        assert seen.order.op is Op.TAKEOVER
        assert seen.sighting is not None
        assert seen.sighting.lease.epoch == seen.order.epoch
        age_s = seen.now_s - seen.sighting.received_s
        assert seen.sighting.lease.phase is Phase.RELEASED or age_s >= seen.timings.lease_s


@given(around(Action.RENEW, Action.RELEASE, Action.HAND_OVER, Action.MIGRATE))
@settings(max_examples=500)
def test_only_a_holder_renews_or_gives_back(seen: View) -> None:
    if {Action.RENEW, Action.RELEASE, Action.HAND_OVER, Action.MIGRATE} & set(actions(seen)):
        assert lease_rules.is_mine(seen)


@given(around(Action.RESUME))
@settings(max_examples=1000)
def test_what_a_migration_brought_is_resumed_only_when_handed_over_and_renewed(seen: View) -> None:
    if Action.RESUME in actions(seen):
        assert seen.vm is Vm.ARRIVING
        assert seen.lease is not None
        assert (seen.lease.holder, seen.lease.phase, seen.lease.source) == ("me", Phase.HELD, "you")
        assert seen.launched_epoch != seen.lease.epoch
        assert seen.granted_until_s is not None
        assert seen.granted_until_s > seen.now_s


@given(around(Action.UNPAUSE))
@settings(max_examples=1000)
def test_a_vm_is_resumed_only_by_its_holder_and_only_if_its_disk_has_paused_it(seen: View) -> None:
    if Action.UNPAUSE in actions(seen):
        assert seen.vm is Vm.PAUSED
        assert seen.pause in (Pause.IO_ERROR, Pause.NO_SPACE)
        assert seen.desired is Run.STARTED
        assert lease_rules.is_mine(seen)
        assert seen.granted_until_s is not None
        assert seen.granted_until_s - seen.now_s >= seen.timings.deadline_s / 2
        assert (seen.move, seen.lease and seen.lease.phase) == (Move.NONE, Phase.HELD)
        assert seen.storage_lost_s is None


@given(around(Action.HAND_OVER))
@settings(max_examples=1000)
def test_a_lease_is_handed_over_only_to_where_libvirt_says_the_vm_is(seen: View) -> None:
    if Action.HAND_OVER in actions(seen):
        assert seen.move is Move.DONE
        assert seen.order is not None
        assert seen.lease is not None
        assert seen.order.target == seen.lease.target


@given(around(Action.START))
@settings(max_examples=1000)
def test_nothing_is_started_while_a_migration_may_still_end_well(seen: View) -> None:
    if seen.move is not Move.NONE or (seen.lease and seen.lease.phase is Phase.MIGRATING):
        assert Action.START not in actions(seen)


@given(VIEWS)
@settings(max_examples=500)
def test_every_view_has_a_state_and_a_next_moment_that_lies_ahead(seen: View) -> None:
    assert outlook.describe(seen) in State
    assert outlook.next_moment(seen) > seen.now_s


@given(VIEWS, st.floats(min_value=0.0, max_value=1.0, exclude_max=True))
@settings(max_examples=500)
def test_nothing_new_is_to_be_done_before_the_next_moment(seen: View, part: float) -> None:
    """Else the guard would sleep through it."""
    ahead_s = min(outlook.next_moment(seen), seen.now_s + 100.0) - seen.now_s
    between = seen.but(now_s=seen.now_s + part * ahead_s)
    if between.now_s < outlook.next_moment(seen):
        assert actions(between) == actions(seen)


# ---- rules


def test_no_lease_is_taken_while_a_vm_may_be_alive_here() -> None:
    ready = view(sighting=sighting(lease("you"), 9.0), granted_until_s=None, desired=Run.STARTED, order=order())
    assert actions(ready) == [Action.TAKE]
    assert Action.TAKE not in actions(ready.but(vm=Vm.UNKNOWN))


def test_a_running_vm_is_renewed_for_and_left_alone() -> None:
    assert actions(view(vm=Vm.RUNNING, desired=Run.STARTED)) == [Action.RENEW]


@pytest.mark.parametrize("unconfirmed", ["deadline over", "no deadline", "held by another", "released"])
def test_a_vm_is_killed_when_the_lease_is_not_confirmed(unconfirmed: str) -> None:
    fields = {
        "deadline over": {"granted_until_s": NOW_S},
        "no deadline": {"granted_until_s": None},
        "held by another": {"sighting": sighting(lease("you"))},
        "released": {"sighting": sighting(lease("", Phase.RELEASED))},
    }[unconfirmed]
    assert actions(view(vm=Vm.RUNNING, **fields))[0] is Action.KILL


def test_at_the_deadline_the_reason_says_when_it_is_the_fencer_that_does_not_answer() -> None:
    late = view(vm=Vm.RUNNING, granted_until_s=NOW_S)
    assert rules.fence_reason(late) == "no renewal was confirmed for 5 s"
    for silent in ({"fencer_there": False}, {"fencer_owes": 1}):
        assert rules.fence_reason(late.but(**silent)).endswith(": the fencer of me does not answer")


def test_a_guard_wakes_when_what_the_fencer_promised_is_not_enough_for_a_start_any_more() -> None:
    seen = view(desired=Run.STARTED, granted_until_s=NOW_S + 4.9, barred=False, promised_until_s=NOW_S + 3.0)
    assert Action.START in actions(seen)
    assert outlook.next_moment(seen.but(next_ask_s=NOW_S + 9.0)) == NOW_S + 0.5
    assert Action.PREPARE in actions(seen.but(now_s=NOW_S + 0.5))


def test_a_vm_that_was_handed_over_runs_until_its_deadline_though_no_lease_was_seen() -> None:
    assert Action.KILL not in actions(view(vm=Vm.UNKNOWN, sighting=None))
    assert actions(view(vm=Vm.UNKNOWN, sighting=None, granted_until_s=NOW_S))[0] is Action.KILL


@pytest.mark.parametrize(
    ("lost_for_s", "elsewhere", "expected"),
    [
        (12.0, "you", [Action.KILL]),
        (11.9, "you", [Action.RENEW]),
        (60.0, "", [Action.RENEW]),
        (None, "you", [Action.RENEW]),
    ],
    ids=["long_enough", "not_yet", "nobody_reaches_it", "it_answers"],
)
def test_a_vm_whose_image_is_out_of_reach_only_here_is_killed_and_not_renewed_for(
    lost_for_s: float | None, elsewhere: str, expected: list[Action]
) -> None:
    since_s = None if lost_for_s is None else NOW_S - lost_for_s
    seen = view(
        vm=Vm.RUNNING,
        armed=True,
        desired=Run.STARTED,
        unable="the storage does not answer" if lost_for_s else "",
        storage_lost_s=since_s,
        storage_elsewhere=elsewhere,
        storage_limit_s=12.0,
    )
    assert actions(seen) == expected
    if expected == [Action.KILL]:
        assert "out of reach here for 12 s, and not on you" in rules.decide(seen)[0].reason


def test_a_guard_wakes_when_the_image_has_been_out_of_reach_for_too_long() -> None:
    seen = view(
        vm=Vm.RUNNING,
        granted_until_s=NOW_S + 4.9,
        storage_lost_s=NOW_S - 8.0,
        storage_elsewhere="you",
        storage_limit_s=12.0,
    )
    assert outlook.next_moment(seen.but(next_ask_s=float("inf"), sighting=sighting(age_s=0.0))) <= NOW_S + 4.0


def test_with_the_image_out_of_reach_the_lease_is_given_back_once_the_vm_is_dead() -> None:
    lost = {"unable": "the storage fails", "storage_lost_s": NOW_S - 20.0, "storage_elsewhere": "you"}
    dying = view(vm=Vm.RUNNING, desired=Run.STARTED, storage_limit_s=12.0, next_kill_s=NOW_S + 0.1, armed=True, **lost)
    assert actions(dying) == []
    assert actions(dying.but(vm=Vm.OFF)) == [Action.RELEASE]


def test_with_no_watchdog_a_vm_out_of_its_storages_reach_keeps_the_lease_until_it_is_dead() -> None:
    lost = {"unable": "the storage fails", "storage_lost_s": NOW_S - 20.0, "storage_elsewhere": "you"}
    dying = view(vm=Vm.RUNNING, desired=Run.STARTED, storage_limit_s=12.0, **lost)
    assert actions(dying) == [Action.KILL, Action.RENEW]
    assert actions(dying.but(next_kill_s=NOW_S + 0.1)) == [Action.RENEW]
    assert actions(dying.but(vm=Vm.OFF)) == [Action.RELEASE]


def test_a_kill_under_way_is_not_repeated_at_once() -> None:
    assert Action.KILL not in actions(view(vm=Vm.RUNNING, granted_until_s=None, next_kill_s=NOW_S + 0.1))


def test_a_missing_answer_keeps_nobody_from_the_next_renewal() -> None:
    assert Action.RENEW in actions(view(vm=Vm.RUNNING, desired=Run.STARTED, unanswered=4))
    assert Action.RENEW not in actions(view(vm=Vm.RUNNING, desired=Run.STARTED, unanswered=MAX_UNANSWERED))


def test_after_a_refusal_the_lease_is_read_before_anything_is_asked() -> None:
    assert actions(view(vm=Vm.RUNNING, desired=Run.STARTED, must_read=True)) == [Action.READ]


def test_a_start_waits_until_more_than_half_of_the_deadline_is_ahead() -> None:
    ready = view(desired=Run.STARTED, barred=False, promised_until_s=NOW_S + 5.0)
    assert Action.START in actions(ready.but(granted_until_s=NOW_S + 2.6))
    assert Action.START not in actions(ready.but(granted_until_s=NOW_S + 2.5))
    assert Action.START in actions(ready.but(promised_until_s=NOW_S + 2.6))
    assert Action.START not in actions(ready.but(promised_until_s=NOW_S + 2.5))


def test_a_lease_with_an_unwanted_vm_is_given_back() -> None:
    assert actions(view(desired=Run.STOPPED)) == [Action.RELEASE]


def test_a_lease_is_kept_until_the_first_probes_are_done() -> None:
    """A guard that restarts on a node with nobody to order another must start its VM again itself."""
    unknown = view(desired=Run.STARTED, unable="not probed", probed=False, granted_until_s=None)
    assert actions(unknown) == []
    assert actions(unknown.but(probed=True)) == [Action.RELEASE]
    assert actions(unknown.but(probed=True, unable="")) == [Action.RENEW]


def test_a_lease_is_kept_while_nobody_knows_the_wish() -> None:
    assert Action.RELEASE not in actions(view(desired=None))


def test_a_guest_is_asked_to_shut_down_now_and_then_and_killed_when_it_does_not() -> None:
    running = view(vm=Vm.RUNNING, desired=Run.STOPPED)
    assert Action.SHUTDOWN in actions(running)
    asked = running.but(shutdown_asked_s=NOW_S - 1.0, next_shutdown_s=NOW_S + 9.0)
    assert Action.SHUTDOWN not in actions(asked)
    assert Action.SHUTDOWN in actions(asked.but(next_shutdown_s=NOW_S))
    assert Action.KILL in actions(running.but(shutdown_asked_s=NOW_S - 60.0))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"sighting": sighting(lease("you", epoch=8), 9.0)}, "has the lease by now"),
        ({"sighting": sighting(lease("you"), 0.1, index=51)}, "has renewed"),
        ({"desired": Run.STOPPED}, "not to run"),
        ({"unable": "no storage"}, "no storage"),
        ({"fencer_there": False}, "its fencer does not answer"),
        ({"not_before_s": NOW_S + 5.0}, "backs off for 5 s"),
    ],
)
def test_an_order_that_was_overtaken_is_ended_with_the_reason(fields: dict[str, object], word: str) -> None:
    armed = view(sighting=sighting(lease("you"), 6.0), granted_until_s=None, desired=Run.STARTED, order=order())
    assert actions(armed) == []
    [decision] = [one for one in rules.decide(armed.but(**fields)) if one.action is Action.VOID_ORDER]
    assert word in decision.reason


def test_while_the_lease_is_in_doubt_no_order_is_ended() -> None:
    doubtful = view(sighting=sighting(lease("you"), 6.0), granted_until_s=None, order=order(), must_read=True)
    assert actions(doubtful) == [Action.READ]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"sighting": None, "granted_until_s": None}, State.NO_QUORUM),
        ({"sighting": None, "granted_until_s": None, "missing": True}, State.UNINITIALISED),
        ({"vm": Vm.RUNNING}, State.RUNNING),
        ({"vm": Vm.STARTING}, State.STARTING),
        ({"vm": Vm.RUNNING, "shutdown_asked_s": NOW_S}, State.STOPPING),
        ({"vm": Vm.RUNNING, "granted_until_s": NOW_S}, State.SELF_FENCING),
        ({"granted_until_s": NOW_S}, State.RENEWING),
        ({}, State.DEGRADED),
        ({"sighting": sighting(lease("you"))}, State.STANDBY),
        ({"sighting": sighting(lease("you")), "order": order()}, State.WAITING),
        ({"sighting": sighting(lease("you")), "order": order(), "unanswered": 1}, State.TAKING_OVER),
        ({"sighting": sighting(lease("", Phase.RELEASED)), "desired": Run.STOPPED}, State.STOPPED),
    ],
)
def test_states(fields: dict[str, object], state: State) -> None:
    assert outlook.describe(view(**fields)) is state


# ---- without an order


ALONE = {
    "masterless_s": 2.0,
    "ranking": ("you", "me", "she"),
    "turns": ("you", "me", "she"),
    "desired": Run.STARTED,
}
BLIND, FAILED = {"turns": None}, {"last_until_s": NOW_S}


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        ({"sighting": sighting(lease("you"), 8.0 + 2.0)}, [Action.TAKE]),
        ({"sighting": sighting(lease("you"), 8.0 + 1.9)}, []),
        # The second in turn, as "you" has not lost it: half a second later.
        ({"sighting": sighting(lease("she"), 8.0 + 2.4)}, []),
        ({"sighting": sighting(lease("she"), 8.0 + 2.5)}, [Action.TAKE]),
        # The others are known to be unfit: it does not wait for them.
        ({"sighting": sighting(lease("she"), 8.0 + 2.0), "turns": ("me",)}, [Action.TAKE]),
        # Not fit itself, by what it knows of itself.
        ({"sighting": sighting(lease("she"), 60.0), "turns": ("you",)}, []),
        ({"sighting": sighting(lease("she"), 60.0), "turns": ()}, []),
        # It does not know how the others are: after all of them, in a fixed order.
        ({"sighting": sighting(lease("you"), 8.0 + 3.4), **BLIND}, []),
        ({"sighting": sighting(lease("you"), 8.0 + 3.5), **BLIND}, [Action.TAKE]),
        ({"sighting": sighting(lease("she"), 8.0 + 3.9), **BLIND}, []),
        ({"sighting": sighting(lease("she"), 8.0 + 4.0), **BLIND}, [Action.TAKE]),
        # It could not start the VM lately: after all others.
        ({"sighting": sighting(lease("you"), 8.0 + 3.4), **FAILED}, []),
        ({"sighting": sighting(lease("you"), 8.0 + 3.5), **FAILED}, [Action.TAKE]),
        ({"sighting": sighting(lease("you"), 8.0 + 4.9), **FAILED, **BLIND}, []),
        ({"sighting": sighting(lease("you"), 8.0 + 5.0), **FAILED, **BLIND}, [Action.TAKE]),
        # Given back: whoever did so may be moving it on, and masters hear of it later. Nobody is left out.
        ({"sighting": sighting(lease("", Phase.RELEASED), 5.4)}, []),
        ({"sighting": sighting(lease("", Phase.RELEASED), 5.5)}, [Action.TAKE]),
        ({"sighting": sighting(lease("you"), 60.0), "masterless_s": 0.0}, []),
        ({"sighting": sighting(lease("you"), 60.0), "ranking": (), **BLIND}, []),
        ({"sighting": sighting(lease("you"), 60.0), "desired": Run.STOPPED}, []),
        ({"sighting": sighting(lease("you"), 60.0), "desired": None}, []),
        ({"sighting": sighting(lease("you"), 60.0), "desired_since_s": NOW_S - 1.9}, []),
        ({"sighting": sighting(lease("you"), 60.0), "unable": "no storage"}, []),
        ({"sighting": sighting(lease("you"), 60.0), "fencer_there": False}, []),
        ({"sighting": sighting(lease("you"), 60.0), "not_before_s": NOW_S + 0.1}, []),
        ({"sighting": sighting(lease("you"), 60.0), "ending": "the guard was stopped"}, []),
        ({"sighting": sighting(lease("you"), 60.0), "vm": Vm.UNKNOWN, "next_kill_s": NOW_S + 1.0}, []),
    ],
)
def test_a_node_that_nobody_orders_takes_over_in_its_turn(situation: dict[str, Any], expected: list[Action]) -> None:
    assert actions(view(**{"vm": Vm.OFF, **ALONE, **situation})) == expected


@given(around(Action.TAKE))
@settings(max_examples=500)
def test_of_its_own_accord_too_nothing_is_taken_that_is_not_to_be_had(seen: View) -> None:
    alone = seen.but(order=None, **{**ALONE, "desired": seen.desired})
    if Action.TAKE in actions(alone):
        assert lease_rules.may_take(alone)
        assert alone.vm is Vm.OFF
        assert not lease_rules.is_mine(alone)


@given(around(Action.TAKE))
@settings(max_examples=500)
def test_a_guard_wakes_for_the_take_over_that_nobody_orders(seen: View) -> None:
    alone = seen.but(order=None, **{**ALONE, "desired": seen.desired})
    at_s = lease_rules.masterless_at_s(alone)
    if alone.now_s < at_s < float("inf"):
        assert outlook.next_moment(alone) <= at_s
