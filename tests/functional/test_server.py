"""The guard's socket: protocol, limits, errors."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnha.daemon.server import MAX_CLIENTS, MAX_LINE, Server, Subscribers
from mnha.errors import RefusedError

ATTACK_S = 3.0
PATIENCE_S = 30.0


def refuse(_request: dict) -> dict:
    raise RefusedError("node1 holds the lease")


@pytest.fixture
def subscribers() -> Subscribers:
    return Subscribers()


@pytest.fixture
def path(tmp_path: Path, subscribers: Subscribers) -> Path:
    path = tmp_path / "run" / "guard.sock"
    handlers = {"status": lambda _request: {"state": "running"}, "takeover": refuse, "bug": lambda _request: {}["x"]}
    Server(path, handlers, {"events": lambda _request: subscribers.subscribe({"first": True})}).start()
    return path


def talk(path: Path, *lines: bytes) -> list[dict]:
    """Send lines, return as many answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        with client.makefile("rwb") as stream:
            answers = []
            for line in lines:
                stream.write(line + b"\n")
                stream.flush()
                answers.append(json.loads(stream.readline()))
            return answers


def test_only_root_can_reach_the_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_several_requests_on_one_connection(path: Path) -> None:
    first, second = talk(path, b'{"v":1,"op":"status"}', b'{"v":1,"op":"takeover"}')
    assert first == {"v": 1, "ok": True, "result": {"state": "running"}}
    assert second == {"v": 1, "ok": False, "error": {"kind": "refused", "message": "node1 holds the lease"}}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "not JSON"),
        (b"[]", "is an object"),
        (b'{"op":"status"}', "version None"),
        (b'{"v":2,"op":"status"}', "version 2"),
        (b'{"v":1,"op":"explode"}', "knows no 'explode'; it knows bug, events, status, takeover"),
        (b'{"v":1,"op":"status","x":"' + b"y" * MAX_LINE + b'"}', "longer than"),
        (b"[" * (MAX_LINE - 1), "not JSON"),
        (b'{"v":1,"op":"status","wait_s":NaN}', "NaN is no number"),
        (b'{"v":1,"op":"status","wait_s":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"v":1,"op":"status","reason":"\\ud800"}', "surrogates not allowed"),
        (b"\xff\xfe", "not JSON"),
        (b"\x00" * 100, "not JSON"),
    ],
)
def test_a_bad_request_is_invalid_and_says_why(path: Path, line: bytes, words: str) -> None:
    (answer,) = talk(path, line)
    assert answer["error"]["kind"] == "invalid"
    assert words in answer["error"]["message"]


def test_a_bug_in_a_handler_is_an_answer_too(path: Path) -> None:
    bug, status = talk(path, b'{"v":1,"op":"bug"}', b'{"v":1,"op":"status"}')
    assert bug["error"]["kind"] == "failed"
    assert status["ok"]


def test_events_are_streamed_after_the_first_line(path: Path, subscribers: Subscribers) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(b'{"v":1,"op":"events"}\n')
        with client.makefile("rb") as stream:
            assert json.loads(stream.readline())["result"] == {"first": True}
            subscribers.publish({"event": "taken"})
            assert json.loads(stream.readline())["result"] == {"event": "taken"}


class Attack:
    """Clients that behave badly, and how well a good one is served meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(10)
        client.connect(str(self.path))
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.clients.clear()

    def ask(self, timeout_s: float = 5.0) -> float:
        """Seconds until a well-behaved client has its answer; it comes again while the guard has too many."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            with contextlib.suppress(OSError, ValueError):
                (answer,) = talk(self.path, b'{"v":1,"op":"status"}')
                if answer["ok"]:
                    return time.monotonic() - began_s
            time.sleep(0.01)
        raise AssertionError(f"no answer within {timeout_s:g} s")


@pytest.fixture
def attack(path: Path) -> Iterator[Attack]:
    made = Attack(path)
    yield made
    made.close()


def everything(client: socket.socket) -> list[dict]:
    """All answers until the guard closes; a reset follows them if it has not read all that was sent."""
    text = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(MAX_LINE):
            text += part
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("ending", [b"", b"\n"])
@pytest.mark.parametrize("size", [MAX_LINE + 2, 3 * MAX_LINE, 40 * MAX_LINE])
def test_a_line_that_is_too_long_is_answered_once_and_the_connection_closed(
    attack: Attack, size: int, ending: bytes
) -> None:
    client = attack.connect()
    with contextlib.suppress(ConnectionError):  # closed while it was still being sent
        client.sendall(b"x" * size + ending)
    (answer,) = everything(client)
    assert answer["error"]["kind"] == "invalid"
    assert "longer than" in answer["error"]["message"]
    assert attack.ask() < 1.0


