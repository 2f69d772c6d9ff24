"""A node goes down: its guard's `--stop`, as systemd runs it, migrates the VM away and has the guard end. A stand-in
for the running guard takes the orders; Consul is a real server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnha import config, keys
from mnha.config.guard import LEAVE_S, guard_config
from mnha.daemon import leaving
from tests.support.consul_server import ConsulServer, binary, running
from tests.support.example import ROOT, example_with
from tests.support.fake_guard import FakeCluster, FakeGuard, Refusal

NODE = "node1"
SYSTEMCTL = """#!/bin/sh
case $1 in
list-jobs) echo 412 mnha-guard.service stop running ;;
is-system-running) echo {state} ;;
esac
"""


class Holder(FakeGuard):
    """The guard that holds the lease; it migrates, and ends with its VM off."""

    refuses: tuple[str, ...] = ()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "migrate":
            self.orders.append(request)
            if request["target"] in self.refuses:
                raise Refusal("failed", "as told")
            self.vm = "off"
            return {"message": "it is there"}
        if request["op"] == "end":
            self.orders.append(request)
            process = subprocess.Popen(["true"])
            process.wait()
            return {"pid": process.pid}
        return super().answer(request)


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    folder = tmp_path_factory.mktemp("consul")
    with running(binary(folder), folder) as server:
        yield server


class Bed:
    """The node, its holder and the records of the others."""

    def __init__(self, consul: ConsulServer, folder: Path) -> None:
        self.settings = guard_config(config.load(example_with({"watchdog": "off"})), NODE)
        self.settings["socket"] = str(folder / f"{NODE}.sock")
        server = {"host": "127.0.0.1", "port": consul.port}
        # The own server has ended already: another one is asked.
        self.settings["consul"] = {
            "servers": [{"host": "127.0.0.1", "port": 1}, server],
            "ca": str(consul.ca_file), "token_file": str(consul.token_file),
        }  # fmt: skip
        self._folder, self._client = folder, consul.client("")
        self.holder = Holder(FakeCluster(folder, []), NODE, folder / f"{NODE}.sock")
        self.holder.vm = "running"
        self.holder.peers = {node: {"alive": True, "why": ""} for node in self.settings["nodes"] if node != NODE}
        for node in self.settings["nodes"]:
            self.record(keys.node(node), self.report())
            self.record(keys.maintenance(node), None)
        self.holder.start()

    def report(self, *, well: bool = True) -> dict[str, Any]:
        """What a node's guard says of it."""
        return {
            "checks": {"storage": {"ok": well, "why": "" if well else "hangs"}},
            "free_memory_mib": 1 << 20,
            "cpus": 64,
        }

    def record(self, key: str, value: Any) -> None:
        """Write a record, or delete it."""
        whole = keys.full(self.settings["cluster"], key)
        if value is None:
            self._client.call(lambda consul: consul.kv.delete(whole))
        else:
            self._client.call(lambda consul: consul.kv.put(whole, json.dumps(value).encode()))

    def stop(self, state: str) -> str:
        """Run the unit's ExecStop, with systemd in that state; what it logs."""
        file, command = self._folder / "guard.json", self._folder / "bin/systemctl"
        file.write_text(json.dumps(self.settings))
        command.parent.mkdir(exist_ok=True)
        command.write_text(SYSTEMCTL.format(state=state))
        command.chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-m", "mnha.daemon", "--config", str(file), "--stop"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils"), "PATH": f"{command.parent}:/usr/bin"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    @property
    def orders(self) -> list[tuple[str, str]]:
        """What the holder was asked for, and to which node."""
        return [(order["op"], order.get("target", "")) for order in self.holder.orders]


@pytest.fixture
def bed(consul: ConsulServer, tmp_path: Path) -> Iterator[Bed]:
    made = Bed(consul, tmp_path)
    yield made
    made.holder.stop()


def test_the_vm_of_a_node_that_goes_down_is_migrated_to_the_best_other_node(bed: Bed) -> None:
    said = bed.stop("stopping")
    assert bed.orders == [("migrate", "node2"), ("end", "")]
    migrate, end = bed.holder.orders
    assert migrate["reason"] == end["reason"] == "node1 goes down"
    assert LEAVE_S - 20 < migrate["wait_s"] <= LEAVE_S
    assert "mnvm is on node2 now" in said


def test_the_next_node_is_tried_when_a_migration_fails_and_none_when_all_do(bed: Bed) -> None:
    bed.holder.refuses = ("node2",)
    assert "mnvm was not migrated to node2: as told" in bed.stop("stopping")
    assert bed.orders == [("migrate", "node2"), ("migrate", "node3"), ("end", "")]
    bed.holder.vm, bed.holder.refuses = "running", ("node2", "node3")
    bed.stop("stopping")
    assert bed.orders[-1] == ("end", "")


def test_two_vms_are_not_sent_to_one_node_that_has_room_for_one() -> None:
    """The larger one is placed first."""
    one, other = {"name": "small", "memory_mib": 4000, "cpus": 1}, {"name": "large", "memory_mib": 6000, "cpus": 1}
    new = {"name": "new", "memory_mib": 8000, "cpus": 1}  # the guard began before it was configured
    running = {"vm": "running", "desired": "started", "lease": None}
    checks = {"storage": {"ok": True, "why": ""}}
    records = {
        keys.node(node): {"checks": checks, "free_memory_mib": mib, "cpus": 8}
        for node, mib in (("node1", 20000), ("node2", 9000), ("node3", 8000))
    }
    told = leaving.choices(
        {"node": "node1", "nodes": ["node1", "node2", "node3"], "vms": [one, other, new]},
        {"peers": {"node2": {"alive": True}, "node3": {"alive": True}}, "vms": {"small": running, "large": running}},
        records,
    )
    assert [(vm, choice.order) for vm, choice in told.items()] == [
        ("large", ("node2", "node3")),
        ("small", ("node3",)),
    ]


def test_nobody_is_asked_who_could_not_take_it_and_the_guard_ends_all_the_same(bed: Bed) -> None:
    bed.record(keys.node("node2"), bed.report(well=False))
    bed.record(keys.maintenance("node3"), {"by": "test"})
    said = bed.stop("stopping")
    assert bed.orders == [("end", "")]
    assert "node2: check storage fails: hangs; node3: is in maintenance by test" in said
    bed.settings["consul"]["servers"] = bed.settings["consul"]["servers"][:1]
    assert "no VM is migrated away: no Consul server tells" in bed.stop("stopping")


@pytest.mark.parametrize("wish", ["stopped", "started"])
def test_what_does_not_run_or_is_not_to_run_is_not_migrated(bed: Bed, wish: str) -> None:
    bed.holder.world.desired = wish
    bed.holder.vm = "running" if wish == "stopped" else "off"
    bed.stop("stopping")
    assert bed.orders == [("end", "")]


def test_a_guard_that_is_stopped_alone_is_stopped_as_ever(bed: Bed) -> None:
    bed.stop("running")
    assert bed.orders == [("end", "")]
    assert bed.holder.orders[0]["reason"] == "the guard of node1 was stopped"
