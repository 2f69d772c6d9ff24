"""The watch of the nodes' records, against a real server; and that a guard and a master choose alike by them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.shell import wait_until
from mnha import keys
from mnha.core.choose import Node
from mnha.core.model import Run, Vm
from mnha.core.placement import place
from mnha.daemon.adapters import node_records
from mnha.daemon.adapters.consul import Servers
from mnha.daemon.adapters.node_records import NodeRecords, Seen
from mnha.daemon.turns import turns_of
from mnha.master.placing import cluster_of
from mnha.master.view import view_of
from tests.support.consul_server import ConsulServer, binary, running
from tests.unit.core.views import lease, sighting, view

WELL = {"checks": {"storage": {"ok": True, "why": ""}}, "free_memory_mib": 20000, "cpus": 8}
ILL = {**WELL, "checks": {"storage": {"ok": False, "why": "hangs"}}}
VM = {"memory_mib": 8192, "cpus": 4, "prefer": []}
CONFIG = {"node": "n2", "nodes": ["n1", "n2", "n3"], "memory_reserve_mib": 1024, "vms": [{"name": "mnvm", **VM}]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConsulServer]:
    with running(binary(tmp_path / "consul"), tmp_path) as running_server:
        yield running_server


def put(servers: Servers, key: str, record: object) -> None:
    body = record if isinstance(record, str) else json.dumps(record)
    assert servers.ask(0, 5.0, lambda consul: consul.kv.put(keys.full("t", key), body))


def watch(servers: Servers) -> NodeRecords:
    records = NodeRecords(servers, keys.folder("t"))
    assert records.seen() is None
    records.start()
    return records


def test_it_sees_each_change_and_what_can_not_be_read_is_no_record(server: ConsulServer) -> None:
    servers = server.servers()
    records = watch(servers)
    wait_until(lambda: records.seen() == Seen({}, {}), 10, "no record")
    put(servers, keys.node("n1"), WELL)
    put(servers, keys.node("n2"), "no record")
    wait_until(lambda: records.seen() == Seen({"n1": WELL}, {}), 3, "the first record")
    put(servers, keys.node("n1"), ILL)
    wait_until(lambda: records.seen() == Seen({"n1": ILL}, {}), 3, "a change")
    put(servers, keys.maintenance("n2"), {"by": "me"})
    put(servers, keys.maintenance("n3"), "no record")
    wait_until(lambda: records.seen() == Seen({"n1": ILL}, {"n2": {"by": "me"}, "n3": {}}), 8, "maintenance")
    put(servers, "vms/mnvm/lease", {"holder": "n1"})
    put(servers, "nodes-of-another/n9", WELL)
    assert records.seen() == Seen({"n1": ILL}, {"n2": {"by": "me"}, "n3": {}})


def test_what_was_known_holds_for_a_while_and_then_nothing_is_known(
    server: ConsulServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_records, "OLD_S", 6.5)
    servers = server.servers()
    put(servers, keys.node("n1"), WELL)
    records = watch(servers)
    wait_until(lambda: records.seen() == Seen({"n1": WELL}, {}), 10, "the record")
    server.stop()
    assert records.seen() == Seen({"n1": WELL}, {})
    wait_until(lambda: records.seen() is None, 10, "it is too old")
    assert "can't be read" in records.threads[0].why
    server.start()
    wait_until(lambda: records.seen() == Seen({"n1": WELL}, {}), 30, "it is read again")


def test_a_guard_chooses_as_a_master_does_by_the_same_records(server: ConsulServer) -> None:
    servers, client = server.servers(), server.client("anonymous")
    for name, record in (("n1", WELL), ("n2", WELL), ("n3", {**WELL, "free_memory_mib": 30000})):
        put(servers, keys.node(name), record)
    put(servers, keys.lease("mnvm"), {"holder": "n1", "phase": "held", "target": None})
    put(servers, keys.desired("mnvm"), {"run": "started"})
    records = watch(servers)
    wait_until(lambda: records.seen() and len(records.seen().nodes) == 3, 10, "the records")  # type: ignore[union-attr]

    def by_a_master() -> tuple[str, ...]:
        values = {entry.key.removeprefix("mnha/t/"): entry.value for entry in client.list("mnha/t/")}
        seen = view_of(values, [])
        nodes = [
            Node(name, seen["nodes"].get(keys.node(name)), True, seen["maintenance"].get(keys.maintenance(name)))
            for name in CONFIG["nodes"]
        ]
        conf = {"vms": {"mnvm": VM}, "memory_reserve_mib": 1024}
        return place(cluster_of(conf, seen["vms"], nodes), "mnvm").order

    def by_a_guard() -> Any:
        guard: Any = SimpleNamespace(
            view=view(sighting=sighting(lease("n1")), desired=Run.STARTED, vm=Vm.OFF), vm_pid=None
        )
        alive = {name: {"alive": True} for name in ("n1", "n3")}
        return turns_of(CONFIG, {"mnvm": guard}, WELL, records.seen(), alive)["mnvm"]

    assert by_a_guard() == by_a_master() == ("n3", "n2")
    put(servers, keys.maintenance("n3"), {"by": "me"})
    wait_until(lambda: by_a_guard() == ("n2",), 8, "n3 has no turn")
    assert by_a_master() == ("n2",)
