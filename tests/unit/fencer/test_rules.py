"""Until T, then dead: each rule by itself, and all of them under whatever guard, kernel and successor may do."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mnha.errors import FailedError, InputError, MnhaError, RefusedError
from mnha.fencer.rules import KILL_EVERY_S, LONGEST_S, Fencer, Grant

K = 2.0
VMS = ("one", "two")


class Ground:
    """Slices, device and memory that do what the test wants of them, as unkind as a kernel may be."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.alive: set[str] = set()
        self.frozen: set[str] = set()
        self.barred: set[str] = set()
        self.soft = False
        self.stuck: set[str] = set()
        self.kills: list[str] = []
        self.untils: dict[str, float] = {}
        self.counting_until_s: float | None = None
        self.works = True
        self.required = False
        self.saved: dict[str, Grant] = {}
        self.full = False
        self.blind = False

    # slices

    def names(self) -> set[str]:
        if self.blind:
            raise OSError(errno.EIO, "not now")
        return set(self.there)

    def open(self, vm: str) -> None:
        self.there.add(vm)
        self.barred.discard(vm)
        self.alive |= self.frozen & {vm}
        self.frozen.discard(vm)

    def bar(self, vm: str) -> None:
        if self.soft:
            raise OSError(errno.EIO, "not frozen")
        self.there.add(vm)
        self.barred.add(vm)

    def enter(self, vm: str) -> None:
        """A process comes to the group; to a barred one, it executes nothing."""
        self.there.add(vm)
        (self.frozen if vm in self.barred else self.alive).add(vm)

    def is_empty(self, vm: str) -> bool:
        if self.blind:
            raise OSError(errno.EIO, "not now")
        return vm not in self.alive | self.frozen

    def kill(self, vm: str) -> None:
        self.kills.append(vm)
        self.frozen.discard(vm)
        if vm not in self.stuck:
            self.alive.discard(vm)

    # the device: one moment for all, which outlives a fencer

    def arm(self, until_s: float, vm: str) -> bool:
        if not self.works:
            return not self.required
        self.untils[vm] = until_s
        self.counting_until_s = min(self.untils.values())
        return True

    def disarm(self, vm: str) -> None:
        self.untils.pop(vm, None)
        self.counting_until_s = min(self.untils.values(), default=None)

    def protects(self, vm: str) -> bool:
        return vm in self.untils

    # memory

    def save(self, grants: Mapping[str, Grant]) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no room")
        self.saved = dict(grants)


@pytest.fixture
def ground() -> Ground:
    return Ground()


def fencer_on(ground: Ground) -> Fencer:
    return Fencer(ground, ground, ground, ground.saved)


def running(ground: Ground, until_s: float = 5.0) -> Fencer:
    """A fencer of a VM that was prepared and has been started."""
    made = fencer_on(ground)
    made.prepare("one", until_s, K, 0.0)
    ground.alive.add("one")
    return made


def test_a_vm_lives_until_its_moment_and_not_longer(ground: Ground) -> None:
    fencer = running(ground)
    assert fencer.look(4.999) == 5.0
    assert ground.kills == []
    fencer.look(5.0)
    assert ground.kills == ["one"]


def test_the_device_is_armed_before_and_moved_by_grants_only(ground: Ground) -> None:
    fencer = running(ground)
    assert ground.counting_until_s == 7.0
    fencer.look(3.0)
    assert ground.counting_until_s == 7.0
    fencer.grant("one", 8.0, K, 3.0)
    assert ground.counting_until_s == 10.0


def test_what_does_not_die_is_killed_again_and_not_petted_for(ground: Ground) -> None:
    fencer = running(ground)
    ground.stuck.add("one")
    assert fencer.look(5.0) == 5.0 + KILL_EVERY_S
    fencer.look(5.05)
    fencer.look(5.1)
    assert ground.kills == ["one", "one"]
    assert ground.counting_until_s == 7.0
    ground.alive.clear()
    fencer.look(5.2)
    assert ground.counting_until_s is None


