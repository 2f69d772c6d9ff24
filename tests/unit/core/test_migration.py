"""A live migration, step by step, at its source and at its target."""

from __future__ import annotations

import dataclasses

import pytest

from mnha.core.guard import OUTCOME_S, Limits
from mnha.core.lease import handed_over, renewed
from mnha.core.model import Lease, Move, Op, Pause, Phase, Run, State, Vm
from mnha.core.ports import DesiredSeen, Ended, Moved, Ordered, Outcome, StartFailed, VmSeen

from .test_guard import Rig
from .views import TIMINGS, lease

NODES = Limits(ranking=("me", "you", "she"))


def source() -> Rig:
    """A guard that runs the VM, and has been ordered to migrate it to ``you``, as it stands in the record."""
    rig = Rig(limits=NODES).holds()
    rig.after(0.5)
    assert rig.on(Ordered(Op.MIGRATE, 9, "maintenance", 60.0, target="you")) == ["cas"]
    record, _, _ = rig.values("cas")[0]
    assert (record.phase, record.target, record.holder, record.epoch) == (Phase.MIGRATING, "you", "me", 8)
    return rig


def moving() -> Rig:
    """The same with the migration under way."""
    rig = source()
    assert "migrate" not in rig.on(rig.granted())  # the target's guard has to hear of it first
    assert "migrate" in rig.after(TIMINGS.renew_s)
    assert rig.values("migrate")[0][0] == "you"
    assert rig.guard.state is State.MIGRATING_OUT
    rig.on(rig.granted())
    return rig


def ended(rig: Rig, error: str = "") -> Moved:
    """Its end, as libvirt tells it."""
    return Moved(rig.guard._moves, error)


def written(rig: Rig) -> Lease:
    """The record that was asked to be written last."""
    record: Lease = rig.values("cas")[-1][0]
    return record


def test_nothing_is_migrated_before_the_record_says_where_to() -> None:
    rig = source()
    assert "migrate" not in rig.after(TIMINGS.renew_s - 0.1)
    assert "migrate" not in rig.on(rig.granted())
    assert "migrate" not in rig.after(TIMINGS.renew_s / 4 - 0.05), "its target has to hear of it"
    assert "migrate" in rig.after(0.1)


def test_the_holder_renews_while_it_migrates_and_the_offer_stands_in_each_renewal() -> None:
    rig = moving()
    rig.after(1.0)
    assert (written(rig).phase, written(rig).target) == (Phase.MIGRATING, "you")


@pytest.mark.parametrize("dead_first", [True, False])
def test_the_lease_is_handed_over_when_the_vm_is_there_and_dead_here(dead_first: bool) -> None:
    rig = moving()
    events = [VmSeen(Vm.OFF, 1), ended(rig)]
    first, second = events if dead_first else reversed(events)
    rig.on(first)
    assert all(record.holder == "me" for record, _, _ in rig.values("cas"))
    assert "cas" in rig.on(second)
    record = written(rig)
    assert (record.holder, record.epoch, record.phase, record.source) == ("you", 9, Phase.HELD, "me")
    assert rig.guard.view.granted_until_s is None
    rig.on(rig.granted())
    assert rig.values("answer")[0][:2] == (9, "ok")
    assert rig.guard.state is State.STANDBY


def test_what_is_left_of_a_vm_that_was_migrated_is_killed() -> None:
    rig = moving()
    asked = rig.on(ended(rig))
    assert asked[:2] == ["forbid", "kill"]
    assert "note killed" not in asked


def test_a_guard_that_is_to_end_hands_over_first_what_has_been_migrated() -> None:
    rig = moving()
    rig.on(ended(rig))
    rig.on(Ended("stopped"))
    assert not rig.guard.done
    rig.after(1.0)
    assert written(rig).target == "you"
    rig.on(VmSeen(Vm.OFF, 1))
    assert (written(rig).holder, written(rig).source) == ("you", "me")
    rig.on(rig.granted())
    assert rig.values("answer")[0][:2] == (9, "ok")
    assert rig.guard.done


def test_a_hand_over_whose_answer_is_lost_is_read_up_before_it_is_tried_again() -> None:
    rig = moving()
    rig.on(VmSeen(Vm.OFF, 1), ended(rig))
    lost = dataclasses.replace(rig.granted(), outcome=Outcome.UNREACHABLE)
    assert rig.on(lost) == ["read"]
    record = handed_over(rig.guard.view.lease, "maintenance") if rig.guard.view.lease else None
    assert record is not None
    assert rig.on(rig.seen(record, consistent=True))[-1] == "answer"
    assert rig.guard.state is State.STANDBY


