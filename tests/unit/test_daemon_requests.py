"""What the guard's process decides by itself: what a request may ask for, and when it may be replaced."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from mnha.core.model import Move, Op, Order, View, Vm
from mnha.core.ports import Ordered
from mnha.daemon.adapters.moves import Moves
from mnha.daemon.answers import Answers
from mnha.daemon.ending import LAST_RECORDS_S, LAST_WORDS_S, is_calm, last_s
from mnha.daemon.loop import Loop
from mnha.daemon.requests import DEFAULT_WAIT_S, Requests, wait_of
from mnha.errors import InputError, MnhaError, RefusedError
from tests.unit.core.views import NOW_S, TIMINGS, lease, sighting, view

HALF_S = TIMINGS.deadline_s / 2


@pytest.mark.parametrize(("given", "wait_s"), [({}, DEFAULT_WAIT_S), ({"wait_s": 5}, 5.0), ({"wait_s": 0.5}, 0.5)])
def test_the_time_to_wait(given: dict, wait_s: float) -> None:
    assert wait_of(given) == wait_s


@pytest.mark.parametrize("wait_s", [0, -1, True, "5", None, [], float("nan"), float("inf"), 1e999, 3601])
def test_no_time_to_wait_is_refused(wait_s: object) -> None:
    with pytest.raises(InputError, match="between 0 and 3600"):
        wait_of({"wait_s": wait_s})


@pytest.mark.parametrize("vm", [Vm.RUNNING, Vm.PAUSED, Vm.UNKNOWN])
def test_a_guard_is_not_replaced_under_a_vm_whose_deadline_is_near(vm: Vm) -> None:
    assert is_calm(view(vm=vm, granted_until_s=NOW_S + HALF_S + 0.1))
    for granted_until_s in (NOW_S + HALF_S, NOW_S + 0.1, NOW_S - 0.1, None):
        assert not is_calm(view(vm=vm, granted_until_s=granted_until_s))


@pytest.mark.parametrize("granted_until_s", [NOW_S + 4.0, NOW_S - 100.0, None])
def test_where_no_vm_runs_a_guard_may_be_replaced_at_any_time(granted_until_s: float | None) -> None:
    assert is_calm(view(vm=Vm.OFF, granted_until_s=granted_until_s))


def test_a_guard_is_not_replaced_during_a_start_or_a_migration() -> None:
    far_s = NOW_S + TIMINGS.deadline_s
    assert not is_calm(view(vm=Vm.STARTING, granted_until_s=far_s))
    assert not is_calm(view(vm=Vm.ARRIVING, granted_until_s=far_s))
    assert not is_calm(view(vm=Vm.RUNNING, granted_until_s=far_s, move=Move.UNDER_WAY))
    assert not is_calm(view(vm=Vm.RUNNING, granted_until_s=far_s, move=Move.DONE))


def test_last_words_leave_half_of_the_time_to_the_next_deadline() -> None:
    near, far = view(vm=Vm.RUNNING, granted_until_s=NOW_S + 3.0), view(vm=Vm.RUNNING, granted_until_s=NOW_S + 60.0)
    dead = view(vm=Vm.OFF, granted_until_s=NOW_S + 0.1)
    assert last_s([far, near, dead], NOW_S) == 1.5
    assert last_s([near], NOW_S + 4.0) == 0.0
    assert last_s([far], NOW_S) == last_s([dead], NOW_S) == last_s([], NOW_S) == LAST_WORDS_S + LAST_RECORDS_S


class Reset:
    """A reset that is asked for, of a guard that does what it is ordered to.

    :param objection: what the health of its guest has against it.
    """

    def __init__(self, objection: str = "") -> None:
        self.ordered: list[Ordered] = []
        self.answers, self.loop = Answers(), Loop()
        guard: Any = SimpleNamespace(
            vm_pid=7, wake_s=lambda: float("inf"), tick=lambda now_s: None, handle=self._handle
        )
        self.loop.add("mnvm", guard)
        health = SimpleNamespace(objection=lambda: objection, gentle_s=lambda: 30.0)
        status: Any = SimpleNamespace(of=lambda vm: SimpleNamespace(health=health), disk_objection=lambda vm: "")
        nobody: Any = None
        self.requests = Requests(nobody, self.loop, status, nobody, self.answers, nobody, {})

    def _handle(self, event: Any, now_s: float) -> None:
        self.ordered.append(event)
        self.answers.put(event.ticket, ("ok", "done", {}))

    def ask(self, **request: Any) -> str:
        """What comes of it: done, or why not."""
        said: list[str] = []

        def work() -> None:
            try:
                self.requests.handlers()["reset"]({"vm": "mnvm", "wait_s": 5, **request})
                said.append("done")
            except MnhaError as error:
                said.append(f"{type(error).__name__}: {error.message}")

        thread = threading.Thread(target=work)
        thread.start()
        self.loop.turn()
        thread.join(10)
        return said[0]


def test_a_reset_for_that_the_guest_hangs_is_the_guards_to_judge() -> None:
    asked = Reset("on_hung is report: told only")
    assert asked.ask(hung=True) == f"{RefusedError.__name__}: on_hung is report: told only"
    assert asked.ordered == []
    assert asked.ask() == "done", "somebody wants it"
    assert asked.ordered[0].gentle_s == 0.0


def test_a_guest_that_hangs_may_shut_down_before_and_only_the_process_that_is_meant() -> None:
    asked = Reset()
    assert asked.ask(hung=True, vm_pid=7, wait_s=60) == "done"
    assert asked.ask(hung=True, vm_pid=7, wait_s=5) == "done"
    assert [order.gentle_s for order in asked.ordered] == [30.0, 2.5], "it is killed before the order is void"
    assert "is not process 8 any more" in asked.ask(hung=True, vm_pid=8)


class Seen:
    """A guard whose view is, look after look, what a test says; the last one stays."""

    def __init__(self, *views: View) -> None:
        self._views = list(views)

    @property
    def view(self) -> View:
        return self._views.pop(0) if len(self._views) > 1 else self._views[0]

    def wake_s(self) -> float:
        return float("inf")

    def tick(self, now_s: float) -> None:
        """Nothing is due."""


class Abort:
    """An abort that is asked for, and what the guard's views are meanwhile."""

    def __init__(self, *views: View) -> None:
        self.aborted, self.loop, self.moves = 0, Loop(), Moves()
        guard: Any = Seen(*views)
        self.loop.add("mnvm", guard)
        hypervisor = SimpleNamespace(abort=self._abort, moves=self.moves)
        protected: Any = {"mnvm": SimpleNamespace(hypervisor=hypervisor)}
        node: Any = SimpleNamespace(name="n1")
        nobody: Any = None
        self.requests = Requests(node, self.loop, nobody, nobody, nobody, nobody, protected)

    def _abort(self) -> None:
        self.aborted += 1

    def ask(self) -> str:
        """What comes of it."""
        said: list[str] = []

        def work() -> None:
            try:
                said.append(self.requests.handlers()["migrate_abort"]({"vm": "mnvm"})["message"])
            except MnhaError as error:
                said.append(f"{error.kind}: {error.message}")

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            self.loop.turn()
        return said[0]