def test_nothing_is_granted_after_the_moment_while_the_vm_is_not_dead(ground: Ground) -> None:
    fencer = running(ground)
    ground.stuck.add("one")
    for _ in range(2):  # also before any look at the time, and again
        with pytest.raises(RefusedError, match="being killed"):
            fencer.grant("one", 9.0, K, 5.0)
    with pytest.raises(RefusedError, match="being killed"):
        fencer.prepare("one", 9.0, K, 5.1)
    with pytest.raises(RefusedError, match="being killed"):
        fencer.expect("one", 9.0, 5.1)
    ground.alive.clear()
    with pytest.raises(RefusedError, match="prepare it"):
        fencer.grant("one", 9.0, K, 5.2)
    fencer.prepare("one", 9.0, K, 5.2)


def test_a_vm_that_nobody_granted_anything_is_killed_as_soon_as_it_is_seen(ground: Ground) -> None:
    fencer = fencer_on(ground)
    ground.there.add("two")
    ground.alive.add("two")
    fencer.look(100.0)
    assert ground.kills == ["two"]


def test_the_next_fencer_keeps_the_promise_of_the_one_before(ground: Ground) -> None:
    running(ground)
    after = fencer_on(ground)
    after.look(4.9)
    assert ground.kills == []
    assert ground.counting_until_s == 7.0
    after.look(5.0)
    assert ground.kills == ["one"]


def test_a_fencer_that_remembers_nothing_kills_what_it_finds(ground: Ground) -> None:
    running(ground)
    ground.saved = {}
    fencer_on(ground).look(0.1)
    assert ground.kills == ["one"]


def test_a_grant_that_can_not_be_written_down_does_not_count(ground: Ground) -> None:
    fencer = running(ground)
    ground.full = True
    with pytest.raises(FailedError, match="no room"):
        fencer.grant("one", 8.0, K, 1.0)
    assert ground.counting_until_s == 7.0
    fencer.look(5.0)
    assert ground.kills == ["one"]


def test_what_is_prepared_again_is_not_petted_for_beyond_what_is_written_down(ground: Ground) -> None:
    fencer = running(ground)
    ground.full = True
    with pytest.raises(FailedError, match="no room"):
        fencer.prepare("one", 8.0, K, 1.0)
    assert ground.counting_until_s == 7.0
    ground.full = False
    fencer.prepare("one", 8.0, K, 1.0)
    assert ground.counting_until_s == 10.0


def test_what_comes_late_executes_nothing_and_is_killed(ground: Ground) -> None:
    fencer = running(ground)
    fencer.look(5.0)
    ground.enter("one")
    assert ground.alive == set()
    fencer.look(5.1)
    assert ground.kills == ["one", "one"]
    fencer.prepare("one", 9.0, K, 5.2)
    ground.enter("one")
    assert ground.alive == {"one"}


def test_what_came_late_is_not_let_loose_by_a_new_grant(ground: Ground) -> None:
    fencer = running(ground)
    fencer.look(5.0)
    ground.enter("one")
    with pytest.raises(RefusedError, match="being killed"):
        fencer.prepare("one", 9.0, K, 5.05)
    assert ground.alive == set()


def test_a_slice_that_can_not_be_frozen_is_told(ground: Ground) -> None:
    fencer = running(ground)
    ground.soft = True
    fencer.look(5.0)
    fencer.look(5.1)
    assert fencer.status(5.1)["one"]["fault"] == "its slice can't be frozen: [Errno 5] not frozen"
    assert ground.kills == ["one"]


def test_a_slice_that_is_not_barred_is_no_success_and_its_vm_is_killed_all_the_same(ground: Ground) -> None:
    fencer = running(ground)
    ground.soft = True
    with pytest.raises(FailedError, match="not barred"):
        fencer.forbid("one", 1.0)
    assert ground.kills == ["one"]
    with pytest.raises(FailedError, match="not barred"):
        fencer.forbid("one", 1.1)
    ground.soft = False
    fencer.forbid("one", 1.2)