def test_nothing_is_started_here_while_a_hand_over_may_still_be_written() -> None:
    rig = moving()
    rig.on(VmSeen(Vm.OFF, 1), ended(rig))
    assert "start" not in rig.after(TIMINGS.deadline_s)


def test_a_migration_that_fails_leaves_the_vm_here_and_withdraws_the_offer() -> None:
    rig = moving()
    asked = rig.on(ended(rig, "connection reset"))
    assert rig.values("answer")[0][:2] == (9, "failed")
    assert "cas" in asked or "cas" in rig.after(1.0)
    assert (written(rig).phase, written(rig).target) == (Phase.HELD, None)
    assert rig.guard.view.vm is Vm.RUNNING
    assert rig.guard.view.move is Move.NONE


def test_a_vm_that_died_in_a_failed_migration_starts_here_once_the_offer_is_withdrawn() -> None:
    rig = moving()
    rig.on(VmSeen(Vm.OFF, 1, crashed=True))
    assert "start" not in rig.on(ended(rig, "the VM died"))
    rig.after(1.0)
    assert written(rig).phase is Phase.HELD
    assert "start" in rig.on(rig.granted())


def test_a_migration_that_takes_too_long_is_aborted_and_then_given_up() -> None:
    rig = moving()
    asked: list[str] = []
    for _ in range(60 + int(OUTCOME_S) + 2):
        asked += rig.after(1.0)
        asked += rig.on(rig.granted())
    assert asked.count("abort") == 1
    assert asked.index("abort") < asked.index("answer")
    assert rig.guard.view.move is Move.NONE
    assert rig.guard.view.vm is Vm.RUNNING


def test_success_that_comes_after_it_was_given_up_counts_for_nothing() -> None:
    rig = moving()
    late = ended(rig)
    rig.on(ended(rig, "it did not end"))
    rig.on(late, VmSeen(Vm.OFF, 1))
    asked = rig.values("cas")  # each step forgets what was asked before it
    rig.after(2.0)
    assert all(record.holder == "me" for record, _, _ in asked + rig.values("cas"))


def test_a_wish_to_stop_aborts_the_migration() -> None:
    rig = moving()
    assert rig.on(DesiredSeen(Run.STOPPED)) == ["abort"]
    assert "shutdown" in rig.on(ended(rig, "aborted"))


def test_at_its_deadline_the_source_is_killed_whatever_libvirt_does() -> None:
    rig = moving()
    assert "kill" in rig.after(TIMINGS.deadline_s + 0.1)


@pytest.mark.parametrize(
    ("target", "situation", "words"),
    [("me", "", "no node to migrate to"), ("nowhere", "", "known: you, she"), ("you", "paused", "it is paused")],
)
def test_a_migration_that_makes_no_sense_is_refused(target: str, situation: str, words: str) -> None:
    rig = Rig(limits=NODES).holds()
    if situation:
        rig.on(VmSeen(Vm.PAUSED, 1))
    rig.on(Ordered(Op.MIGRATE, 9, "ordered", 60.0, target=target))
    ticket, kind, message = rig.values("answer")[0]
    assert (ticket, kind) == (9, "refused")
    assert words in message


@pytest.mark.parametrize("vm", [Vm.PAUSED, Vm.OFF])
def test_an_order_does_not_wait_for_a_vm_that_no_longer_runs(vm: Vm) -> None:
    rig = source()
    rig.on(VmSeen(vm, rig.guard._generation, pid=1, pause=Pause.NO_SPACE if vm is Vm.PAUSED else Pause.NONE))
    ticket, kind, message = rig.values("answer")[-1][:3]
    assert (ticket, kind) == (9, "refused")
    assert message.startswith(f"only a running VM can be migrated: here it is {vm}")
    assert (Pause.NO_SPACE in message) is (vm is Vm.PAUSED)
    assert rig.guard.view.order is None
    rig.on(rig.granted())
    rig.after(TIMINGS.renew_s)
    assert (written(rig).phase, written(rig).target) == (Phase.HELD, None)


def test_a_vm_that_somebody_has_suspended_is_not_migrated_and_who_orders_it_learns_the_remedy() -> None:
    rig = Rig(limits=NODES).holds()
    rig.on(VmSeen(Vm.PAUSED, rig.guard._generation, pid=1, pause=Pause.OPERATOR))
    rig.on(Ordered(Op.MIGRATE, 9, "maintenance", 60.0, target="you"))
    assert rig.values("answer")[-1][2].endswith(f"paused, {Pause.OPERATOR}; `virsh resume` on me lets it go on")
    assert rig.guard.view.order is None