def test_requests_that_come_in_pieces_or_together_are_answered_in_their_order(attack: Attack) -> None:
    client = attack.connect()
    for byte in b'{"v":1,"op":"status"}\n{"v":1':
        client.sendall(bytes([byte]))
    client.sendall(b',"op":"takeover"}\n{"v":1,"op":"status"}\n')
    client.shutdown(socket.SHUT_WR)
    assert [answer["ok"] for answer in everything(client)] == [True, False, True]


def test_a_line_that_does_not_come_to_its_end_is_given_up(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnha.daemon.server.LINE_S", 0.5)
    client, began_s = attack.connect(), time.monotonic()

    def write_for_ever() -> None:
        while time.monotonic() - began_s < PATIENCE_S:
            client.sendall(b" ")  # each one alone would be in time
            time.sleep(0.05)

    with pytest.raises(ConnectionError):
        write_for_ever()
    assert time.monotonic() - began_s > 0.4


def test_a_client_that_reads_no_answer_is_given_up(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnha.daemon.server.LINE_S", 0.5)
    client = attack.connect()
    client.settimeout(PATIENCE_S)

    def ask_for_ever() -> None:
        while True:
            client.sendall(b'{"v":1,"op":"status"}\n' * 1000)

    with pytest.raises(ConnectionError):
        ask_for_ever()


def test_more_clients_than_it_serves_are_told_so_and_it_recovers_at_once(attack: Attack) -> None:
    for _ in range(MAX_CLIENTS):
        attack.connect().sendall(b'{"v":1,"op":"status"}\n')
    for client in attack.clients:
        client.recv(1)  # served: its thread runs
    (answer,) = everything(attack.connect())
    assert answer["error"]["kind"] == "refused"
    assert f"serves {MAX_CLIENTS} clients" in answer["error"]["message"]
    attack.close()
    assert attack.ask() < 1.0


def test_a_listener_that_leaves_in_the_middle_of_the_stream_leaves_nothing_behind(
    attack: Attack, subscribers: Subscribers
) -> None:
    threads = threading.active_count()
    for _ in range(3 * MAX_CLIENTS):
        client = attack.connect()
        client.sendall(b'{"v":1,"op":"events"}\n')
        client.recv(10)  # not even the first line to its end
        client.close()
        subscribers.publish({"event": "taken"})
    deadline_s = time.monotonic() + 5
    while threading.active_count() > threads or subscribers._queues:
        assert time.monotonic() < deadline_s, f"{len(subscribers._queues)} listeners are left"
        subscribers.publish({"event": "taken"})
        time.sleep(0.02)
    assert attack.ask() < 1.0


def test_under_attack_the_other_threads_of_the_guard_go_on(attack: Attack) -> None:
    """Thousands of connections, garbage, long lines and half requests: a thread beside them, as the one that renews the
    lease, is never held up for half a second, where the shortest deadline of a lease is 2.5 s."""
    gaps, stop = [0.0], threading.Event()

    def beat() -> None:
        last_s = time.monotonic()
        while not stop.wait(0.02):
            now_s = time.monotonic()
            gaps.append(now_s - last_s)
            last_s = now_s

    heart = threading.Thread(target=beat)
    heart.start()
    lines = (
        b"garbage\n" * 50,
        b"x" * (2 * MAX_LINE),
        b'{"v":1,"op":"status"}\n' * 20,
        b'{"v":1',
        b'{"v":1,"op":"events"}\n',
    )
    number, began_s = 0, time.monotonic()
    try:
        while number < 1000 or time.monotonic() - began_s < ATTACK_S:
            with contextlib.suppress(OSError):
                client = attack.connect()
                client.setblocking(False)
                client.send(lines[number % len(lines)])
            number += 1
            if number % 100 == 0:
                attack.close()
                assert attack.ask() < 2.0
    finally:
        stop.set()
        heart.join()
    print(f"{number} connections in {ATTACK_S:g} s; longest gap {max(gaps) * 1000:.0f} ms of {len(gaps)} beats")
    assert len(gaps) > 50
    assert max(gaps) < 0.5


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode)), min_size=1, max_size=5))
def test_every_line_gets_one_answer_whatever_is_in_it(path: Path, lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    answers = talk(path, *lines)
    assert [answer["error"]["kind"] for answer in answers] == ["invalid"] * len(lines)


def test_who_serves_clients_has_no_real_time_priority_though_the_guard_has(tmp_path: Path) -> None:
    """Takes root."""
    path = tmp_path / "run" / "guard.sock"
    begun: list[int] = []

    def guard() -> None:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        begun.append(os.sched_getscheduler(0))
        Server(path, {"policy": lambda _request: {"policy": os.sched_getscheduler(0)}}, {}).start()

    thread = threading.Thread(target=guard)
    thread.start()
    thread.join()
    assert begun == [os.SCHED_RR]
    assert talk(path, b'{"v": 1, "op": "policy"}')[0]["result"] == {"policy": os.SCHED_OTHER}
