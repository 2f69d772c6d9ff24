"""What a guard asks the fencer, when, and what it does while there is no answer."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnha.core.guard import BACK_OFF_S, KILL_RETRY_S, Limits
from mnha.core.lease import handed_over
from mnha.core.model import Op, Phase, Run, State, Vm
from mnha.core.ports import AbilitySeen, Confirmed, DesiredSeen, Ended, Event, FencerSeen, Ordered, VmSeen
from mnha.core.timing import PROFILES, Timings

from .test_guard import Rig
from .test_migration import NODES, OFFER, ended, moving, target, written
from .views import TIMINGS, lease

FREE = lease("", Phase.RELEASED)
SHORT = PROFILES["fast"]


def renews(rig: Rig) -> list[str]:
    """One renewal, granted."""
    return rig.after(TIMINGS.renew_s) + rig.on(rig.granted())


def takes(rig: Rig) -> list[str]:
    """It has taken the lease, with nobody's order to answer."""
    rig.on(Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7))
    return rig.on(rig.granted())


def restarting() -> Rig:
    """A guard whose VM was dead when it began: nobody ordered the start that is due."""
    rig = Rig(limits=Limits(failed_starts=3))
    rig.on(FencerSeen(True), VmSeen(Vm.OFF, 0), AbilitySeen(""), DesiredSeen(Run.STARTED))
    rig.on(rig.seen(lease("me"), consistent=True))
    return rig


# ---- before a start


def test_nothing_starts_before_the_fencer_has_confirmed() -> None:
    rig = Rig().observes(FREE)
    rig.fencer.silent = True
    assert takes(rig) == ["note taken", "prepare"]
    for _ in range(20):
        asked = renews(rig)
        assert "prepare" not in asked, "asked once"
        assert "start" not in asked
    assert rig.hears()[:1] == ["prepare"], "what it confirms by now is over"
    assert rig.asked[1:] == ["start"]


def test_an_answer_to_something_else_starts_nothing() -> None:
    rig = Rig().observes(FREE)
    rig.fencer.silent = True
    takes(rig)
    assert rig.on(Confirmed(rig.ticket), Confirmed(10_000)) == []
    assert rig.hears() == ["start"]


def test_nothing_is_resumed_before_the_fencer_has_confirmed() -> None:
    rig = target()
    rig.on(rig.seen(handed_over(OFFER, "maintenance")))
    rig.fencer.silent = True
    assert rig.on(rig.granted()) == ["prepare"]
    assert rig.after(1.0) == []
    assert rig.hears() == ["cas", "resume"]


def test_a_prepare_that_is_refused_is_a_start_that_failed() -> None:
    rig = restarting()
    rig.fencer.refuses["prepare"] = "no memory"
    asked = rig.on(rig.granted())
    assert asked.count("note start failed") == asked.count("prepare")
    assert rig.guard.view.failed_starts == asked.count("prepare") > 0
    while rig.guard.view.failed_starts < 3:
        asked += renews(rig)
    assert "start" not in asked
    assert asked.count("note start failed") == 3
    rig.after(TIMINGS.renew_s)
    assert written(rig).phase is Phase.RELEASED, "another node may do better"
    assert "note released" in rig.on(rig.granted())
    assert rig.guard.view.not_before_s == rig.now_s + BACK_OFF_S


def test_what_has_arrived_is_killed_when_the_fencer_does_not_let_it_run() -> None:
    rig = target()
    rig.on(rig.seen(handed_over(OFFER, "maintenance")))
    rig.fencer.refuses["prepare"] = "no memory"
    asked = rig.on(rig.granted())
    assert asked == ["prepare", "note start failed", "forbid", "kill"]
    rig.fencer.refuses.clear()
    assert "resume" not in rig.on(rig.granted()) + rig.after(0.5)
    assert rig.on(VmSeen(Vm.OFF, 0))[-1] == "start", "from its disk"


