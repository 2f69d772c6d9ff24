"""The guard: what it makes of events, step by step, with doors that only write down what is asked of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mnha.core.guard import BACK_OFF_S, Guard, Limits
from mnha.core.lease import renewed
from mnha.core.model import MAX_UNANSWERED, NOT_PROBED, Lease, Op, Phase, Run, State, Vm
from mnha.core.ports import (
    AbilitySeen,
    Answered,
    DesiredSeen,
    Ended,
    FencerSeen,
    LeaseSeen,
    Ordered,
    Outcome,
    ReadFailed,
    StartFailed,
    VmSeen,
)
from mnha.core.timing import Timings
from mnha.errors import BugError

from .fencer import FakeFencer
from .views import TIMINGS, lease

MOST_ANSWERS = 10
"""So many requests to the fencer may follow from one event."""


class Doors:
    """All ports at once but the fencer's: what is asked of them, in order. It holds for every test that nothing comes
    to life that the fencer has not confirmed, and that no lease goes while something may.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.fencer = FakeFencer(self._note)
        self.ticket = 0

    def _note(self, name: str, value: Any = None) -> None:
        self.calls.append((name, value))

    def cas(self, lease: Lease, index: int, ticket: int) -> None:
        assert lease.holder == "me" or self.fencer.barred
        self.ticket = ticket
        self._note("cas", (lease, index, ticket))

    def read(self) -> None:
        self._note("read")

    def start(self, epoch: int, generation: int) -> None:
        assert self.fencer.until_s is not None
        self._note("start", generation)

    def migrate(self, target: str, generation: int) -> None:
        self._note("migrate", (target, generation))

    def abort(self) -> None:
        self._note("abort")

    def resume(self, generation: int) -> None:
        assert self.fencer.until_s is not None
        self._note("resume", generation)

    def unpause(self, generation: int) -> None:
        assert self.fencer.until_s is not None
        self._note("unpause", generation)

    def shutdown(self) -> None:
        self._note("shutdown")

    def kill(self) -> None:
        self._note("kill")

    def note(self, event: str, text: str, **data: Any) -> None:
        self._note("note", event)

    def log(self, text: str) -> None:
        pass

    def answer(self, ticket: int, kind: str, message: str, data: dict[str, Any]) -> None:
        self._note("answer", (ticket, kind, message))


class Rig:
    """A guard ``me`` with its doors, on a clock that the test turns."""

    def __init__(
        self,
        granted_until_s: float | None = None,
        limits: Limits | None = None,
        timings: Timings = TIMINGS,
        granted_kill_s: float = TIMINGS.kill_s,
    ) -> None:
        self.doors, self.now_s, self.index = Doors(), 100.0, 50
        doors, self.fencer = self.doors, self.doors.fencer
        self.fencer.until_s = granted_until_s
        self.guard = Guard(
            "me", timings, limits or Limits(), store=doors, hypervisor=doors, fencer=self.fencer, journal=doors,
            now_s=self.now_s, granted_until_s=granted_until_s,
            granted_kill_s=0.0 if granted_until_s is None else granted_kill_s,
        )  # fmt: skip

    def on(self, *events: Any) -> list[str]:
        """Give it events now, each followed by what the fencer answers; return the names of what it asks for."""
        self.doors.calls = []
        for event in events:
            self.guard.handle(event, self.now_s)
            self._hear()
        return self.asked

    def after(self, seconds: float) -> list[str]:
        """Let time pass, waking it when it asks for that."""
        self.doors.calls, end_s = [], self.now_s + seconds
        while (wake_s := self.guard.wake_s()) <= end_s:
            self.now_s = max(wake_s, self.now_s)
            self.guard.tick(self.now_s)
            self._hear()
        self.now_s = end_s
        return self.asked

    def hears(self) -> list[str]:
        """A fencer that was silent answers what it owes, and is silent no more."""
        self.doors.calls, self.fencer.silent = [], False
        self._hear()
        return self.asked

    def _hear(self) -> None:
        """What the fencer answers; the two are not to be busy with nothing else."""
        for _ in range(MOST_ANSWERS):
            if not self.fencer.owes or self.fencer.silent:
                return
            self.guard.handle(self.fencer.answer(), self.now_s)
        raise AssertionError(f"no end of requests to the fencer: {self.asked}")

    @property
    def ticket(self) -> int:
        """The number of the newest lease request."""
        return self.doors.ticket

    @property
    def asked(self) -> list[str]:
        """The names of what it asked for last."""
        return [name if name != "note" else f"note {value}" for name, value in self.doors.calls]

    def values(self, name: str) -> list[Any]:
        """What it asked for by that name."""
        return [value for one, value in self.doors.calls if one == name]

    def seen(self, record: Lease, consistent: bool = False) -> LeaseSeen:
        """A newer record."""
        self.index += 1
        return LeaseSeen(record, self.index, self.now_s, consistent)

    def granted(self) -> Answered:
        """The newest request is granted."""
        self.index += 1
        return Answered(self.ticket, Outcome.GRANTED, self.index)

    def observes(self, record: Lease | None = None) -> Rig:
        """Bring it to where it watches the lease of ``you``, able and willing."""
        self.on(
            FencerSeen(True),
            VmSeen(Vm.OFF, 0),
            AbilitySeen(""),
            DesiredSeen(Run.STARTED),
            self.seen(record or lease("you")),
        )
        return self

    def holds(self) -> Rig:
        """Bring it to where it runs the VM."""
        self.observes(lease("", Phase.RELEASED))
        self.on(Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7))
        self.on(self.granted())
        self.on(VmSeen(Vm.RUNNING, 1, pid=1))
        assert self.guard.state is State.RUNNING
        return self


