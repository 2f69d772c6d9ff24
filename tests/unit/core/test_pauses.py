"""A VM that stands paused: resumed with growing gaps if its disk has paused it, given up here, or left alone."""

from __future__ import annotations

import itertools

import pytest

from mnha.core import pauses
from mnha.core.guard import Limits
from mnha.core.model import Op, Pause, Phase, Run, State, Vm
from mnha.core.ports import AbilitySeen, DesiredSeen, FencerSeen, Ordered, VmSeen

from .test_guard import Rig
from .views import TIMINGS, lease, sighting, view

LOST_S = 12.0
LIMITS = Limits(storage_s=LOST_S, window_s=600.0, ranking=("me", "you", "she"))
ELSEWHERE = AbilitySeen("", None, "you")


def paused(rig: Rig, pause: Pause = Pause.IO_ERROR) -> list[str]:
    return rig.on(VmSeen(Vm.PAUSED, rig.guard._generation, pid=1, pause=pause))


def runs(rig: Rig) -> list[str]:
    return rig.on(VmSeen(Vm.RUNNING, rig.guard._generation, pid=1))


def live(rig: Rig, seconds: float, *, fails: bool = True, pause: Pause = Pause.IO_ERROR) -> list[float]:
    """Let time pass with every renewal granted; each resume finds a disk that fails again at once, or one that is well.
    When it was resumed, in seconds from now.
    """
    began_s, tries = rig.now_s, []
    while rig.now_s < began_s + seconds and rig.guard.view.vm is not Vm.OFF:
        asked = rig.after(0.125)
        if "cas" in asked:
            asked += rig.on(rig.granted())
        if "unpause" in asked:
            tries.append(rig.now_s - began_s)
            runs(rig)
            if fails:
                paused(rig, pause)
        if "kill" in asked:
            rig.on(VmSeen(Vm.OFF, rig.guard._generation))
    return tries


def held(limits: Limits = LIMITS) -> Rig:
    return Rig(limits=limits).holds()


@pytest.mark.parametrize("pause", pauses.BY_ITSELF)
def test_what_a_failing_disk_has_paused_is_told_and_resumed_after_a_moment(pause: Pause) -> None:
    rig = held()
    assert paused(rig, pause) == ["note paused"]
    assert rig.guard.state is State.PAUSED
    assert rig.guard.status(rig.now_s)["paused"]["why"] == pause
    assert live(rig, 10.0, fails=False) == [pauses.FIRST_GAP_S]
    assert rig.guard.state is State.RUNNING
    assert rig.guard.status(rig.now_s)["paused"] is None


def test_a_disk_that_keeps_failing_is_tried_after_gaps_that_grow_and_for_ever() -> None:
    rig = held()
    paused(rig)
    tries = live(rig, 300.0)
    gaps = [round(after - before) for before, after in itertools.pairwise(tries)]
    assert gaps == [2, 4, 8, 16, 32, 60, 60, 60]
    assert rig.guard.view.vm is Vm.PAUSED


def test_a_vm_that_ran_well_for_a_while_is_in_trouble_anew() -> None:
    rig = held()
    paused(rig)
    assert len(live(rig, 20.0)) == 4
    live(rig, 20.0, fails=False)
    assert rig.guard.view.vm is Vm.RUNNING
    live(rig, pauses.CALM_S)
    paused(rig)
    assert rig.guard.view.resumes == 0
    assert live(rig, 3.5)[0] == pauses.FIRST_GAP_S


def test_a_vm_that_pauses_again_soon_is_in_the_same_trouble() -> None:
    rig = held()
    paused(rig)
    live(rig, 20.0)
    live(rig, 20.0, fails=False)
    live(rig, pauses.CALM_S / 2)
    paused(rig)
    assert rig.guard.view.resumes == 5


def test_each_pause_and_each_resume_is_told_in_the_same_words() -> None:
    """By these the history counts them in one entry."""
    rig, told = held(), {"paused": list[str](), "resumed": list[str]()}
    rig.doors.note = lambda event, text, **data: event in told and told[event].append(text)  # type: ignore[method-assign,assignment,func-returns-value]
    paused(rig)
    live(rig, 8.0)
    assert {event: (len(texts), len(set(texts))) for event, texts in told.items()} == {
        "paused": (4, 1),
        "resumed": (3, 1),
    }


@pytest.mark.parametrize("pause", [Pause.OPERATOR, Pause.OTHER])
def test_what_somebody_else_has_paused_is_told_and_left_alone(pause: Pause) -> None:
    rig = held()
    rig.on(ELSEWHERE)
    assert paused(rig, pause) == ["note paused"]
    assert live(rig, 700.0) == []
    assert rig.guard.view.vm is Vm.PAUSED
    assert pause in rig.guard.status(rig.now_s)["paused"]["obstacle"]


