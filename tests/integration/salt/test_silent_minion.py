"""The verbs while the minion of the node that has the VM answers nothing: what Consul holds is told, and obeyed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from mnha.errors import MnhaError
from mnha.master import minions
from tests.support.salt_cluster import wait_until

from .conftest import NODES, World, frozen

GONE_S = 10.0


@pytest.fixture
def silent_holder(world: World, running: None) -> Iterator[World]:
    """node1 has the VM, and Salt is stopped there."""
    with frozen(world, "node1"):
        yield world


@contextlib.contextmanager
def orders_to(world: World, node: str) -> Iterator[list[str]]:
    """The functions that are asked of this node alone meanwhile; filled when it has ended. Such an answer is waited
    for, and one that does not come costs 7.5 s; who is asked with others is soon given up.
    """
    found: list[str] = []
    with world.salt.events("m1") as bus:
        yield found
        while event := bus.get_event(wait=2, tag="salt/job/", match_type="startswith", full=True):
            if event["tag"].endswith("/new") and event["data"]["minions"] == [node]:
                found.append(event["data"]["fun"])


def told(world: World, *words: str) -> tuple[int, dict]:
    began_s = time.monotonic()
    code, answer = world.run_json(*words)
    print(f"{' '.join(words)} took {time.monotonic() - began_s:.2f} s: {answer['comment']}")
    return code, answer


def test_a_stop_waits_for_no_minion_of_the_holder(silent_holder: World) -> None:
    with orders_to(silent_holder, "node1") as asked:
        code, answer = told(silent_holder, "mnha.stop")
    assert (code, answer["comment"]) == (0, "mnvm is stopped; it ran on node1"), answer
    assert silent_holder.guards.lease["phase"] == "released"
    assert asked == []


def test_a_start_of_what_runs_there_is_told_from_consul(silent_holder: World) -> None:
    with orders_to(silent_holder, "node1") as asked:
        code, answer = told(silent_holder, "mnha.start")
    assert (code, answer["node"]) == (0, "node1"), answer
    assert answer["comment"].startswith("mnvm runs on node1, epoch ")
    assert asked == []


def test_a_start_is_ordered_from_a_node_whose_minion_answers(world: World) -> None:
    with frozen(world, "node1"), orders_to(world, "node1") as asked:
        code, answer = told(world, "mnha.start")
    assert (code, answer["node"] in NODES[1:]) == (0, True), answer
    assert asked == []


def test_a_migration_is_refused_at_once_and_says_why(silent_holder: World) -> None:
    with orders_to(silent_holder, "node1") as asked:
        code, answer = told(silent_holder, "mnha.migrate", "node2")
    assert code == 1
    assert answer["comment"].startswith("mnvm stays on node1: its minion is silent")
    assert set(asked) == {"test.ping"}, "and no order"


def test_what_is_asked_of_one_minion_is_seen(world: World) -> None:
    """Else the tests above would prove nothing."""
    with orders_to(world, "node1") as asked:
        world.salt.salt("m1", "test.ping", target="node1,")
        world.salt.salt("m1", "test.ping", target="node1,node2")
    assert asked == ["test.ping"]


@pytest.mark.nightly
def test_a_start_while_the_holder_is_dead_takes_the_lease_over(world: World) -> None:
    world.hold("node1")
    world.guards.guards["node1"].stop()
    world.members(["node2", "node3"])
    try:
        with frozen(world, "node1"):
            code, answer = told(world, "mnha.start")
    finally:
        world.guards.guards["node1"].start()
    assert code == 0, answer
    assert answer["node"] in NODES[1:]
    assert world.guards.guards[answer["node"]].vm == "running"


@contextlib.contextmanager
def dead_once_it_is_not_wanted(world: World) -> Iterator[None]:
    """node1 has the VM, and dies when it is known that the VM is not wanted: however long it took to say so, until then
    its lease does not expire, for which the masters would have another node take it.
    """
    over = threading.Event()

    def renew() -> None:
        while world.guards.desired != "stopped" and not over.wait(0.2):
            world.guards.renew()

    world.hold("node1")
    world.guards.guards["node1"].stop()
    world.members(["node2", "node3"])
    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        world.guards.guards["node1"].start()


def test_a_stop_while_the_holder_is_dead_ends_when_its_lease_has_expired(world: World) -> None:
    with dead_once_it_is_not_wanted(world), frozen(world, "node1"):
        code, answer = told(world, "mnha.stop")
    assert code == 0, answer
    assert "node1 has not given its lease back, but nobody has renewed that" in answer["comment"]


def test_before_the_first_start_a_stop_asks_nobody_else(world: World) -> None:
    epoch = world.guards.lease["epoch"]
    world.guards.lease.update(holder="", phase="held", epoch=0)
    code, answer = told(world, "mnha.stop")
    world.guards.lease.update(epoch=epoch)  # it never goes back: the history would be of other tests
    assert (code, answer["comment"]) == (0, "mnvm is stopped: no node has its lease")


def taken_after(world: World, epoch: int) -> dict | None:
    """The record of a failover after that epoch by which a node took the lease."""
    records = [one for one in world.get("history/").values() if "timeline" in one]
    found = [one for one in records if one["epoch"] > epoch and "taken_s" in one["timeline"]]
    return found[0] if found else None


def test_a_failover_does_not_wait_for_a_candidate_whose_minion_is_silent(world: World) -> None:
    """node2 would be the first to be ordered."""
    before = world.guards.lease["epoch"]
    world.hold("node1")
    try:
        with frozen(world, "node2"):
            world.guards.guards["node1"].stop()
            world.members(["node2", "node3"])
            wait_until(lambda: world.guards.lease["holder"] == "node3", 40, "node3 has the lease")
            record = wait_until(lambda: taken_after(world, before), 20, "it is recorded")
    finally:
        world.guards.guards["node1"].start()
    print(record["steps_s"], record["timeline"])
    assert list(record["tried"]) == ["node3"], "a silent minion that is waited for costs 7.5 s"


def test_a_minion_that_falls_silent_over_its_work_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had answered a ping, so the work was waited for as long as that may take."""
    monkeypatch.setattr(minions, "PING_AGAIN_S", 1.0)
    monkeypatch.setattr(minions, "GONE_S", GONE_S)
    ask, told, said = minions.Minions(str(world.salt.config_dir("m1") / "master")), list[object](), list[str]()
    watch = minions.Watch("test.arg", {}, told.append, every_s=0.5)
    order = threading.Thread(
        target=lambda: said.append(_error(lambda: ask.watched("node3", "test.sleep", {"length": 90}, 120, watch)))
    )
    order.start()
    wait_until(lambda: told, 60, "it has answered something meanwhile")
    with frozen(world, "node3"):
        order.join(60)
        together = ask.each(["node2", "node3"], "test.arg", {}, 60, gone_s=GONE_S)
    assert said[0].startswith(f"the minion of node3 does not answer any more, for {GONE_S:g} s: is the node down?"), (
        said
    )
    assert list(together) == ["node2"]


def _error(call: Callable[[], object]) -> str:
    try:
        return f"it returned {call()}"
    except MnhaError as error:
        return error.message
