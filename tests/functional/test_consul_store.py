"""The guard's door to Consul, against a real server."""

from __future__ import annotations

import dataclasses
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnha.consul.client import KEEP
from mnha.core import lease as rules
from mnha.core.model import Run
from mnha.core.ports import Answered, DesiredSeen, Event, LeaseSeen, Outcome, ReadFailed
from mnha.core.timing import PROFILES
from mnha.daemon.adapters.consul import Answer, Servers
from mnha.daemon.adapters.lease_store import ConsulStore
from mnha.daemon.adapters.publisher import PRUNE_EVERY, Publisher
from mnha.daemon.answers import Answers
from mnha.daemon.journal import GuardJournal
from mnha.daemon.repeats import PLAIN
from mnha.daemon.server import Subscribers
from mnha.master.history import newest
from tests.support.consul_server import ConsulServer, binary, running

PREFIX = "mnha/t/vms/v"
FIRST = rules.first(PROFILES["default"])


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return binary(tmp_path_factory.mktemp("consul"))


@pytest.fixture
def server(consul: Path, tmp_path: Path) -> Iterator[ConsulServer]:
    with running(consul, tmp_path) as running_server:
        yield running_server


class Inbox:
    """The events of one store."""

    def __init__(self) -> None:
        self._events: queue.Queue[Event] = queue.Queue()
        self.post = self._events.put

    def expect(self, kind: type, timeout_s: float = 5.0):
        """The next event of a kind; others are passed over."""
        while True:
            event = self._events.get(timeout=timeout_s)
            if isinstance(event, kind):
                return event


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def store(server: ConsulServer, inbox: Inbox) -> ConsulStore:
    made = ConsulStore(server.servers(), PREFIX, inbox.post, timeout_s=5.0)
    made.start()
    return made


def test_a_missing_record_is_reported_as_missing_by_a_consistent_read(store: ConsulStore, inbox: Inbox) -> None:
    store.read()
    assert inbox.expect(LeaseSeen).lease is None


def test_granted_names_the_new_index_and_refused_is_not_lost(store: ConsulStore, inbox: Inbox) -> None:
    store.cas(FIRST, 0, ticket=1)
    granted = inbox.expect(Answered)
    assert (granted.ticket, granted.outcome) == (1, Outcome.GRANTED)
    store.read()
    assert inbox.expect(LeaseSeen) is not None
    store.cas(rules.renewed(FIRST, FIRST.timings), granted.index, ticket=2)
    renewed = inbox.expect(Answered)
    assert renewed.outcome is Outcome.GRANTED
    assert renewed.index > granted.index
    store.cas(rules.renewed(FIRST, FIRST.timings), granted.index, ticket=3)
    assert inbox.expect(Answered).outcome is Outcome.REFUSED


def test_the_watch_tells_each_change_of_the_lease_and_of_the_wish(store: ConsulStore, inbox: Inbox) -> None:
    store.cas(FIRST, 0, ticket=1)
    index = inbox.expect(Answered).index
    seen = inbox.expect(LeaseSeen)
    while seen.lease is None:
        seen = inbox.expect(LeaseSeen)
    assert (seen.lease, seen.index, seen.consistent) == (FIRST, index, False)
    publisher = Publisher(store._servers)
    publisher.start()
    publisher.put(f"{PREFIX}/desired", {"run": "started"})
    assert inbox.expect(DesiredSeen).run is Run.STARTED
    assert store.contact.known_leader