def test_a_guard_that_begins_kills_what_it_does_not_know_and_reads() -> None:
    rig = Rig()
    assert rig.on(AbilitySeen("")) == ["kill", "read"]
    assert rig.guard.state is State.SELF_FENCING


def test_a_guard_that_finds_something_granted_kills_nothing_until_the_deadline() -> None:
    rig = Rig(granted_until_s=103.0)
    assert "kill" not in rig.on(VmSeen(Vm.RUNNING, 0)) + rig.after(2.9)
    assert "kill" in rig.after(0.2)


def test_a_guard_that_finds_something_granted_believes_no_copy() -> None:
    rig = Rig(granted_until_s=103.0)
    assert "kill" not in rig.on(VmSeen(Vm.RUNNING, 0), rig.seen(lease("you")))
    assert "kill" in rig.on(rig.seen(lease("you"), consistent=True))


def test_a_guard_that_finds_its_vm_off_tells_so_once() -> None:
    rig = Rig()
    assert "note off" not in rig.on(VmSeen(Vm.OFF, 0))
    assert rig.on(rig.seen(lease("me"))).count("note off") == 1
    assert "note off" not in rig.on(VmSeen(Vm.UNKNOWN, 0), VmSeen(Vm.OFF, 0))


def test_a_vm_that_ends_under_the_eyes_of_its_guard_was_not_found_off() -> None:
    rig = Rig(granted_until_s=103.0)
    rig.on(FencerSeen(True), VmSeen(Vm.RUNNING, 0), rig.seen(lease("me"), consistent=True))
    assert rig.on(VmSeen(Vm.OFF, 0)).count("note off") == 1
    assert rig.on(rig.seen(lease("me"), consistent=True)).count("note off") == 0


def test_a_guard_that_finds_the_vm_off_where_it_is_not_to_run_has_nothing_to_tell() -> None:
    rig = Rig()
    assert "note off" not in rig.on(VmSeen(Vm.OFF, 0), rig.seen(lease("you")))
    assert "note off" not in rig.on(rig.seen(lease("me")))


def test_the_fencer_is_asked_to_let_the_vm_run_before_it_starts() -> None:
    rig = Rig().observes(lease("", Phase.RELEASED))
    assert rig.on(Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7)) == ["cas"]
    asked_s = rig.now_s
    rig.after(0.2)
    assert rig.on(rig.granted()) == ["note taken", "prepare", "start"]
    assert rig.values("prepare") == [(asked_s + TIMINGS.deadline_s, TIMINGS.kill_s)]