def test_a_dead_vm_that_starts_again_in_place_needs_no_new_word() -> None:
    rig = Rig().holds()
    assert rig.on(VmSeen(Vm.OFF, 1, crashed=True)) == ["note died", "cas", "start"]


def test_a_node_whose_fencer_does_not_answer_takes_nothing() -> None:
    rig = Rig().observes(FREE)
    rig.on(FencerSeen(False), Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7))
    ticket, kind, message = rig.values("answer")[0]
    assert (ticket, kind) == (1, "refused")
    assert "its fencer does not answer" in message


# ---- with each renewal


def test_each_renewal_that_is_granted_is_told_to_the_fencer_from_when_it_was_sent() -> None:
    own = Timings(renew_s=1.0, deadline_s=5.0, kill_s=1.5, lease_s=8.0)
    rig = Rig(timings=own).holds()
    for late_s in (0.0, 0.3, 2.5):
        rig.after(max(0.0, rig.guard.view.next_ask_s - rig.now_s))
        sent_s, answer = rig.now_s, rig.granted()
        rig.now_s += late_s
        rig.on(answer)
        assert rig.values("grant") == [(sent_s + own.deadline_s, own.kill_s)]


def test_a_grant_that_moves_nothing_is_not_told() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    answer = rig.granted()
    assert rig.on(answer, answer).count("grant") == 1


def test_whether_the_watchdog_counts_is_the_fencers_newest_word() -> None:
    """With the image out of reach the lease may expire only where the node is reset."""
    rig = Rig().holds()
    assert rig.guard.view.armed
    rig.fencer.protects = False
    renews(rig)
    assert not rig.guard.view.armed
    rig.fencer.protects = True
    renews(rig)
    assert rig.guard.view.armed
    rig.fencer.protects = False
    rig.on(rig.seen(lease("you", epoch=9), consistent=True))
    assert not rig.guard.view.armed, "nor while it is being killed"


def test_the_watchdog_does_not_count_for_a_dead_vm() -> None:
    rig = Rig().holds()
    rig.on(VmSeen(Vm.OFF, 1))
    assert not rig.guard.view.armed


def test_a_grant_that_comes_while_the_fencer_is_gone_is_told_when_it_is_back() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    sent_s = rig.now_s
    assert rig.on(FencerSeen(False), rig.granted()) == []
    rig.on(FencerSeen(True))
    assert rig.values("grant") == [(sent_s + TIMINGS.deadline_s, TIMINGS.kill_s)]


def test_a_guard_that_finds_something_granted_tells_of_renewals_before_it_knows_of_the_vm() -> None:
    rig = Rig(granted_until_s=104.0)
    rig.on(FencerSeen(True), AbilitySeen(""), DesiredSeen(Run.STARTED))
    assert rig.on(rig.seen(lease("me"), consistent=True)) == ["cas"]
    assert rig.on(rig.granted()) == ["grant"]


def silent(rig: Rig) -> list[str]:
    """The fencer does not answer any more, from the next grant on."""
    rig.fencer.silent = True
    return renews(rig)


def gone(rig: Rig) -> list[str]:
    """The fencer is gone, after one more grant."""
    return renews(rig) + rig.on(FencerSeen(False))


@pytest.mark.parametrize("loses", [silent, gone])
def test_no_running_vm_is_renewed_for_without_the_fencer_and_at_d_the_guard_kills_it_itself(loses: Any) -> None:
    rig = Rig().holds()
    assert loses(rig) == ["cas", "grant"]
    granted_until_s = rig.guard.view.granted_until_s
    assert granted_until_s is not None
    assert rig.after(granted_until_s - rig.now_s - 0.01) == []
    asked = rig.after(0.01)
    assert "cas" not in asked
    assert "kill" in asked
    assert rig.guard.last_fence is not None
    assert rig.guard.last_fence["at_s"] == granted_until_s
    assert rig.guard.last_fence["reason"].endswith("the fencer of me does not answer")
    assert "cas" not in rig.after(TIMINGS.lease_s), "while it may be alive"