def test_a_server_that_has_not_read_all_of_its_data_tells_no_old_wish(
    server: ConsulServer, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that has just been started: its copy is that of its last snapshot, when the VM was not to run."""
    servers = server.servers()
    for run in ("stopped", "started"):
        assert servers.ask(0, 5.0, lambda consul, run=run: consul.kv.put(f"{PREFIX}/desired", json.dumps({"run": run})))
        if run == "stopped":
            old = servers.read(0, 5.0, lambda consul: consul.kv.get(f"{PREFIX}/", recurse=True))
    behind, seen, read = threading.Event(), threading.Event(), servers.read

    def stale(number: int, timeout_s: float, question: Any) -> Answer:
        answer = read(number, timeout_s, question)
        if not behind.is_set() or not isinstance(answer.value, list):
            return answer
        seen.set()
        return dataclasses.replace(answer, value=old.value)

    monkeypatch.setattr(servers, "read", stale)
    store = ConsulStore(servers, PREFIX, inbox.post, timeout_s=5.0)
    store.start()
    assert inbox.expect(DesiredSeen).run is Run.STARTED
    behind.set()
    assert seen.wait(5.0)
    assert [inbox.expect(DesiredSeen).run for _ in range(2)] == [Run.STARTED] * 2, "asked of the leader, each time"
    behind.clear()
    assert servers.ask(0, 5.0, lambda consul: consul.kv.put(f"{PREFIX}/desired", json.dumps({"run": "stopped"})))
    assert Run.STOPPED in (inbox.expect(DesiredSeen).run for _ in range(10))


def test_a_server_that_is_gone_is_unreachable_and_comes_back(
    server: ConsulServer, store: ConsulStore, inbox: Inbox
) -> None:
    store.cas(FIRST, 0, ticket=1)
    index = inbox.expect(Answered).index
    server.stop()
    store.cas(FIRST, index, ticket=2)
    assert inbox.expect(Answered).outcome is Outcome.UNREACHABLE
    store.read()
    assert "does not answer" in inbox.expect(ReadFailed).error
    server.start()
    store.read()
    assert inbox.expect(LeaseSeen, 10).index == index


def test_publisher_keeps_the_newest_value_of_a_key_while_consul_is_away(server: ConsulServer) -> None:
    publisher = Publisher(server.servers())
    publisher.start()
    server.stop()
    for number in range(300):
        publisher.put("mnha/t/nodes/n1", {"number": number, "why": "ü"})
    server.start()
    publisher.drain(10.0)
    row = server.servers().read(0, 2.0, lambda consul: consul.kv.get("mnha/t/nodes/n1")).value
    assert json.loads(row["Value"]) == {"number": 299, "why": "ü"}


def test_a_history_that_grows_is_pruned_to_its_newest_records_and_nothing_else_is(server: ConsulServer) -> None:
    publisher = Publisher(server.servers())
    publisher.start()
    publisher.put("mnha/t/config", {})
    made = KEEP + PRUNE_EVERY * 2
    for number in range(made):
        publisher.append("mnha/t/history/", f"{number:06d}", {"number": number})
        if number % 100 == 0:
            publisher.drain(10.0)
    publisher.drain(10.0)
    keys = server.servers().read(0, 2.0, lambda consul: consul.kv.get("mnha/t/", keys=True)).value
    assert keys[0] == "mnha/t/config"
    assert keys[1:] == [f"mnha/t/history/{number:06d}" for number in range(made - KEEP, made)]


def test_a_server_that_hangs_and_one_that_is_dead_do_not_keep_a_renewal_from_the_third(
    server: ConsulServer, inbox: Inbox
) -> None:
    """As when Consul's leader loses power: the own agent waits for it, and its node is gone."""
    with socket.create_server(("127.0.0.1", 0)) as hangs, socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]
        gone.close()
        ports = (hangs.getsockname()[1], dead, server.port)
        addresses = [{"host": "127.0.0.1", "port": port} for port in ports]
        store = ConsulStore(Servers(addresses, server.ca_file, server.token_file), PREFIX, inbox.post, timeout_s=5.0)
        store.start()
        began = time.monotonic()
        for ticket in (1, 2, 3):  # as the guard does: the next one while the first is unanswered
            store.cas(FIRST, 0, ticket=ticket)
            time.sleep(0.5)
        outcomes = [inbox.expect(Answered).outcome for _ in range(3)]
        assert Outcome.GRANTED in outcomes
        assert time.monotonic() - began < 3.0


def test_a_vm_that_no_node_can_start_does_not_push_all_else_out_of_the_history(server: ConsulServer) -> None:
    publisher = Publisher(server.servers())
    publisher.start()
    publisher.append("mnha/t/history/", "0-before", {"event": "migrated"})
    journal = GuardJournal("t", "n1", "v", publisher, Subscribers(), Answers())
    rounds = 30
    for epoch in range(rounds):
        for event in ("taken", "start failed", "released"):
            journal.note(event, f"n1 {event}: nobody ordered a take-over for {epoch} s", epoch=epoch)
        publisher.drain(10.0)
    rows = server.servers().read(0, 2.0, lambda consul: consul.kv.get("mnha/t/history/", recurse=True)).value
    entries = {row["Key"].rpartition("/")[2]: json.loads(row["Value"]) for row in rows}
    assert entries.pop("0-before") == {"event": "migrated"}
    assert len(entries) == 3 * PLAIN
    counted = [one for one in entries.values() if "count" in one]
    assert [(one["count"], one["epoch"]) for one in counted] == [(rounds - PLAIN + 1, rounds - 1)] * 3
    assert all(one["at"] < one["last"] for one in counted)
    assert [one["event"] for one in newest(entries, 3)] == ["taken", "start failed", "released"]


def test_what_a_migration_has_brought_is_no_start(server: ConsulServer) -> None:
    publisher = Publisher(server.servers())
    publisher.start()
    journal = GuardJournal("t", "n1", "v", publisher, Subscribers(), Answers())
    for epoch, came_by in ((7, "start"), (8, "migration")):
        journal.note("started", f"the VM runs on n1, by {came_by}", epoch=epoch, came_by=came_by)
        publisher.drain(10.0)
    rows = server.servers().read(0, 2.0, lambda consul: consul.kv.get("mnha/t/vms/v/", recurse=True)).value
    assert {row["Key"]: json.loads(row["Value"])["epoch"] for row in rows} == {"mnha/t/vms/v/last_start": 7}
