"""The watch of a node's maintenance record, against a real server."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnha.daemon.adapters.consul import Servers
from mnha.daemon.adapters.maintenance import Maintenance
from tests.support.consul_server import ConsulServer, binary, running

KEY = "mnha/t/maintenance/n1"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConsulServer]:
    with running(binary(tmp_path / "consul"), tmp_path) as running_server:
        yield running_server


def put(servers: Servers, record: object) -> None:
    assert servers.ask(0, 5.0, lambda consul: consul.kv.put(KEY, json.dumps(record)))


def test_it_tells_of_each_change_and_of_nothing_else(server: ConsulServer) -> None:
    told: queue.Queue[str] = queue.Queue()
    servers = server.servers()
    Maintenance(servers, KEY, told.put).start()
    put(servers, {"by": "root@m1", "at": 1.0, "reason": "new memory"})
    assert told.get(timeout=10) == "in maintenance by root@m1: new memory"
    put(servers, {"by": "root@m1", "at": 2.0, "reason": "new memory"})
    put(servers, {"by": "root@m1", "at": 2.0, "reason": ""})
    assert told.get(timeout=10) == "in maintenance by root@m1"
    put(servers, ["not", "a", "record"])
    assert told.get(timeout=10) == "in maintenance"
    assert servers.ask(0, 5.0, lambda consul: consul.kv.delete(KEY))
    assert told.get(timeout=10) == ""
    assert told.empty()


def test_what_was_known_holds_while_consul_is_away(server: ConsulServer) -> None:
    told: queue.Queue[str] = queue.Queue()
    servers = server.servers()
    put(servers, {"by": "me"})
    Maintenance(servers, KEY, told.put).start()
    assert told.get(timeout=10) == "in maintenance by me"
    server.stop()
    with pytest.raises(queue.Empty):
        told.get(timeout=3)
    server.start()
    with pytest.raises(queue.Empty):
        told.get(timeout=3)


def test_a_server_that_has_not_read_all_of_its_data_ends_no_maintenance(
    server: ConsulServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has just been started: its copy has no record yet, though it knows a leader, or is it."""
    told: queue.Queue[str] = queue.Queue()
    servers = server.servers()
    put(servers, {"by": "me"})
    watch = Maintenance(servers, KEY, told.put)
    behind = threading.Event()
    record = watch._record

    def stale(index: int, consul: Any) -> Any:
        return consul.kv.get("not/written/yet") if behind.is_set() else record(0, consul)

    monkeypatch.setattr(watch, "_record", stale)
    watch.start()
    assert told.get(timeout=10) == "in maintenance by me"
    behind.set()
    with pytest.raises(queue.Empty):
        told.get(timeout=2)
    assert servers.ask(0, 5.0, lambda consul: consul.kv.delete(KEY))
    assert told.get(timeout=10) == ""
