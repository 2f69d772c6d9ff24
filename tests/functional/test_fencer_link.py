"""The guard's connection to the fencer, over a real socket: what is answered, what is lost, and who is not there."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.shell import wait_until
from mnha.core.ports import Confirmed, Event, FencerSeen
from mnha.daemon.adapters import fencer
from mnha.errors import DeadlineError, RefusedError, UnreachableError
from tests.support.fencer_stub import Stub

PATIENCE_S = 10.0


class Bench:
    """A link, and what two guards hear by it."""

    def __init__(self, path: Path) -> None:
        self.path, self.link = path, fencer.Link(path)
        self.heard: dict[str, queue.SimpleQueue[Event]] = {vm: queue.SimpleQueue() for vm in ("one", "two")}
        self.desks = {vm: self.link.for_vm(vm, heard.put) for vm, heard in self.heard.items()}

    def next(self, vm: str = "one") -> Event:
        return self.heard[vm].get(timeout=PATIENCE_S)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "fencer.sock")


@pytest.fixture
def stub(bench: Bench) -> Iterator[Stub]:
    made = Stub(bench.path)
    bench.link.start()
    assert [bench.next("one"), bench.next("two")] == [FencerSeen(True), FencerSeen(True)]
    yield made
    made.close()


def test_each_guard_gets_the_answers_to_its_own_requests_in_their_order(bench: Bench, stub: Stub) -> None:
    bench.desks["one"].prepare(100.0, 2.0, 1)
    bench.desks["two"].grant(101.0, 2.0, 2)
    bench.desks["one"].expect(102.0, 3)
    bench.desks["one"].forbid(4)
    assert [bench.next("one"), bench.next("one"), bench.next("one")] == [Confirmed(n, True) for n in (1, 3, 4)]
    assert bench.next("two") == Confirmed(2, True)
    asked = [stub.asked.get(timeout=PATIENCE_S) for _ in range(4)]
    assert asked == [
        {"v": 1, "op": "prepare", "vm": "one", "until_s": 100.0, "kill_s": 2.0},
        {"v": 1, "op": "grant", "vm": "two", "until_s": 101.0, "kill_s": 2.0},
        {"v": 1, "op": "expect", "vm": "one", "until_s": 102.0},
        {"v": 1, "op": "kill", "vm": "one"},
    ]


def test_what_it_refuses_is_told_with_its_reason(bench: Bench, stub: Stub) -> None:
    stub.answer = {"ok": False, "error": {"kind": "refused", "message": "one is being killed"}}
    bench.desks["one"].grant(100.0, 2.0, 7)
    assert bench.next() == Confirmed(7, False, True, "one is being killed")


def test_a_fencer_that_ends_is_not_there_and_the_next_one_is(bench: Bench, stub: Stub) -> None:
    stub.silent.set()
    bench.desks["one"].grant(100.0, 2.0, 1)
    stub.asked.get(timeout=PATIENCE_S)
    stub.close()
    assert bench.next() == FencerSeen(False)
    assert "does not answer" in bench.link.error
    bench.desks["one"].grant(101.0, 2.0, 2)  # lost
    after = Stub(bench.path)
    assert bench.next() == FencerSeen(True)
    assert bench.link.error == ""
    bench.desks["one"].grant(102.0, 2.0, 3)
    assert bench.next() == Confirmed(3, True)
    assert after.asked.get(timeout=PATIENCE_S)["until_s"] == 102.0
    after.close()


def test_a_fencer_that_owes_an_answer_for_too_long_is_not_there_until_it_answers_again(
    bench: Bench, stub: Stub
) -> None:
    stub.silent.set()
    bench.desks["one"].grant(100.0, 2.0, 1)
    assert bench.next() == FencerSeen(False)
    assert "no answer within" in bench.link.error
    with pytest.raises(DeadlineError):
        fencer.ask(bench.path, "status")
    stub.silent.clear()
    assert bench.next() == FencerSeen(True)


def test_what_was_granted_is_asked_for_by_who_begins_and_waited_for_a_moment_only(tmp_path: Path) -> None:
    assert fencer.granted(tmp_path / "none.sock", 0.2) == {}
    with pytest.raises(UnreachableError, match="mnha-fencer"):
        fencer.ask(tmp_path / "none.sock", "status")


def test_an_error_that_it_answers_is_raised_with_its_kind(bench: Bench, stub: Stub) -> None:
    stub.answer = {"ok": False, "error": {"kind": "refused", "message": "no"}}
    with pytest.raises(RefusedError, match="no"):
        fencer.ask(bench.path, "kill", vm="one")


def test_its_status_is_known_soon(bench: Bench, stub: Stub) -> None:
    wait_until(lambda: bench.link.watchdog()["mode"] == "automatic", PATIENCE_S, "its status")


def test_what_a_fencer_told_that_has_ended_is_not_told_for_ever(bench: Bench, stub: Stub) -> None:
    wait_until(lambda: bench.link.watchdog()["mode"] == "automatic", PATIENCE_S, "its status")
    stub.close()
    wait_until(lambda: bench.link.watchdog()["mode"] == "unknown", PATIENCE_S, "an old status is told")
    assert "does not answer" in bench.link.watchdog()["why"]