def test_a_vm_does_not_start_when_the_required_watchdog_does_not_work() -> None:
    rig = Rig().observes(lease("", Phase.RELEASED))
    rig.fencer.refuses["prepare"] = "the watchdog is required and can't be armed"
    rig.on(Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7))
    asked = rig.on(rig.granted())
    assert "start" not in asked
    ticket, kind, message = rig.values("answer")[0]
    assert (ticket, kind) == (1, "failed")
    assert "the watchdog is required" in message


def renews(rig: Rig) -> list[str]:
    """One renewal, granted."""
    return rig.after(TIMINGS.renew_s) + rig.on(rig.granted())


def test_a_vm_whose_required_watchdog_stops_working_is_handed_over_in_an_orderly_way() -> None:
    rig = Rig().holds()
    assert renews(rig) == ["cas", "grant"]
    promised_until_s = rig.guard.view.promised_until_s
    rig.fencer.as_required = False
    assert renews(rig) == ["cas", "grant", "note unprotected"]
    assert rig.guard.view.promised_until_s == promised_until_s, "no later moment counts for the fencer"
    assert renews(rig) == ["cas", "grant"]
    assert renews(rig) == ["cas", "grant", "shutdown"]
    assert renews(rig) == ["cas", "grant"], "the lease is kept while the guest shuts down"
    assert rig.on(VmSeen(Vm.OFF, 1)) == ["note off", "forbid", "cas"]
    record = rig.values("cas")[0][0]
    assert (record.phase, record.reason) == (
        Phase.RELEASED,
        "the watchdog of me is required and does not work any more",
    )
    assert rig.on(rig.granted()) == ["note released"]
    assert rig.guard.view.unprotected == 0, "whether it may take it again is a matter of its checks"


def test_what_was_not_promised_before_is_not_by_a_renewal_that_the_required_device_does_not_take() -> None:
    rig = Rig().holds()
    rig.fencer.as_required = False
    rig.guard.view = rig.guard.view.but(promised_until_s=None)
    assert "grant" in renews(rig)
    assert rig.guard.view.promised_until_s is None
    assert rig.guard.status(rig.now_s)["fencer"]["lets_it_run_for_s"] is None


def test_a_watchdog_that_works_again_in_time_is_told_of_and_costs_nothing() -> None:
    rig = Rig().holds()
    rig.fencer.as_required = False
    renews(rig)
    renews(rig)
    rig.fencer.as_required = True
    assert renews(rig) == ["cas", "grant", "note protected"]
    rig.fencer.as_required = False
    assert renews(rig) == ["cas", "grant", "note unprotected"]
    assert renews(rig) == ["cas", "grant"], "counted anew"
    assert rig.guard.state is State.RUNNING


def test_the_deadline_counts_from_the_question_however_late_the_answer() -> None:
    rig = Rig().holds()
    assert rig.after(1.0) == ["cas"]
    asked_s = rig.now_s
    rig.after(0.9)
    rig.on(rig.granted())
    assert rig.guard.view.granted_until_s == asked_s + TIMINGS.deadline_s


def test_an_answer_later_than_its_deadline_counts_for_nothing() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    late = rig.granted()
    rig.after(TIMINGS.deadline_s)
    assert rig.on(late) == []
    assert rig.guard.state is State.SELF_FENCING


def test_no_vm_outlives_the_deadline() -> None:
    rig = Rig().holds()
    granted_until_s = rig.guard.view.granted_until_s
    assert granted_until_s is not None
    asked = rig.after(TIMINGS.deadline_s + 1.0)
    assert asked.count("cas") == TIMINGS.deadline_s - 1
    assert rig.guard.last_fence is not None
    assert rig.guard.last_fence["at_s"] == granted_until_s
    assert asked.count("kill") > 2  # repeated until it is confirmed
    assert asked.count("forbid") == 1
    assert rig.on(VmSeen(Vm.OFF, 1))[0] == "note off"


def test_a_refusal_is_read_up_on_and_another_holder_ends_the_vm() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    assert rig.on(Answered(rig.ticket, Outcome.REFUSED)) == ["read"]
    assert "kill" in rig.on(rig.seen(lease("you", epoch=9), consistent=True))


def test_silence_is_no_refusal() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    assert rig.on(Answered(rig.ticket, Outcome.UNREACHABLE)) == []
    assert rig.after(TIMINGS.renew_s / 4) == ["cas"]


