"""The hand-over goes out against the newest record, so that the guest does not stand still for a second try."""

from __future__ import annotations

from mnha.core.model import Vm
from mnha.core.ports import VmSeen

from .test_migration import ended, moving, written


def test_the_end_of_a_vm_that_moves_sends_no_renewal_that_would_void_the_hand_over() -> None:
    rig = moving()
    assert "cas" not in rig.on(VmSeen(Vm.OFF, 1))
    assert rig.guard.view.unanswered == 0
    assert "cas" in rig.on(ended(rig))
    assert written(rig).holder == "you"