def test_an_order_waits_while_nobody_knows_whether_the_vm_runs() -> None:
    rig = source()
    rig.on(VmSeen(Vm.UNKNOWN, rig.guard._generation))
    rig.after(TIMINGS.renew_s)
    assert rig.guard.view.order is not None


def test_only_the_holder_migrates() -> None:
    rig = Rig(limits=NODES).observes()
    rig.on(Ordered(Op.MIGRATE, 9, "ordered", 60.0, target="you"))
    assert rig.values("answer")[0][1] == "refused"


# ---- at the target

OFFER = lease("you", Phase.MIGRATING, target="me")


def target() -> Rig:
    """A guard to whose node the VM is on its way."""
    rig = Rig(limits=NODES).observes()
    assert rig.on(rig.seen(OFFER), VmSeen(Vm.ARRIVING, 0, pid=1)) == ["expect"]
    assert rig.guard.state is State.MIGRATING_IN
    return rig


def test_what_arrives_unannounced_is_killed() -> None:
    rig = Rig(limits=NODES).observes()
    assert rig.on(VmSeen(Vm.ARRIVING, 0, pid=1)) == ["kill"]


@pytest.mark.parametrize("news", [lease("you"), lease("she", epoch=8), dataclasses.replace(OFFER, target="she")])
def test_what_has_arrived_is_killed_when_it_is_not_offered_any_more(news: Lease) -> None:
    rig = target()
    assert "kill" in rig.on(rig.seen(news))


def test_what_has_arrived_is_killed_and_never_resumed_when_the_source_is_lost() -> None:
    rig = target()
    assert "kill" in rig.after(TIMINGS.lease_s)
    rig.on(VmSeen(Vm.OFF, 0))
    assert rig.on(Ordered(Op.TAKEOVER, 1, "failover", 30.0, epoch=7)) == ["cas"]
    assert rig.on(rig.granted())[-1] == "start"


def test_what_has_arrived_is_resumed_when_the_lease_was_handed_over_and_renewed() -> None:
    rig = target()
    assert rig.on(rig.seen(handed_over(OFFER, "maintenance"))) == ["cas"]
    assert written(rig).source == "you"
    assert rig.on(rig.granted()) == ["prepare", "resume"]
    rig.on(VmSeen(Vm.RUNNING, rig.guard._generation, pid=1))
    assert rig.guard.state is State.RUNNING
    rig.after(1.0)
    assert written(rig).source is None
    assert rig.guard.status(rig.now_s)["came_by"] == "migration"


def test_a_vm_that_can_not_be_resumed_starts_from_its_disk() -> None:
    rig = target()
    rig.on(rig.seen(handed_over(OFFER, "maintenance")))
    rig.on(rig.granted())
    generation = rig.guard._generation
    asked = rig.on(StartFailed(generation, "resume failed"), VmSeen(Vm.OFF, generation))
    assert "start" in asked + rig.after(1.0)
    assert rig.guard.status(rig.now_s)["came_by"] == "start"


def test_what_arrives_again_after_it_was_resumed_is_killed() -> None:
    rig = target()
    rig.on(rig.seen(handed_over(OFFER, "maintenance")))
    rig.on(rig.granted())
    generation = rig.guard._generation
    rig.on(VmSeen(Vm.RUNNING, generation, pid=1), VmSeen(Vm.OFF, generation, crashed=True))
    assert "kill" in rig.on(VmSeen(Vm.ARRIVING, rig.guard._generation, pid=2))


def test_a_guard_that_ends_wants_nothing_to_arrive() -> None:
    rig = target()
    assert "kill" in rig.on(Ended("stopped"))


def test_a_lease_that_was_taken_resumes_nothing() -> None:
    rig = Rig(limits=NODES).observes(lease("", Phase.RELEASED))
    rig.on(Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7))
    rig.on(VmSeen(Vm.ARRIVING, 0, pid=1))
    assert "resume" not in rig.on(rig.granted())


def test_records_of_a_migration() -> None:
    held = lease("me")
    offered = renewed(held, TIMINGS, "you")
    assert Lease.from_json(offered.to_json()) == offered
    given = handed_over(offered, "maintenance")
    assert (given.holder, given.epoch, given.phase, given.target, given.source) == ("you", 8, Phase.HELD, None, "me")
    assert Lease.from_json(given.to_json()) == given


def test_that_the_vm_stands_still_while_it_switches_over_is_no_pause_to_be_told() -> None:
    rig = moving()
    assert "note paused" not in rig.on(VmSeen(Vm.PAUSED, 1, pid=1, pause=Pause.OTHER))
    assert rig.guard.state is State.MIGRATING_OUT