def test_lost_requests_do_not_keep_the_next_from_being_sent() -> None:
    rig = Rig().holds()
    assert rig.after(4.5).count("cas") == 4
    assert rig.on(rig.granted())[:1] == ["grant"]
    assert rig.guard.state is State.RUNNING


def test_requests_in_flight_are_limited() -> None:
    rig = Rig().holds()
    for _ in range(100):
        rig.after(0.5)
        assert rig.guard.view.unanswered <= MAX_UNANSWERED


def test_a_grant_forgets_the_requests_that_it_made_void() -> None:
    rig = Rig().holds()
    rig.after(2.0)
    first, second = rig.ticket - 1, rig.ticket
    rig.index += 1
    rig.on(Answered(first, Outcome.GRANTED, rig.index))
    assert rig.on(Answered(second, Outcome.REFUSED)) == []


def test_a_slow_grant_is_followed_by_the_next_request_at_once() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    asked_ticket = rig.ticket
    rig.after(1.5)
    rig.index += 1
    assert rig.on(Answered(asked_ticket, Outcome.GRANTED, rig.index)) == ["grant", "cas"]


def test_an_old_answer_of_a_read_does_not_undo_what_was_seen_since() -> None:
    rig = Rig().holds()
    old = LeaseSeen(lease("you"), 40, rig.now_s, consistent=True, asked_s=rig.now_s - 10.0)
    assert rig.on(old) == []
    assert rig.guard.state is State.RUNNING


def test_an_index_that_fell_is_believed_to_who_was_asked_since() -> None:
    rig = Rig().holds()
    fallen = LeaseSeen(lease("you"), 40, rig.now_s + 0.2, consistent=True, asked_s=rig.now_s + 0.1)
    assert "kill" in rig.on(fallen)


def test_seeing_the_same_index_again_is_no_sign_of_life() -> None:
    rig = Rig().observes()
    received_s = rig.now_s
    rig.after(5.0)
    rig.on(
        LeaseSeen(lease("you"), rig.index, rig.now_s), LeaseSeen(lease("you"), rig.index, rig.now_s, True, rig.now_s)
    )
    assert rig.guard.view.sighting is not None
    assert rig.guard.view.sighting.received_s == received_s


def test_a_missing_lease_ends_every_right_and_is_not_free() -> None:
    rig = Rig().holds()
    asked = rig.on(LeaseSeen(None, 0, rig.now_s + 0.2, consistent=True, asked_s=rig.now_s + 0.1))
    assert "kill" in asked
    assert "cas" not in asked
    rig.on(VmSeen(Vm.OFF, 1))
    assert rig.guard.state is State.UNINITIALISED


@pytest.mark.parametrize(("age_s", "kind"), [(1.0, "refused"), (3 * TIMINGS.renew_s, ""), (TIMINGS.lease_s, "")])
def test_an_order_is_accepted_once_three_renewals_are_overdue(age_s: float, kind: str) -> None:
    rig = Rig().observes()
    rig.after(age_s)
    asked = rig.on(Ordered(Op.TAKEOVER, 5, "ordered", 30.0, epoch=7))
    assert [value[1] for value in rig.values("answer")] == ([kind] if kind else [])
    assert ("cas" in asked) is (age_s >= TIMINGS.lease_s)