MOVES = view(vm=Vm.RUNNING, order=Order(Op.MIGRATE, "test", 99.0, ticket=4, target="n2"))
MINE = MOVES.but(order=None, sighting=sighting(lease("n1", epoch=7)))
THEIRS = MINE.but(sighting=sighting(lease("n2", epoch=8)))


def test_a_migration_under_way_is_aborted_and_the_vm_stays() -> None:
    asked = Abort(MOVES, MOVES.but(move=Move.UNDER_WAY), MOVES.but(move=Move.UNDER_WAY), MINE)
    assert asked.ask() == "the migration of mnvm to n2 is aborted: n1 has its lease, epoch 7"
    assert asked.aborted > 0, "and not before it had begun"
    assert Abort(MOVES, MINE).ask().startswith("the migration of mnvm to n2 is aborted"), "it never began"


def test_what_was_handed_over_by_then_is_told_so() -> None:
    asked = Abort(MOVES.but(move=Move.UNDER_WAY), MOVES.but(move=Move.DONE), THEIRS)
    assert asked.ask() == (
        "refused: mnvm had left n1 already: n2 has its lease, epoch 8; migrate it back, if it is to be here"
    )


def test_an_abort_of_nothing_is_refused_and_tells_of_the_last_one() -> None:
    asked = Abort(MINE)
    assert asked.ask() == "refused: no migration of mnvm away from n1 is under way; n1 has its lease, epoch 7"
    asked = Abort(THEIRS)
    asked.moves.begin("n2")
    asked.moves.end("")
    assert asked.ask() == (
        "refused: no migration of mnvm away from n1 is under way; the last one, to n2, has ended: done; n2 has its"
        " lease, epoch 8"
    )
    assert asked.aborted == 0


def test_a_migration_that_follows_the_aborted_one_is_not_aborted() -> None:
    """As a guard tries the next node, where it leaves of its own accord."""
    under_way = MOVES.but(move=Move.UNDER_WAY)
    order = Order(Op.MIGRATE, "test", 99.0, ticket=5, target="n3")
    asked = Abort(under_way, under_way, MINE.but(order=order, move=Move.UNDER_WAY))
    assert asked.ask() == "the migration of mnvm to n2 is aborted: n1 has its lease, epoch 7"
    assert asked.aborted < 3


def test_a_guard_is_not_replaced_while_its_vm_is_being_resumed() -> None:
    paused = view(vm=Vm.PAUSED, granted_until_s=NOW_S + TIMINGS.deadline_s)
    assert is_calm(paused)
    assert not is_calm(paused.but(resuming=True))
