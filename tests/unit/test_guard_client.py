"""The guard's socket from the client's side: every way in which it can fail has its class and its remedy."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest

from mnha.daemon import client as guard_client
from mnha.errors import BugError, DeadlineError, InputError, RefusedError, UnreachableError
from tests.support.fake_guard import FakeCluster


@pytest.fixture
def world(tmp_path):
    with FakeCluster(tmp_path, ["node1", "node2"]) as found:
        yield found


def answering(path, *lines, pause_s=0.0):
    """A server that answers anything with `lines`, then closes."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve():
        client, _ = listener.accept()
        with client, listener:
            client.recv(4096)
            with contextlib.suppress(OSError):
                for line in lines:
                    client.sendall(line)
                    time.sleep(pause_s)

    threading.Thread(target=serve, daemon=True).start()
    return str(path)


def test_status(world):
    status = guard_client.request("status", path=str(world.guards["node1"].path))
    assert status["vms"]["mnvm"]["lease"]["phase"] == "released"


def test_a_refusal_is_a_refusal_and_an_unknown_vm_an_input_error(world):
    path = str(world.guards["node2"].path)
    with pytest.raises(RefusedError, match="epoch 0"):
        guard_client.request("takeover", path=path, epoch=5, wait_s=1)
    with pytest.raises(InputError, match="other"):
        guard_client.request("takeover", path=path, vm="other", epoch=0, wait_s=1)


def test_fields_that_are_none_are_left_out(world):
    guard_client.request("stop", path=str(world.guards["node1"].path), vm=None, wait_s=1)
    assert world.guards["node1"].orders == [{"v": 1, "op": "stop", "wait_s": 1}]


def test_no_socket(tmp_path):
    with pytest.raises(UnreachableError, match=r"is not there.*systemctl start mnha-guard"):
        guard_client.request("status", path=str(tmp_path / "none.sock"))


def test_nobody_listens(world):
    world.guards["node1"].stop()
    with pytest.raises(UnreachableError, match=r"systemctl restart mnha-guard"):
        guard_client.request("status", path=str(world.guards["node1"].path))


def test_silence_ends_in_time(world):
    world.guards["node1"].silent = True
    began_s = time.monotonic()
    with pytest.raises(DeadlineError, match=r"within 0.2 s"):
        guard_client.request("status", path=str(world.guards["node1"].path), timeout_s=0.2)
    assert time.monotonic() - began_s < 1
    world.guards["node1"].silent = False


def test_an_answer_in_drops_does_not_stretch_the_time(tmp_path):
    path = answering(tmp_path / "s", *[b"x"] * 50, pause_s=0.05)
    began_s = time.monotonic()
    with pytest.raises(DeadlineError, match="within 0.3 s"):
        guard_client.request("status", path=path, timeout_s=0.3)
    assert time.monotonic() - began_s < 1


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        (b"", UnreachableError, "without an answer"),
        (b"nonsense\n", BugError, "not JSON"),
        (b"[1]\n", BugError, "no JSON object"),
        (b'{"v":1}\n', BugError, "protocol"),
        (b'{"v":1,"ok":true}\n', BugError, "protocol"),
        (b'{"v":1,"ok":false,"error":{"kind":"odd","message":"x"}}\n', BugError, "odd"),
    ],
)
def test_answers_that_are_none(tmp_path, line, kind, words):
    with pytest.raises(kind, match=words):
        guard_client.request("status", path=answering(tmp_path / "s", line), timeout_s=2)


def test_an_endless_answer_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(guard_client, "MAX_LINE", 1000)
    with pytest.raises(BugError, match="longer"):
        guard_client.request("status", path=answering(tmp_path / "s", b"x" * 2000), timeout_s=2)


def test_the_stream_yields_status_and_events_and_ends_with_the_guard(tmp_path):
    lines = [json.dumps({"v": 1, "ok": True, "result": result}).encode() + b"\n" for result in ({"a": 1}, {}, {"b": 2})]
    assert list(guard_client.stream(path=answering(tmp_path / "s", *lines))) == [{"a": 1}, {"b": 2}]