def test_a_renewal_waits_for_the_fencer_and_goes_out_with_its_answer() -> None:
    rig = Rig().holds()
    silent(rig)
    assert rig.after(2.0) == []
    assert rig.hears() == ["cas"]


def test_without_a_fencer_the_lease_of_a_dead_vm_is_left_to_others() -> None:
    """Nothing can be started here, and with no bar confirmed it can't be given back: it expires."""
    rig = Rig().holds()
    rig.on(FencerSeen(False))
    rig.after(TIMINGS.deadline_s)
    assert "cas" not in rig.on(VmSeen(Vm.OFF, 1)) + rig.after(TIMINGS.lease_s)
    assert "cas" in rig.on(FencerSeen(True)), "it may still be had"


def test_a_grant_that_was_refused_once_is_told_again_with_the_next_renewal() -> None:
    """It could not be written down, say. What was granted before still counts: for that time the VM can be kept."""
    rig = Rig().holds()
    rig.fencer.refuses["grant"] = "no room"
    assert renews(rig) == ["cas", "grant"]
    rig.fencer.refuses.clear()
    assert renews(rig) == ["cas", "grant"]
    assert rig.guard.view.promised_until_s == rig.guard.view.granted_until_s


def test_a_late_grant_takes_no_bar_back() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    rig.fencer.silent = True
    assert rig.on(Ordered(Op.RESET, 9, "hung", 30.0))[:2] == ["forbid", "kill"]
    assert rig.on(rig.granted()) == []
    assert rig.hears() == []
    assert rig.guard.view.barred
    assert "cas" in rig.after(1.0), "for a VM that is not dead yet"
    assert rig.on(rig.granted()) == []
    assert rig.guard.view.barred


# ---- before the lease goes


def test_the_lease_is_given_back_only_when_the_bar_is_confirmed() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    rig.on(rig.granted(), DesiredSeen(Run.STOPPED))
    rig.fencer.silent = True
    assert rig.on(VmSeen(Vm.OFF, 1)) == ["note off", "forbid"]
    assert rig.after(60.0) == []
    assert rig.hears() == ["cas"]
    assert written(rig).phase is Phase.RELEASED


def test_the_lease_is_not_given_back_when_the_bar_failed() -> None:
    rig = Rig().holds()
    rig.on(DesiredSeen(Run.STOPPED))
    rig.fencer.silent, rig.fencer.refuses["forbid"] = True, "no such call"
    rig.on(VmSeen(Vm.OFF, 1))
    assert rig.on(rig.fencer.answer()) == []
    assert rig.after(KILL_RETRY_S) == ["forbid"], "it is tried again, though not at once"
    rig.fencer.refuses.clear()
    assert rig.hears() == ["cas"]


def test_the_lease_is_handed_over_only_when_the_bar_is_confirmed() -> None:
    rig = moving()
    rig.fencer.silent = True
    assert rig.on(ended(rig), VmSeen(Vm.OFF, 1)) == ["forbid", "kill"]
    assert rig.after(1.0) == []
    assert rig.hears() == ["cas"]
    assert written(rig).holder == "you"


# ---- another configuration


def restarted(granted_until_s: float, granted_kill_s: float, timings: Timings = SHORT) -> Rig:
    """A guard with these timings that finds the VM running, and what the fencer was told by the one before."""
    rig = Rig(granted_until_s=granted_until_s, granted_kill_s=granted_kill_s, timings=timings)
    rig.on(FencerSeen(True), AbilitySeen(""), DesiredSeen(Run.STARTED), VmSeen(Vm.RUNNING, 0))
    rig.fencer.silent = True
    return rig