def test_the_slices_of_known_vms_are_barred_before_anybody_has_made_them(ground: Ground) -> None:
    Fencer(ground, ground, ground, {}, known=["two"]).look(0.0)
    ground.enter("two")
    assert ground.alive == set()


def test_to_forbid_needs_no_memory(ground: Ground) -> None:
    fencer = running(ground)
    ground.full = True
    fencer.forbid("one", 1.0)
    assert ground.kills == ["one"]


def test_without_the_required_watchdog_nothing_is_prepared(ground: Ground) -> None:
    ground.works, ground.required = False, True
    with pytest.raises(RefusedError, match="watchdog"):
        fencer_on(ground).prepare("one", 5.0, K, 0.0)


def test_a_later_moment_of_which_the_required_device_is_not_told_does_not_count(ground: Ground) -> None:
    """Else the device would reset the whole node before the VM's time is over."""
    fencer = running(ground)
    ground.works, ground.required = False, True
    assert not fencer.grant("one", 6.0, K, 1.0)
    assert (fencer.status(1.0)["one"]["until_s"], ground.saved["one"].until_s) == (5.0, 5.0)
    fencer.look(5.0)
    assert (ground.alive, ground.counting_until_s) == (set(), 7.0)


def test_an_earlier_moment_counts_whether_the_device_is_told_or_not(ground: Ground) -> None:
    fencer = running(ground)
    ground.works, ground.required = False, True
    assert not fencer.grant("one", 4.0, K, 1.0)
    assert ground.saved["one"].until_s == 4.0


def test_a_later_moment_without_the_device_counts_where_it_is_not_required(ground: Ground) -> None:
    fencer = running(ground)
    ground.works = False
    assert fencer.grant("one", 6.0, K, 1.0)
    assert ground.saved["one"].until_s == 6.0


def test_not_known_is_not_dead(ground: Ground) -> None:
    fencer = running(ground)
    ground.stuck.add("one")
    ground.blind = True
    fencer.look(6.0)
    assert ground.kills == ["one"]
    assert ground.counting_until_s == 7.0
    assert fencer.status(6.0)["one"] == {
        "empty": None, "kind": "run", "until_s": 5.0, "until_in_s": -1.0, "kill_s": K, "doomed": True, "kills": 1,
        "fault": "whether its slice is empty can't be known: [Errno 5] not now",
    }  # fmt: skip


def test_what_arrives_stands_until_its_moment_without_the_device(ground: Ground) -> None:
    fencer = fencer_on(ground)
    fencer.expect("one", 5.0, 0.0)
    ground.alive.add("one")
    fencer.look(4.0)
    assert (ground.kills, ground.counting_until_s) == ([], None)
    with pytest.raises(RefusedError, match="prepare it"):
        fencer.grant("one", 6.0, K, 4.0)
    fencer.prepare("one", 6.0, K, 4.0)
    with pytest.raises(RefusedError, match="may run here"):
        fencer.expect("one", 7.0, 4.0)
    fencer.look(5.5)
    assert (ground.kills, ground.counting_until_s) == ([], 8.0)


@pytest.mark.parametrize("until_s", [-1.0, 0.0, LONGEST_S + 0.1, float("inf"), float("nan")])
def test_only_a_moment_ahead_and_not_too_far_can_be_prepared(ground: Ground, until_s: float) -> None:
    with pytest.raises(InputError, match="until_s"):
        fencer_on(ground).prepare("one", until_s, K, 0.0)
    assert ground.counting_until_s is None


@pytest.mark.parametrize("kill_s", [0.0, -1.0, LONGEST_S + 1, float("nan")])
def test_only_a_time_to_kill_in_can_be_granted(ground: Ground, kill_s: float) -> None:
    with pytest.raises(InputError, match="kill_s"):
        fencer_on(ground).prepare("one", 5.0, kill_s, 0.0)


