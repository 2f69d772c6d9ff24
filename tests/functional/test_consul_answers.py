"""Answers that a sound Consul seldom gives, or never: what both sides take them for, and that they do not run hot."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnha.consul import admin
from mnha.core import lease as rules
from mnha.core.ports import Answered, LeaseSeen, Outcome, ReadFailed
from mnha.core.timing import PROFILES
from mnha.daemon.adapters import lease_store
from mnha.daemon.adapters.lease_store import ConsulStore
from mnha.daemon.adapters.maintenance import Maintenance
from mnha.daemon.adapters.peers import Peers
from mnha.errors import DeadlineError, FailedError, UnreachableError
from tests.support.scripted_consul import CUT, NOT_THERE, Say, Scripted, make_secrets, scripted

PREFIX = "mnha/t/vms/v"
LEASE = rules.first(PROFILES["default"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(tmp_path) as made:
        yield made


class Store:
    """A guard's store whose threads were not started: what they do is done when it is asked for."""

    def __init__(self, server: Scripted) -> None:
        self._events: list[object] = []
        self.store = ConsulStore(server.servers(), PREFIX, self._events.append, 2.0)

    def cas(self) -> Answered:
        self.store._cas(0, LEASE, 0, ticket=1)
        return self._told(Answered)

    def read(self) -> LeaseSeen | ReadFailed:
        self.store._read(0)
        return self._told((LeaseSeen, ReadFailed))

    def watched_error(self) -> str:
        """What the status says after one more round of the watch."""
        self.store._watch_once(0, 0)
        return self.store.contact.error

    def _told(self, kind: Any) -> Any:
        (event,) = self._events
        self._events.clear()
        assert isinstance(event, kind)
        return event


def but_watch(answer: Say) -> Callable[[str, str], Say]:
    """`answer` to everything but the store's watch."""
    return lambda method, path: Say(404) if "stale" in path else answer


def errors(*whats: str) -> str:
    return json.dumps({"Results": None, "Errors": [{"OpIndex": 0, "What": what} for what in whats]})


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Say(200, '{"Results": [{"KV": {"ModifyIndex": 9}}], "Errors": null}'), Outcome.GRANTED),
        (Say(409, errors('failed to set key "k", index is stale')), Outcome.REFUSED),
        (Say(409, errors("Permission denied")), Outcome.UNREACHABLE),
        (Say(409, errors("Permission denied: token 'x' lacks permission 'key:write'")), Outcome.UNREACHABLE),
        (Say(409, errors()), Outcome.UNREACHABLE),
        (Say(409, "<html>Conflict</html>"), Outcome.UNREACHABLE),
        (Say(409, '{"Errors": null}'), Outcome.UNREACHABLE),
        (Say(403, "Permission denied"), Outcome.UNREACHABLE),
        (Say(200, '{"Results": []}'), Outcome.UNREACHABLE),
        (Say(200, "not json"), Outcome.UNREACHABLE),
        (Say(404, ""), Outcome.UNREACHABLE),
        (Say(307, "", {"Location": "/v1/elsewhere"}), Outcome.UNREACHABLE),
        (Say(429, "Your IP is issuing too many concurrent connections"), Outcome.UNREACHABLE),
        (Say(500, "No cluster leader"), Outcome.UNREACHABLE),
        (CUT, Outcome.UNREACHABLE),
    ],
)  # fmt: skip
def test_only_consuls_own_yes_is_a_yes_and_its_own_no_a_no(server: Scripted, answer: Say, outcome: Outcome) -> None:
    server.answer = but_watch(answer)
    answered = Store(server).cas()
    assert answered.outcome is outcome
    assert bool(answered.error) is (outcome is Outcome.UNREACHABLE)
    assert [request for request in server.requests if "txn" in request] == ["PUT /v1/txn"], "sent once"
    assert not [request for request in server.requests if "elsewhere" in request], "no redirect is followed"