def test_shorter_timings_are_confirmed_by_the_fencer_before_the_record_tells_them() -> None:
    rig = restarted(104.5, TIMINGS.kill_s)
    assert rig.on(rig.seen(lease("me"), consistent=True)) == ["grant"]
    until_s = rig.now_s + SHORT.deadline_s
    assert rig.values("grant") == [(until_s, SHORT.kill_s)]
    assert rig.guard.view.granted_until_s == until_s, "the guard itself keeps to it at once"
    assert rig.after(1.0) == []
    assert rig.hears() == ["cas"]
    assert written(rig).timings == SHORT


def test_a_record_with_shorter_timings_is_not_sent_while_the_fencer_is_silent() -> None:
    rig = restarted(104.5, TIMINGS.kill_s)
    rig.on(rig.seen(lease("me"), consistent=True))
    asked = rig.after(SHORT.deadline_s)
    assert "cas" not in asked
    assert "kill" in asked
    assert "cas" not in rig.after(60.0)


def test_shorter_timings_that_the_fencer_refuses_are_not_told_to_the_others() -> None:
    rig = restarted(104.5, TIMINGS.kill_s)
    rig.fencer.silent, rig.fencer.refuses["grant"] = False, "no room"
    asked = rig.on(rig.seen(lease("me"), consistent=True)) + rig.after(1.0)
    assert "cas" not in asked
    assert asked.count("grant") > 2
    rig.fencer.refuses.clear()
    assert "cas" in rig.after(SHORT.renew_s)


def test_with_the_vm_dead_a_record_with_shorter_timings_waits_for_the_bar_and_for_no_grant() -> None:
    """Where nothing is alive no reset is to come."""
    rig = Rig(granted_until_s=104.5, timings=SHORT)
    rig.fencer.silent = True
    rig.on(FencerSeen(True), AbilitySeen(""), DesiredSeen(Run.STARTED))
    assert rig.on(VmSeen(Vm.OFF, 0)) == ["forbid"]
    assert rig.on(rig.seen(lease("me"), consistent=True)) + rig.after(0.3) == ["note off"]
    assert "grant" not in rig.hears() + rig.after(SHORT.renew_s / 4)
    assert "cas" in rig.asked


def test_longer_timings_need_no_word_before_the_record() -> None:
    rig = restarted(102.0, SHORT.kill_s, TIMINGS)
    assert rig.on(rig.seen(lease("me"), consistent=True)) == ["cas"]
    assert rig.on(rig.granted()) == ["grant"]
    assert rig.values("grant") == [(100.0 + TIMINGS.deadline_s, TIMINGS.kill_s)]


@given(
    st.floats(100.1, 120.0),
    st.floats(0.1, 20.0),
    st.sampled_from([SHORT, TIMINGS, Timings(renew_s=1.0, deadline_s=4.0, kill_s=9.0, lease_s=14.0)]),
)
def test_before_the_first_record_no_reset_is_told_that_is_later_than_that_of_the_grant_before(
    granted_until_s: float, granted_kill_s: float, timings: Timings
) -> None:
    """Else the record with the shorter timings could be written while the node is reset by the longer ones."""
    rig = restarted(granted_until_s, granted_kill_s, timings)
    rig.fencer.silent = False
    reset_s = granted_until_s + granted_kill_s
    asked = rig.on(rig.seen(lease("me"), consistent=True))
    told = rig.values("grant")
    while "cas" not in asked and rig.now_s < granted_until_s:
        asked = rig.after(timings.renew_s / 4)
        told += rig.values("grant")
    for until_s, kill_s in told:
        assert until_s <= granted_until_s
        assert until_s + kill_s <= reset_s + 1e-9
        reset_s = min(reset_s, until_s + kill_s)
    if "cas" in asked:
        assert reset_s <= rig.now_s + timings.reset_s + 1e-9


# ---- what a migration brings


def offered(rig: Rig, seq: int = 0) -> list[str]:
    """Its holder offers the VM to this node, or goes on to do so."""
    return rig.on(rig.seen(dataclasses.replace(OFFER, seq=OFFER.seq + seq)))