class AnyGuard(RuleBasedStateMachine):
    """Whatever is asked, whenever, and whoever is replaced: the promise holds.

    The fencer is stepped in time as its loop does: it looks at least every tenth of a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ground, self.now_s = Ground(), 0.0
        self.promised: dict[str, float] = {}  # the latest moment that was ever confirmed, and not taken back
        self.struck_s: dict[str, float] = {}  # what was taken back, but not in the memory: the next fencer knows it
        self.reset_s: dict[str, float] = {}

    @initialize()
    def begin(self) -> None:
        self.fencer = fencer_on(self.ground)

    @rule(vm=st.sampled_from(VMS), ahead_s=st.floats(-1, 7))
    def prepare(self, vm: str, ahead_s: float) -> None:
        self._confirmed(vm, lambda: self.fencer.prepare(vm, self.now_s + ahead_s, K, self.now_s), ahead_s)

    @rule(vm=st.sampled_from(VMS), ahead_s=st.floats(-1, 7))
    def grant(self, vm: str, ahead_s: float) -> None:
        until_s = max(self.promised.get(vm, float("-inf")), self.struck_s.get(vm, float("-inf")))
        over = vm in self.ground.alive and self.now_s >= until_s
        done = self._confirmed(vm, lambda: self.fencer.grant(vm, self.now_s + ahead_s, K, self.now_s), ahead_s)
        assert not (done and over), "granted after T"

    def _confirmed(self, vm: str, ask: object, ahead_s: float) -> bool:
        try:
            ask()  # type: ignore[operator]
        except MnhaError:
            return False
        self.promised[vm] = self.now_s + ahead_s
        self.reset_s[vm] = self.now_s + ahead_s + K
        return True

    @rule(vm=st.sampled_from(VMS), ahead_s=st.floats(-1, 7))
    def expect_and_bring(self, vm: str, ahead_s: float) -> None:
        """A migration brings it: paused, so no device is asked for, until it is prepared."""
        try:
            self.fencer.expect(vm, self.now_s + ahead_s, self.now_s)
        except MnhaError:
            return
        self.promised[vm] = self.now_s + ahead_s
        self.reset_s.pop(vm, None)
        self.ground.alive.add(vm)

    @rule(vm=st.sampled_from(VMS))
    def forbid(self, vm: str) -> None:
        self.fencer.forbid(vm, self.now_s)
        until_s = self.promised.pop(vm, None)
        if until_s is not None and self.ground.full:
            self.struck_s[vm] = until_s

    @rule(vm=st.sampled_from(VMS))
    def start(self, vm: str) -> None:
        """Libvirt starts it, whenever it comes to that, where its slice was once made."""
        if vm in self.ground.there:
            self.ground.enter(vm)

    @rule(vm=st.sampled_from(VMS))
    def end(self, vm: str) -> None:
        self.ground.alive.discard(vm)
        self.ground.stuck.discard(vm)

    @rule(vm=st.sampled_from(VMS))
    def hang_in_the_kernel(self, vm: str) -> None:
        if vm in self.ground.alive:
            self.ground.stuck.add(vm)

    @rule(full=st.booleans())
    def fill_the_memory(self, full: bool) -> None:
        self.ground.full = full

    @rule()
    def replace_the_fencer(self) -> None:
        self.fencer = fencer_on(self.ground)

    @rule(ticks=st.integers(1, 60))
    def pass_time(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now_s += KILL_EVERY_S
            self.fencer.look(self.now_s)

    @invariant()
    def nothing_outlives_its_moment_but_what_can_not_be_killed(self) -> None:
        if not hasattr(self, "fencer"):
            return
        self.fencer.look(self.now_s)
        for vm in self.ground.alive:
            late = self.now_s >= self.promised.get(vm, float("-inf"))
            assert not late or vm in self.ground.stuck, f"{vm} outlives its moment"

    @invariant()
    def the_device_counts_for_all_that_live_and_never_beyond_what_was_granted(self) -> None:
        for vm in self.ground.alive & self.reset_s.keys():
            assert self.ground.counting_until_s is not None, f"nothing counts for {vm}"
            assert self.ground.counting_until_s <= self.reset_s[vm], f"the device was petted for {vm}"


TestAnyGuard = AnyGuard.TestCase
TestAnyGuard.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