@pytest.mark.parametrize("answer", [Say(403, "Permission denied"), Say(409, errors("Permission denied"))])
def test_a_lease_that_may_not_be_written_is_told_as_that_once_and_in_the_status(
    server: Scripted, answer: Say, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = but_watch(answer)
    guard = Store(server)
    with caplog.at_level(logging.ERROR):
        assert [guard.cas().outcome for _ in range(4)] == [Outcome.UNREACHABLE] * 4
    told = [record.getMessage() for record in caplog.records if "lease" in record.getMessage()]
    assert len(told) == 1
    assert "Permission denied" in told[0]
    assert str(server.token_file) in told[0]
    assert "Permission denied" in guard.watched_error()
    server.answer = but_watch(Say(409, errors("index is stale")))
    assert guard.cas().outcome is Outcome.REFUSED
    assert guard.watched_error() == ""


def test_a_fault_of_long_ago_is_not_told_any_more(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = but_watch(Say(403, "Permission denied"))
    guard = Store(server)
    guard.cas()
    assert guard.watched_error()
    monkeypatch.setattr(lease_store, "FAULT_S", 0.0)
    assert guard.watched_error() == ""


@pytest.mark.parametrize(
    "answer",
    [Say(404, "", {}), Say(200, "[]", {}), Say(307, ""), Say(429, "busy"), Say(418, "tea"), Say(200, "no json")],
)  # fmt: skip
def test_a_read_that_was_not_answered_by_consul_does_not_say_that_the_lease_is_missing(
    server: Scripted, answer: Say
) -> None:
    server.answer = but_watch(answer)
    assert isinstance(Store(server).read(), ReadFailed)


def test_a_read_whose_answer_says_that_the_key_is_missing_says_so(server: Scripted) -> None:
    server.answer = but_watch(Say(404, "", {"X-Consul-Index": "3"}))
    assert Store(server).read().lease is None


ENDLESS = [
    Say(429, "Your IP is issuing too many concurrent connections", {}),
    Say(200, "[]", {}),
    Say(200, "[]", {"X-Consul-Index": "0"}),
    Say(200, "[]", {"X-Consul-Index": "many"}),
    Say(404, "", {}),
    Say(307, "", {"X-Consul-Index": "7", "Location": "/v1/kv/"}),
    Say(200, "no json"),
]


@pytest.mark.parametrize("answer", ENDLESS)
def test_no_watch_runs_hot_and_each_tells(server: Scripted, answer: Say, caplog: pytest.LogCaptureFixture) -> None:
    server.answer = lambda method, path: answer
    with caplog.at_level(logging.WARNING):
        store = ConsulStore(server.servers(), PREFIX, lambda event: None, 2.0)
        told: list[str] = []
        store.start()
        Maintenance(server.servers(), "mnha/t/maintenance/n1", told.append).start()
        peers = Peers(server.servers(), ["n2"])
        peers.start()
        time.sleep(2.0)
    asked = {
        part: sum(part in request for request in server.requests) for part in ("/vms/", "/maintenance/", "/health/")
    }
    assert 1 <= asked["/vms/"] <= 9
    assert 1 <= asked["/maintenance/"] <= 3
    assert 1 <= asked["/health/"] <= 3
    assert not store.contact.reachable
    assert f"Consul at 127.0.0.1:{server.port}" in store.contact.error
    assert peers.seen()["n2"]["alive"] is None
    assert "Consul at" in peers.seen()["n2"]["why"]
    assert told == []
    assert sum("in maintenance is not known" in record.getMessage() for record in caplog.records) == 1
    assert not [record for record in caplog.records if record.exc_info], "nothing that nobody expected"


def test_an_index_that_goes_back_is_not_waited_for(server: Scripted) -> None:
    indexes = iter(["9", "4", "4"])
    server.answer = lambda method, path: Say(404, "", {"X-Consul-Index": next(indexes, "5")}, after_s=0.1)
    ConsulStore(server.servers(), PREFIX, lambda event: None, 2.0).start()
    time.sleep(1.0)
    asked = [request.partition("index=")[2].partition("&")[0] for request in server.requests]
    assert asked[:5] == ["", "9", "", "4", "5"]


def test_a_connection_is_kept_while_all_is_well_and_left_after_a_timeout(server: Scripted) -> None:
    servers = server.servers()

    def get() -> object:
        return servers.read(0, 0.3, lambda consul: consul.kv.get("k")).value

    for _ in range(3):
        get()
    assert server.connections == 1
    server.answer = lambda method, path: Say(after_s=1.0)
    with pytest.raises(UnreachableError, match="timed out"):
        get()
    assert len(server.requests) == 4, "not repeated"
    server.answer = lambda method, path: NOT_THERE
    get()
    assert server.connections == 2


def test_a_timeout_belongs_to_its_call_and_not_to_the_connection(server: Scripted) -> None:
    servers = server.servers()
    server.answer = lambda method, path: Say(404, after_s=0.5)
    for limit_s, is_in_time in ((2.0, True), (0.2, False), (2.0, True)):
        try:
            servers.read(0, limit_s, lambda consul: consul.kv.get("k"))
            assert is_in_time
        except UnreachableError:
            assert not is_in_time


def test_salts_side_does_not_know_what_became_of_a_cas_without_answer_and_does_not_repeat_it(server: Scripted) -> None:
    server.answer = lambda method, path: CUT
    with pytest.raises(DeadlineError, match="not known"):
        server.client().cas("k", {}, 0)
    assert len(server.requests) == 1


def test_a_server_with_a_strange_certificate_was_never_sent_anything(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    make_secrets(tmp_path / "other")
    with pytest.raises(UnreachableError, match="certificate not accepted"):
        server.client(ca_file=tmp_path / "other/ca.pem").cas("k", {}, 0)
    assert server.requests == []


def test_autopilot_says_by_429_that_not_all_are_healthy_and_anything_else_by_429_is_no_answer(server: Scripted) -> None:
    body = '{"Healthy": false, "FailureTolerance": 0, "Servers": null}'
    server.answer = lambda method, path: Say(429, body)
    assert admin.health(server.client()) == {"healthy": False, "may_fail": 0, "servers": []}
    server.answer = lambda method, path: Say(429, "too many requests")
    with pytest.raises((UnreachableError, FailedError)):
        admin.health(server.client())


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def settled(limit: int) -> int:
    """How many descriptors are open, once the server has seen that its connections were closed."""
    end = time.monotonic() + 5.0
    while descriptors() > limit and time.monotonic() < end:
        time.sleep(0.05)
    return descriptors()


@pytest.mark.parametrize(
    "answer", [CUT, Say(after_s=1.0), Say(200, "no json"), Say(500, "no leader"), Say(200, "x" * 99, trickles_s=0.05)]
)
def test_connecting_again_and_again_leaves_nothing_open(server: Scripted, answer: Say) -> None:
    servers, failed = server.servers(), []
    with collector_off():
        before = descriptors()
        for number in range(12):
            server.answer = lambda method, path, number=number: answer if number % 2 else NOT_THERE
            server.token_file.write_text(f"t{number}\n")
            try:
                servers.read(0, 0.4, lambda consul: consul.kv.get("k"))
            except UnreachableError as error:
                failed.append((number % 2, error))  # kept: nothing is closed by being forgotten
        assert [odd for odd, _ in failed] == [1] * 6
        assert settled(before + 2) <= before + 2, "one connection, with its two ends"


def test_connecting_in_vain_leaves_nothing_open(server: Scripted, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    make_secrets(tmp_path / "other")
    strange = server.client(ca_file=tmp_path / "other/ca.pem")
    with collector_off():
        before = descriptors()
        for _ in range(20):
            with pytest.raises(UnreachableError):
                strange.get("k")
        assert settled(before) <= before


def test_a_token_that_changes_opens_no_new_connection_and_leaves_none(server: Scripted) -> None:
    servers = server.servers()
    server.answer = lambda method, path: Say(403, "ACL not found")
    with collector_off():
        before = descriptors()
        for number in range(20):
            server.token_file.write_text(f"t{number}\n")
            with pytest.raises(FailedError):
                servers.read(0, 1.0, lambda consul: consul.kv.get("k"))
        assert settled(before + 2) <= before + 2
    assert server.connections == 1


def test_a_client_that_is_not_used_any_more_leaves_nothing_open(server: Scripted) -> None:
    with collector_off():
        before = descriptors()
        for _ in range(20):
            assert server.client().get("k") is None
        assert settled(before) <= before


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Without Python's collector of circles, which would close some day what was left open."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