def test_an_armed_order_takes_the_lease_in_the_moment_it_expires() -> None:
    rig = Rig().observes()
    expires_s = rig.now_s + TIMINGS.lease_s
    rig.after(6.0)
    rig.on(Ordered(Op.TAKEOVER, 5, "ordered", 30.0, epoch=7))
    rig.after(5.0)
    [(record, index, _)] = rig.values("cas")[:1]
    assert (record.holder, record.epoch, index) == ("me", 8, rig.index)
    assert rig.guard._asks == {} or min(ask.sent_s for ask in rig.guard._asks.values()) >= expires_s


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ((), "you holds the lease, seen renewed 0.0 s ago"),
        ((DesiredSeen(Run.STOPPED),), "holds the lease"),
        ((Ended("bye"),), "is ending"),
    ],
)
def test_an_order_is_refused_with_the_reason(spoil: tuple[Any, ...], words: str) -> None:
    rig = Rig().observes()
    rig.on(*spoil, Ordered(Op.TAKEOVER, 5, "ordered", 30.0, epoch=7))
    ticket, kind, message = rig.values("answer")[-1]
    assert (ticket, kind) == (5, "refused")
    assert words in message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (DesiredSeen(Run.STOPPED), "desired is stopped"),
        (AbilitySeen("no bridge br0"), "no bridge br0"),
    ],
)
def test_a_free_lease_is_not_for_a_node_that_is_unfit(spoil: Any, words: str) -> None:
    rig = Rig().observes(lease("", Phase.RELEASED))
    rig.on(spoil, Ordered(Op.TAKEOVER, 5, "ordered", 30.0, epoch=7))
    assert words in rig.values("answer")[-1][2]


def test_a_node_that_has_not_probed_yet_is_unfit() -> None:
    rig = Rig()
    rig.on(VmSeen(Vm.OFF, 0), DesiredSeen(Run.STARTED), rig.seen(lease("", Phase.RELEASED)))
    rig.on(Ordered(Op.TAKEOVER, 5, "ordered", 30.0, epoch=7))
    assert NOT_PROBED in rig.values("answer")[-1][2]


def test_a_second_order_is_refused_while_one_is_at_hand() -> None:
    rig = Rig().observes()
    rig.after(6.0)
    rig.on(Ordered(Op.TAKEOVER, 5, "first", 30.0, epoch=7), Ordered(Op.TAKEOVER, 6, "second", 30.0, epoch=7))
    assert [(value[0], value[1]) for value in rig.values("answer")] == [(6, "refused")]


def test_an_old_observation_of_the_vm_says_nothing_about_a_newer_start() -> None:
    rig = Rig().holds()
    rig.on(VmSeen(Vm.OFF, 1))
    assert rig.guard.view.vm is Vm.STARTING
    assert "start" not in rig.on(VmSeen(Vm.OFF, 1), StartFailed(1, "old"))
    assert rig.guard.view.vm is Vm.STARTING
    assert rig.guard.view.failed_starts == 0


def test_a_locked_image_gives_the_lease_back_and_backs_off() -> None:
    rig = Rig().holds()
    rig.on(VmSeen(Vm.OFF, 1))
    rig.on(StartFailed(2, "locked", locked=True), VmSeen(Vm.OFF, 2))
    assert rig.after(1.0).count("cas") == 1
    [(record, _, _)] = rig.values("cas")
    assert record.phase is Phase.RELEASED
    rig.on(rig.granted())
    assert rig.guard.view.not_before_s == rig.now_s + BACK_OFF_S
    rig.on(Ordered(Op.TAKEOVER, 5, "ordered", 30.0, epoch=8))
    assert "backs off" in rig.values("answer")[-1][2]


def test_a_vm_that_keeps_dying_is_given_to_another_node() -> None:
    rig = Rig(limits=Limits(failed_starts=3)).holds()
    asked: list[str] = []
    for generation in range(1, 4):
        asked += rig.on(VmSeen(Vm.OFF, generation, crashed=True))
        for _ in range(8):
            asked += rig.after(0.5)
            if rig.guard._asks:
                asked += rig.on(rig.granted())
        rig.on(VmSeen(Vm.RUNNING, generation + 1))
    assert asked.count("start") == 2
    assert asked.count("note died") == 3
    assert "note released" in asked


def test_an_end_shuts_down_gives_back_and_is_done() -> None:
    rig = Rig().holds()
    assert "shutdown" in rig.on(Ended("bye"))
    assert not rig.guard.done
    rig.on(VmSeen(Vm.OFF, 1))
    rig.after(1.0)
    assert not rig.guard.done
    rig.on(rig.granted())
    assert rig.guard.done


def test_a_release_whose_answer_is_lost_is_known_by_the_watch() -> None:
    """Else the node would go on counting failures of the last time, and give back the next lease at once."""
    rig = Rig().holds()
    rig.on(VmSeen(Vm.OFF, 1))
    rig.on(StartFailed(2, "locked", locked=True), VmSeen(Vm.OFF, 2))
    [(record, _, _)] = rig.values("cas")
    assert "note released" in rig.on(rig.seen(record))
    assert rig.guard.view.failed_starts == 0
    assert rig.guard.view.not_before_s == rig.now_s + BACK_OFF_S