def test_the_fencer_expects_the_vm_as_long_as_it_is_offered_and_no_longer() -> None:
    rig = Rig(limits=NODES).observes()
    assert offered(rig) == ["expect"]
    assert rig.values("expect") == [rig.now_s + TIMINGS.lease_s]
    assert rig.after(1.0) == []
    assert offered(rig, 1) == ["expect"], "with each renewal"
    assert rig.values("expect") == [rig.now_s + TIMINGS.lease_s]
    assert rig.on(rig.seen(lease("you"))) == ["forbid"]
    assert rig.guard.view.barred
    assert offered(rig, 2) == ["expect"], "anew, at the same moment"


def test_an_offer_that_expires_is_barred_again() -> None:
    rig = Rig(limits=NODES).observes()
    offered(rig)
    assert rig.after(TIMINGS.lease_s - 0.01) == []
    assert rig.after(0.01) == ["forbid"]


def test_what_has_arrived_goes_on_to_be_expected_until_the_offer_is_withdrawn() -> None:
    rig = target()
    rig.after(1.0)
    assert offered(rig, 1) == ["expect"]
    assert rig.on(rig.seen(lease("you"))) == ["forbid", "kill"]


def test_nothing_is_expected_by_a_node_that_the_offer_is_not_for() -> None:
    rig = Rig(limits=NODES).observes()
    assert rig.on(rig.seen(dataclasses.replace(OFFER, target="she"))) == []
    assert rig.guard.view.barred


def test_an_expectation_that_is_refused_is_told_again_with_the_next_renewal_and_not_before() -> None:
    """Else the two would be busy with nothing else."""
    rig = Rig(limits=NODES).observes()
    rig.fencer.silent, rig.fencer.refuses["expect"] = True, "no room"
    assert offered(rig) == ["expect"]
    assert rig.on(rig.fencer.answer()) == []
    assert rig.after(1.0) == []
    rig.fencer.refuses.clear()
    assert offered(rig, 1) == ["expect"]


# ---- one that comes and goes


def test_a_fencer_that_comes_back_is_told_what_is_granted() -> None:
    rig = Rig().holds()
    renews(rig)
    granted_until_s = rig.guard.view.granted_until_s
    assert rig.on(FencerSeen(False)) == []
    assert rig.after(2.0) == []
    asked = rig.on(FencerSeen(True))
    assert rig.values("grant") == [(granted_until_s, TIMINGS.kill_s)]
    assert asked == ["grant", "cas"], "and then the lease is renewed"
    assert rig.guard.state is State.RUNNING


def test_a_fencer_that_comes_back_bars_what_is_dead() -> None:
    rig = Rig().observes()
    assert rig.on(FencerSeen(False)) == []
    assert not rig.guard.view.barred, "nobody knows"
    assert rig.on(FencerSeen(True)) == ["forbid"]
    assert rig.guard.view.barred


def test_a_fencer_that_comes_back_bars_what_is_to_be_killed() -> None:
    rig = Rig().holds()
    rig.on(FencerSeen(False))
    rig.on(rig.seen(lease("you", epoch=9), consistent=True))
    rig.on(FencerSeen(True))
    asked = rig.asked + rig.after(1.0)
    assert "grant" not in asked
    assert asked.count("forbid") == 1


def test_a_fencer_that_comes_back_is_asked_again_for_the_start_that_it_did_not_answer() -> None:
    rig = Rig().observes(FREE)
    rig.fencer.silent = True
    takes(rig)
    late = rig.fencer.answer()
    rig.fencer.until_s = None
    assert rig.on(FencerSeen(False), late) == []
    assert rig.on(FencerSeen(True), late) == ["prepare"], "and what the one before has said counts for nothing"
    assert rig.hears() == ["start"]


def test_a_fencer_that_comes_back_is_prepared_for_what_has_arrived_and_only_then_it_is_resumed() -> None:
    rig = target()
    rig.on(rig.seen(handed_over(OFFER, "maintenance")))
    rig.fencer.silent = True
    rig.on(rig.granted())
    rig.fencer.answer()
    rig.fencer.until_s = None
    assert rig.on(FencerSeen(False), FencerSeen(True)) == ["prepare"]
    assert rig.hears() == ["resume"]