def test_while_its_folder_does_not_answer_it_is_not_tried_and_at_once_when_it_does() -> None:
    rig = held()
    rig.on(AbilitySeen("no storage", rig.now_s))
    paused(rig)
    assert live(rig, 100.0) == []
    assert "unpause" in rig.on(AbilitySeen(""))


def test_room_that_is_there_again_is_tried_at_once_and_what_was_in_vain_before_does_not_count() -> None:
    rig = held()
    rig.on(AbilitySeen("", None, "you", storage_full=True))
    paused(rig, Pause.NO_SPACE)
    live(rig, 100.0, pause=Pause.NO_SPACE)
    assert rig.guard.view.vm is Vm.PAUSED, "no other node has room either"
    assert "unpause" in rig.on(ELSEWHERE)
    assert rig.guard.view.resumes == 1


@pytest.mark.parametrize("pause", pauses.BY_ITSELF)
def test_what_fails_here_alone_is_stopped_after_the_time_of_lost_storage_and_the_lease_given_back(pause: Pause) -> None:
    rig = held()
    paused(rig, pause)
    rig.on(ELSEWHERE)
    live(rig, LOST_S - 0.3, pause=pause)
    assert rig.guard.view.vm is Vm.PAUSED
    live(rig, 5.0, pause=pause)
    assert rig.guard.view.vm is Vm.OFF
    assert rig.guard.view.lease is not None
    assert rig.on(rig.granted()).count("note released") == 1
    assert rig.guard.view.lease.phase is Phase.RELEASED


@pytest.mark.parametrize(
    ("limits", "ability"),
    [(LIMITS, AbilitySeen("")), (Limits(ranking=LIMITS.ranking), ELSEWHERE)],
    ids=["no other node", "never, by the configuration"],
)
def test_what_could_not_be_helped_elsewhere_or_is_not_to_be_stays(limits: Limits, ability: AbilitySeen) -> None:
    rig = held(limits)
    paused(rig)
    rig.on(ability)
    assert len(live(rig, 300.0)) == 9
    assert rig.guard.view.vm is Vm.PAUSED


def test_a_node_gives_it_up_once_in_a_while_only() -> None:
    seen = view(
        vm=Vm.PAUSED, pause=Pause.IO_ERROR, troubled_s=900.0, resumes=9, storage_elsewhere="you", storage_limit_s=12.0,
        desired=Run.STARTED,
    )  # fmt: skip
    assert pauses.given_up_reason(seen)
    assert not pauses.given_up_reason(seen.but(gave_up_s=500.0, give_up_every_s=600.0))
    assert pauses.given_up_reason(seen.but(gave_up_s=300.0, give_up_every_s=600.0))
    assert pauses.given_up_reason(seen.but(gave_up_s=950.0)), "the kill is repeated until it is confirmed"


@pytest.mark.parametrize(
    "order",
    [Ordered(Op.RELEASE, 5, "moved", 60.0), Ordered(Op.RESET, 5, "reset", 60.0)],
    ids=["release", "reset"],
)
def test_an_order_comes_before_a_resume(order: Ordered) -> None:
    rig = held()
    paused(rig)
    rig.on(order)
    assert "unpause" not in rig.after(pauses.FIRST_GAP_S + 0.1)


def test_a_vm_that_is_not_wanted_is_not_resumed() -> None:
    rig = held()
    paused(rig)
    rig.on(DesiredSeen(Run.STOPPED))
    assert live(rig, 5.0) == []


def test_nothing_is_resumed_while_the_fencer_is_away_or_a_migration_stands_in_the_record() -> None:
    ready = view(vm=Vm.PAUSED, pause=Pause.IO_ERROR, desired=Run.STARTED, barred=False, promised_until_s=1004.0)
    assert pauses.obstacle(ready) == ""
    assert pauses.obstacle(ready.but(fencer_there=False))
    assert pauses.obstacle(ready.but(fencer_owes=1))
    assert pauses.obstacle(ready.but(promised_until_s=1000.0 + TIMINGS.deadline_s / 2))
    assert pauses.obstacle(ready.but(sighting=sighting(lease(phase=Phase.MIGRATING, target="you"))))


def test_without_the_fencer_it_is_resumed_as_soon_as_that_is_back() -> None:
    rig = held()
    paused(rig)
    rig.on(FencerSeen(False))
    assert "unpause" not in rig.after(2.0)
    assert "unpause" in rig.on(FencerSeen(True))


def test_a_vm_that_was_to_be_migrated_when_its_disk_paused_it_is_resumed() -> None:
    rig = held()
    rig.on(Ordered(Op.MIGRATE, 9, "maintenance", 600.0, target="you"))
    paused(rig, Pause.NO_SPACE)
    assert live(rig, 10.0, fails=False)
    assert rig.guard.state is State.RUNNING