def test_a_lease_is_given_back_as_soon_as_the_vm_is_off() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    rig.on(rig.granted(), DesiredSeen(Run.STOPPED))
    assert "cas" in rig.on(VmSeen(Vm.OFF, 1))
    assert rig.values("cas")[0][0].phase is Phase.RELEASED


def test_a_guest_that_does_not_hear_is_asked_again_until_its_time_is_over_and_then_killed() -> None:
    """It boots, or libvirtd was restarted just then."""
    rig, asked_after_s, killed_after_s = Rig().holds(), [], []
    begun_s = rig.now_s
    rig.doors.calls = []
    heard = rig.on(DesiredSeen(Run.STOPPED))
    while not killed_after_s:
        asked_after_s += [rig.now_s - begun_s] * heard.count("shutdown")
        killed_after_s += [rig.now_s - begun_s] * heard.count("kill")
        heard = rig.after(0.5) + rig.on(rig.granted())
    assert asked_after_s == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
    assert killed_after_s == [60.0]


def test_a_wish_that_is_taken_back_kills_nobody() -> None:
    rig = Rig().holds()
    assert "shutdown" in rig.on(DesiredSeen(Run.STOPPED))
    rig.on(DesiredSeen(Run.STARTED))
    for _ in range(100):
        rig.after(1.0)
        asked = rig.on(rig.granted())
        assert "kill" not in asked
    assert "shutdown" in rig.on(DesiredSeen(Run.STOPPED))
    assert rig.guard.view.shutdown_asked_s == rig.now_s


def test_an_end_waits_for_a_take_over_that_was_asked_for_and_starts_nothing() -> None:
    rig = Rig().observes(lease("", Phase.RELEASED))
    rig.on(Ordered(Op.TAKEOVER, 1, "ordered", 30.0, epoch=7))
    take = rig.ticket
    rig.on(Ended("bye"))
    assert not rig.guard.done
    rig.index += 1
    asked = rig.on(Answered(take, Outcome.GRANTED, rig.index))
    assert "start" not in asked
    rig.after(1.0)
    rig.on(rig.granted())
    assert rig.guard.done


def test_an_end_without_the_lease_is_done_at_once() -> None:
    rig = Rig().observes()
    rig.on(Ended("bye"))
    assert rig.guard.done


def test_a_reset_kills_and_starts_again_in_place() -> None:
    rig = Rig().holds()
    assert rig.on(Ordered(Op.RESET, 9, "hung", 30.0)) == ["forbid", "kill", "note killed"]
    asked = rig.on(VmSeen(Vm.OFF, 1))
    assert [(ticket, kind) for ticket, kind, _ in rig.values("answer")] == [(9, "ok")]
    assert asked == ["answer", "cas", "prepare", "start"]


def test_a_late_grant_after_a_release_revives_no_deadline() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    late = rig.granted()
    rig.on(DesiredSeen(Run.STOPPED), VmSeen(Vm.OFF, 1))
    rig.after(1.0)
    assert rig.guard.view.granted_until_s is None
    rig.on(late)
    assert rig.guard.view.granted_until_s is None


def test_a_start_that_the_fencer_was_not_prepared_for_is_a_bug() -> None:
    with pytest.raises(BugError):
        Rig().guard._launch("start", lambda: None)


def test_a_failed_read_is_repeated_soon() -> None:
    rig = Rig()
    rig.on(AbilitySeen(""))
    assert rig.on(ReadFailed("no leader")) == []
    assert rig.after(TIMINGS.renew_s / 4).count("read") == 1


def test_the_clock_never_goes_back() -> None:
    rig = Rig().observes()
    rig.guard.tick(rig.now_s - 50.0)
    assert rig.guard.view.now_s == rig.now_s