def test_a_fencer_that_comes_back_is_told_again_what_is_expected() -> None:
    rig = target()
    rig.on(FencerSeen(False))
    assert rig.on(FencerSeen(True)) == ["expect"]


def test_a_bar_from_before_the_fencer_went_gives_no_lease_back() -> None:
    rig = Rig().holds()
    rig.on(DesiredSeen(Run.STOPPED))
    rig.fencer.silent = True
    rig.on(VmSeen(Vm.OFF, 1))
    late = rig.fencer.answer()
    rig.fencer.barred = False
    assert rig.on(FencerSeen(False), late, FencerSeen(True), late) == ["forbid"]
    assert rig.hears() == ["cas"]


def test_a_bar_that_the_fencer_may_have_done_before_it_went_is_followed_by_no_start() -> None:
    rig = Rig().holds()
    rig.fencer.silent = True
    assert "forbid" in rig.on(AbilitySeen("no bridge"), VmSeen(Vm.OFF, 1))
    assert "start" not in rig.on(FencerSeen(False), AbilitySeen("")) + rig.after(1.0)
    rig.fencer.answer()
    assert rig.on(FencerSeen(True))[-1] == "prepare"
    assert "start" not in rig.after(0.2)
    assert "start" in rig.hears()


def test_what_was_granted_to_a_running_vm_stands_while_the_fencer_is_gone() -> None:
    """It keeps its promises also when it begins anew."""
    rig = Rig().holds()
    rig.on(FencerSeen(False))
    assert rig.guard.view.promised_until_s == rig.guard.view.granted_until_s is not None


def test_a_new_connection_voids_what_was_asked_on_the_one_before() -> None:
    rig = Rig().holds()
    silent(rig)
    late = rig.fencer.answer()
    assert rig.on(FencerSeen(True), late) == ["grant"]
    assert rig.guard.view.fencer_owes == 1


def test_word_of_a_fencer_that_is_there_anyway_is_no_news() -> None:
    rig = Rig().holds()
    assert rig.on(FencerSeen(True)) == []


def test_a_guard_that_begins_tells_the_fencer_nothing_before_it_knows_of_the_vm() -> None:
    rig = Rig(granted_until_s=104.0)
    assert rig.on(FencerSeen(True), AbilitySeen("")) == ["read"]
    assert rig.on(VmSeen(Vm.OFF, 0)) == ["forbid"], "what was granted is of no use any more"
    assert rig.guard.view.promised_until_s is None


# ---- the kill


@pytest.mark.parametrize("answers", [True, False])
def test_a_kill_asks_the_fencer_once_and_libvirt_until_it_is_dead(answers: bool) -> None:
    rig = Rig().holds()
    rig.fencer.silent = not answers
    asked = rig.on(rig.seen(lease("you", epoch=9), consistent=True)) + rig.after(5.0)
    assert asked.count("forbid") == 1
    assert asked.count("kill") > 5
    assert asked.index("forbid") < asked.index("kill")


def test_a_kill_does_not_wait_for_what_the_fencer_owes() -> None:
    rig = Rig().holds()
    silent(rig)
    assert rig.on(rig.seen(lease("you", epoch=9), consistent=True)) == ["forbid", "kill", "note killed"]


def test_an_end_is_done_when_the_fencer_has_barred_what_it_leaves() -> None:
    rig = Rig().holds()
    rig.on(Ended("bye"))
    rig.fencer.silent = True
    rig.on(VmSeen(Vm.OFF, 1))
    rig.after(5.0)
    assert not rig.guard.done
    rig.hears()
    rig.on(rig.granted())
    assert rig.guard.done


# ---- events


def test_every_event_is_taken_in() -> None:
    assert set(Rig().guard._on) == set(get_args(Event))
