"""A reset that lets the guest shut down before: of one that hangs, and may hear it."""

from __future__ import annotations

from mnha.core.model import Op, Run, State, Vm
from mnha.core.ports import DesiredSeen, Ordered, VmSeen

from .test_guard import Rig

GENTLE_S = 30.0
GENTLY = Ordered(Op.RESET, 5, "hung", 60.0, gentle_s=GENTLE_S)


def live(rig: Rig, seconds: float) -> list[str]:
    """Let time pass with every renewal granted; what was asked for."""
    asked, end_s = [], rig.now_s + seconds
    while rig.now_s < end_s:
        asked += rig.after(0.5)
        if "cas" in rig.asked:
            asked += rig.on(rig.granted())
    return asked


def test_the_guest_is_asked_to_shut_down_again_and_again_and_killed_after_its_time() -> None:
    rig = Rig().holds()
    assert "shutdown" in rig.on(GENTLY)
    assert rig.guard.state is State.STOPPING
    before = live(rig, GENTLE_S - 1.0)
    assert before.count("shutdown") == 2
    assert "kill" not in before
    assert "kill" in live(rig, 1.5)
    rig.on(VmSeen(Vm.OFF, 1))
    assert rig.values("answer")[0][1:] == ("ok", "the VM was killed and is being started again")


def test_one_that_shuts_down_is_started_again_in_place_unkilled() -> None:
    rig = Rig().holds()
    rig.on(GENTLY)
    assert "kill" not in live(rig, 5.0)
    asked = rig.on(VmSeen(Vm.OFF, 1))
    assert rig.values("answer")[0][1:] == ("ok", "the VM was shut down and is being started again")
    assert "start" in asked + live(rig, 5.0)
    assert rig.guard.view.shutdown_asked_s is None


def test_a_stop_that_comes_meanwhile_goes_on_with_it() -> None:
    rig = Rig().holds()
    rig.on(GENTLY)
    live(rig, 5.0)
    assert "kill" not in rig.on(DesiredSeen(Run.STOPPED))
    rig.on(VmSeen(Vm.OFF, 1))
    assert "start" not in live(rig, 5.0)


def test_a_reset_without_that_kills_at_once() -> None:
    rig = Rig().holds()
    assert "kill" in rig.on(Ordered(Op.RESET, 5, "hung", 60.0))