def test_the_status_names_what_an_operator_asks_for() -> None:
    rig = Rig().holds()
    status = rig.guard.status(rig.now_s)
    assert (status["state"], status["vm"], status["desired"]) == ("running", "running", "started")
    assert status["lease"]["holder"] == "me"
    assert 0 < status["may_run_for_s"] <= TIMINGS.deadline_s
    assert status["lease"]["expired"] is False
    assert status["fencer"] == {"there": True, "lets_it_run_for_s": status["may_run_for_s"], "barred": False}
    assert Rig().guard.status(0.0)["lease"] is None
    assert Rig().guard.status(0.0)["fencer"] == {"there": False, "lets_it_run_for_s": None, "barred": False}


def test_a_renewal_is_the_same_record_with_the_next_number() -> None:
    rig = Rig().holds()
    held = rig.guard.view.lease
    assert held is not None
    rig.after(1.0)
    [(record, index, _)] = rig.values("cas")
    assert (record, index) == (renewed(held, TIMINGS), rig.index)


def test_the_status_tells_how_the_renewals_go() -> None:
    rig = Rig().holds()
    for wait_s, took_s in ((1.0, 0.1), (0.9, 0.2), (0.8, 1.3)):  # one is sent every second
        rig.after(wait_s)
        rig.now_s += took_s
        rig.on(rig.granted())
    told = rig.guard.status(rig.now_s)["renewals"]
    assert (told["granted"], told["late"]) == (4, 1), "the take-over counts as the first"
    assert told["longest_s"] == pytest.approx(1.3)
    assert told["longest_gap_s"] == pytest.approx(2.3), "from sending one to the grant of the next"
    assert (told["median_s"], told["p99_s"]) == pytest.approx((0.1, 1.3))
    assert Rig().observes().guard.status(100.0)["renewals"] is None


def test_renewals_that_were_lost_or_refused_are_counted_apart() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    rig.on(Answered(rig.ticket, Outcome.UNREACHABLE))
    rig.after(0.3)
    rig.on(Answered(rig.ticket, Outcome.REFUSED))
    told = rig.guard.status(rig.now_s)["renewals"]
    assert (told["granted"], told["lost"], told["refused"]) == (1, 1, 1)


def test_a_lease_that_is_taken_again_begins_a_new_count_of_renewals() -> None:
    rig = Rig().holds()
    rig.after(1.0)
    rig.on(rig.granted())
    rig.on(rig.seen(lease("", Phase.RELEASED), consistent=True), VmSeen(Vm.OFF, 1))
    rig.on(Ordered(Op.TAKEOVER, 2, "ordered", 30.0, epoch=rig.guard.status(rig.now_s)["lease"]["epoch"]))
    rig.after(1.0)
    rig.on(rig.granted())
    told = rig.guard.status(rig.now_s)["renewals"]
    assert (told["granted"], told["longest_gap_s"]) == (1, 0.0)


def test_nothing_is_started_at_once_under_a_lease_that_no_guard_has_written() -> None:
    rig = Rig().observes()
    assert rig.on(rig.seen(dataclasses.replace(lease("you"), holder="me"))) == ["note lease written", "cas"]
    rig.on(rig.granted())
    waited_s = 0.0
    while "prepare" not in (asked := rig.after(0.25)):
        waited_s += 0.25
        assert waited_s < 2 * TIMINGS.lease_s
        if "cas" in asked:
            asked += rig.on(rig.granted())
        assert "start" not in asked
    assert waited_s >= TIMINGS.lease_s - 0.5


def test_a_failure_told_late_does_not_shorten_a_wait() -> None:
    rig = Rig().observes()
    rig.on(rig.seen(dataclasses.replace(lease("you"), holder="me")))
    not_before_s = rig.guard.view.not_before_s
    rig.on(StartFailed(1, "of a start long ago"))
    assert rig.guard.view.failed_starts == 1
    assert rig.guard.view.not_before_s == not_before_s >= rig.now_s + TIMINGS.lease_s


def test_that_a_lease_was_deleted_is_noted_by_its_holder_alone() -> None:
    def gone(rig: Rig) -> list[str]:
        return [what for what in rig.on(LeaseSeen(None, rig.index + 1, rig.now_s, consistent=True)) if "note" in what]

    assert gone(Rig().holds()) == ["note lease deleted", "note killed"]
    assert gone(Rig().observes()) == []
