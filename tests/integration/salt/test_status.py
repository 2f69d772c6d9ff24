"""`salt-run mnha.status` as an operator and a monitoring system run it: what is silent, and the exit code."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator

import pytest

from mnha.core.model import Lease, Phase
from mnha.core.timing import PROFILES
from mnha.master.report import PATIENCE_S, SILENCE_S
from tests.support.consul_server import ConsulServer, binary
from tests.support.consul_server import running as consul_running

from .conftest import frozen

NODES = ("node1", "node2", "node3")
WAIT = "wait_s=60"
"""So long a status would wait for whoever is silent."""
SOON_S = 30.0
"""Within that time, on any machine, it has not waited for him. How long it takes is measured in `tests/bench`."""


def test_a_vm_that_runs_as_desired_is_healthy(world, running) -> None:
    code, answer = world.status()
    assert (code, answer["health"]) == (0, "healthy"), answer["warnings"]
    assert answer["comment"] == "mnvm runs on node1"


def test_a_vm_that_is_stopped_as_desired_is_healthy(world) -> None:
    code, answer = world.status()
    assert (code, answer["comment"]) == (0, "mnvm is stopped"), answer["warnings"]


def test_a_vm_that_is_off_or_paused_is_not(world, running) -> None:
    world.guards.guards["node1"].vm = "paused"
    code, answer = world.status()
    assert (code, answer["health"]) == (1, "degraded")
    assert "mnvm is paused on node1; desired: started" in answer["warnings"]
    world.guards.guards["node1"].vm = "off"
    code, answer = world.status()
    assert code == 1
    assert answer["comment"] == "mnvm is not running: it is off on node1, which holds the lease"


def test_without_consul_it_is_not_known(world, running) -> None:
    (world.folder / "consul_is_down").touch()
    try:
        code, answer = world.status()
    finally:
        (world.folder / "consul_is_down").unlink()
    assert (code, answer["health"]) == (2, "unknown")
    assert answer["comment"] == "mnvm runs on node1; nobody could ask Consul"


def test_a_dead_node_is_down_and_not_waited_for(world, running) -> None:
    world.members(["node1", "node2"])
    began_s = time.monotonic()
    with frozen(world, "node3"):
        done = world.salt.run("m1", "mnha.status", WAIT)
        lasted_s = time.monotonic() - began_s
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"node3 +down +failed +- +no", done.stdout), done.stdout
    assert "! node3: down: Consul says failed" in done.stdout
    print(f"mnha.status took {lasted_s:.2f} s")
    assert lasted_s < SOON_S


def test_a_silent_minion_that_consul_still_sees_is_soon_given_up(world, running) -> None:
    """As in the first seconds after a node has lost its power."""
    with frozen(world, "node3"):
        code, answer = world.status(WAIT, heard=2)
    assert code == 1
    assert [node for node, row in answer["nodes"].items() if not row["answers"]] == ["node3"]
    assert PATIENCE_S <= answer["nodes"]["node3"]["silent_s"] < SOON_S
    (warning,) = [text for text in answer["warnings"] if text.startswith("node")]
    assert warning == "node3: minion silent, but Consul sees the node alive: is salt-minion running there?"


@pytest.mark.nightly  # to CI a minion that stands still is shown
def test_a_killed_minion_is_silent(world, running) -> None:
    world.salt.daemon("node2").kill()
    try:
        code, answer = world.run_json("mnha.status")
    finally:
        world.salt.daemon("node2").start()
        world.salt.wait_for_minions("m1", NODES, 120)
        world.salt.wait_for_minions("m2", NODES, 120)
    assert code == 1
    assert answer["nodes"]["node2"]["contact"] == "minion silent"
    assert answer["comment"] == "mnvm runs on node1"


def test_if_no_minion_answers_it_soon_says_what_that_means(world, running) -> None:
    began_s = time.monotonic()
    with frozen(world, *NODES):
        code, answer = world.run_json("mnha.status", WAIT)
        lasted_s = time.monotonic() - began_s
    assert (code, answer["health"]) == (2, "unknown")
    assert "no minion answers this master" in answer["warnings"][-1]
    assert "VM and guards do not depend on it" in answer["warnings"][-1]
    assert SILENCE_S <= lasted_s < SOON_S


@pytest.fixture
def no_master(world) -> Iterator[None]:
    world.salt.daemon("m1").kill()
    yield
    world.salt.daemon("m1").start()
    world.salt.wait_for_minions("m1", NODES, 120)


def lines_beside_salts_own(text: str) -> list[str]:
    """What stands on standard error, but for the objects that `salt-run` leaves open at a non-zero exit."""
    return [line for line in text.splitlines() if not line.removeprefix("[WARNING ] ").startswith("unclosed ")]


def test_without_a_master_it_says_so_at_once_and_shows_no_error_of_salt(world, running, no_master) -> None:
    began_s = time.monotonic()
    done = world.salt.run("m1", "mnha.status", WAIT)
    lasted_s = time.monotonic() - began_s
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no salt-master runs here: `systemctl start salt-master`" in done.stdout
    assert lines_beside_salts_own(done.stderr) == []
    print(f"mnha.status took {lasted_s:.2f} s without a master")
    assert lasted_s < SOON_S


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    with consul_running(binary(tmp_path_factory.mktemp("consul")), tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def on_a_node(world, consul) -> Iterator[ConsulServer]:
    """The masters' machine is a node: it may read Consul, where node1 renews the lease."""
    client, prefix = consul.client("anonymous"), "mnha/example/"
    lease = json.loads(Lease("node1", 7, Phase.HELD, 1, PROFILES["default"]).to_json())
    client.put(f"{prefix}vms/mnvm/desired", {"run": "started"})
    for node in NODES:
        runs = "running" if node == "node1" else "off"
        checks = {"storage": {"ok": True, "why": ""}}
        client.put(f"{prefix}nodes/{node}", {"checks": checks, "guard": {"vms": {"mnvm": {"vm": runs}}}})
    client.put(f"{prefix}history/1", {"at": "2026-01-01T00:00:00", "event": "taken", "text": "node1 took it"})
    client.put(f"{prefix}vms/mnvm/lease", lease)
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.5):
            lease["seq"] += 1
            client.put(f"{prefix}vms/mnvm/lease", lease)

    thread = threading.Thread(target=renew)
    thread.start()
    conf = {"servers": [{"host": "127.0.0.1", "port": consul.port}], "ca": str(consul.ca_file)}
    (world.folder / "guard.json").write_text(json.dumps({"cluster": "example", "consul": conf}))
    (world.folder / "policy").write_text("anonymous")
    yield consul
    (world.folder / "guard.json").unlink()
    over.set()
    thread.join()


def test_a_node_without_a_master_reads_consul(world, on_a_node, no_master) -> None:
    began_s = time.monotonic()
    code, answer = world.run_json("mnha.status", WAIT)
    lasted_s = time.monotonic() - began_s
    assert (code, answer["health"]) == (1, "degraded"), answer["warnings"]
    assert answer["comment"] == "mnvm runs on node1 by its record, and its lease is being renewed"
    assert any(text.startswith("no salt-master runs here: ") for text in answer["warnings"])
    code, answer = world.run_json("mnha.history")
    assert (code, [event["text"] for event in answer["history"]]) == (0, ["node1 took it"])
    print(f"mnha.status took {lasted_s:.2f} s on a node without a master")
    assert lasted_s < SOON_S


def test_a_node_whose_minions_are_silent_reads_consul_and_accuses_none(world, on_a_node) -> None:
    with frozen(world, *NODES):
        code, answer = world.run_json("mnha.status")
    assert (code, answer["vms"]["mnvm"]["running_on"]) == (1, "node1")
    assert [text for text in answer["warnings"] if text.startswith("node")] == []
