"""The guard's socket: protocol, limits, errors."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from mnha.errors import RefusedError
from mnha.server import MAX_LINE, Server, Subscribers


def refuse(_request: dict) -> dict:
    raise RefusedError("node1 holds the lease")


@pytest.fixture
def subscribers() -> Subscribers:
    return Subscribers()


@pytest.fixture
def path(tmp_path: Path, subscribers: Subscribers) -> Path:
    path = tmp_path / "run" / "guard.sock"
    handlers = {"status": lambda _request: {"state": "holding"}, "takeover": refuse, "bug": lambda _request: {}["x"]}
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
    assert first == {"v": 1, "ok": True, "result": {"state": "holding"}}
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
