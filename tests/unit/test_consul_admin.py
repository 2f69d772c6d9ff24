"""Restarting Consul's servers in turn: never two at once, never without the others' health."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from mnha.consul import admin
from mnha.consul.client import Entry
from mnha.errors import DeadlineError, RefusedError, UnreachableError

NODES = ("node1", "node2", "node3")
DOWN_S = 0.05


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same proportions, forty times faster."""
    for name, value in {"STEADY_S": 0.12, "TOUCH_S": 0.1, "STALE_S": 0.6, "LEADERLESS_S": 1.0, "POLL_S": 0.005}.items():
        monkeypatch.setattr(admin, name, value)


class World:
    """Three servers and their store. Health is seen late, as by autopilot; two servers down are no quorum."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entry: Entry | None = None
        self.next = 1
        self.down: set[str] = set()
        self.seen_down: set[str] = set()
        self.restarts: list[str] = []
        self.worst = 0
        self.lame: set[str] = set()
        """Servers that do not vote."""
        self.lost_replies = 0

    def look(self) -> None:
        """What autopilot does now and then."""
        self.seen_down = set(self.down)

    def restart(self, node: str) -> None:
        with self.lock:
            self.down.add(node)
            self.worst = max(self.worst, len(self.down))
            self.restarts.append(node)
        time.sleep(DOWN_S)
        with self.lock:
            self.down.discard(node)

    def client(self, node: str) -> FakeClient:
        return FakeClient(self, node)


class FakeClient:
    """The part of ConsulClient that a restart uses."""

    servers = ("127.0.0.1", "node2", "node3")

    def __init__(self, world: World, node: str) -> None:
        self.world, self.node = world, node

    def _need_quorum(self) -> None:
        if len(self.world.down) > 1:
            raise UnreachableError("no leader")

    def leader(self, server: str = "") -> str:
        return "" if len(self.world.down) > 1 or (server and self.node in self.world.down) else "x"

    def get(self, key: str, consistent: bool = False) -> Entry | None:
        with self.world.lock:
            self._need_quorum()
            return self.world.entry

    def cas(self, key: str, value: Any, index: int) -> bool:
        with self.world.lock:
            self._need_quorum()
            if index != (self.world.entry.index if self.world.entry else 0):
                return False
            self.world.next += 1
            self.world.entry = Entry(key, value, self.world.next)
            if self.world.lost_replies:
                self.world.lost_replies -= 1
                raise DeadlineError("not known")
            return True

    def delete(self, key: str, index: int | None = None) -> bool:
        with self.world.lock:
            if self.world.entry and self.world.entry.index == index:
                self.world.entry = None
                return True
            return False

    def call(self, request: Any, repeatable: bool = True) -> Any:
        self._need_quorum()
        bad = self.world.seen_down
        lame = self.world.lame
        rows = [
            {"Name": name, "Address": name, "SerfStatus": "alive", "Leader": name == "node1", "Voter": name not in lame,
             "Healthy": name not in bad, "Version": "1.8.7"}
            for name in NODES
        ]  # fmt: skip
        answer = {"Healthy": not bad, "FailureTolerance": 1 - len(bad), "Servers": rows}
        response = SimpleNamespace(code=429 if bad else 200, body=__import__("json").dumps(answer))
        http = SimpleNamespace(call=lambda callback, *_, **__: callback(response))
        return request(SimpleNamespace(http=http))


@pytest.fixture
def world():
    made = World()
    stop = threading.Event()

    def autopilot() -> None:
        while not stop.wait(0.04):
            made.look()

    thread = threading.Thread(target=autopilot)
    thread.start()
    yield made
    stop.set()
    thread.join()


def turn(world: World, node: str, wait_s: float = 20.0) -> admin.RestartInTurn:
    return admin.RestartInTurn(world.client(node), "mnha/c1", node, restart=lambda: world.restart(node), wait_s=wait_s)


def test_three_nodes_at_once_restart_one_after_the_other(world: World) -> None:
    threads = [threading.Thread(target=turn(world, node).run) for node in NODES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(world.restarts) == list(NODES)
    assert world.worst == 1
    assert world.entry is None


def test_nothing_is_restarted_while_another_server_is_down(world: World) -> None:
    world.down.add("node2")
    world.look()
    with pytest.raises(RefusedError, match="node2"):
        turn(world, "node1", wait_s=0.5).run()
    assert world.restarts == []
    assert world.entry is None


def test_nothing_is_restarted_while_a_server_does_not_vote_and_each_is_waited_for(world: World) -> None:
    world.lame.add("node3")
    with pytest.raises(RefusedError, match="of 3 servers only node1, node2 vote"):
        turn(world, "node1", wait_s=0.5).run()
    assert world.restarts == []
    threading.Timer(0.4, world.lame.clear).start()
    began = time.monotonic()
    turn(world, "node1").run()
    assert world.restarts == ["node1"]
    assert time.monotonic() - began > 0.4


def test_the_lock_of_a_living_node_is_respected(world: World) -> None:
    world.entry = Entry("k", {"by": "node2"}, 1)
    with pytest.raises(RefusedError, match="node2 is restarting"):
        turn(world, "node1", wait_s=0.3).run()
    assert world.restarts == []


def test_the_lock_of_a_dead_node_is_taken_over(world: World) -> None:
    world.entry = Entry("k", {"by": "node2"}, 1)
    turn(world, "node1").run()
    assert world.restarts == ["node1"]


def test_its_own_lock_of_a_run_that_broke_off_is_used(world: World) -> None:
    world.entry = Entry("k", {"by": "node1"}, 1)
    began = time.monotonic()
    turn(world, "node1").run()
    assert world.restarts == ["node1"]
    assert time.monotonic() - began < admin.STALE_S


def test_a_lock_whose_confirmation_got_lost_is_found(world: World) -> None:
    world.lost_replies = 1
    turn(world, "node1").run()
    assert world.restarts == ["node1"]


def test_without_a_quorum_for_long_it_is_restarted_alone(world: World) -> None:
    world.down.update({"node2", "node3"})
    began = time.monotonic()
    with pytest.raises(RefusedError):
        turn(world, "node1", wait_s=1.5).run()
    assert world.restarts == ["node1"]
    assert time.monotonic() - began > admin.LEADERLESS_S


def test_a_moment_without_a_leader_does_not_count(world: World) -> None:
    world.down.update({"node2", "node3"})
    threading.Timer(0.3, world.down.clear).start()
    turn(world, "node1").run()
    assert world.restarts == ["node1"]
    assert world.worst == 1
