"""What systemd is told and keeps, over a real socket and a real exec."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnha.host import jobs, systemd

ROOT = Path(__file__).resolve().parents[2]
NEXT = """
import os, sys
from mnha.host import systemd
fd = systemd.kept("watchdog")
assert systemd.kept("watchdog") is None, "asked for twice"
assert not [key for key in os.environ if key.startswith(("LISTEN_", "MNHA_"))]
if fd is None:
    print("none")
else:
    assert not os.get_inheritable(fd)
    print(os.read(fd, 100).decode())
"""


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """systemd's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


@pytest.fixture
def pipe() -> Iterator[int]:
    """The reading end of a pipe in which stands a word."""
    read, write = os.pipe()
    os.write(write, b"mine")
    os.close(write)
    yield read
    os.close(read)


def next_process(code: str, environment: dict[str, str], fds: list[int]) -> str:
    command = [sys.executable, "-c", code]
    mine = {key: value for key, value in os.environ.items() if not key.startswith("MNHA_")}
    environment = {**mine, "PYTHONPATH": str(ROOT / "salt/_utils"), **environment}
    return subprocess.run(
        command, env=environment, pass_fds=fds, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    ).stdout.strip()


def test_what_is_kept_is_sent_with_its_name_and_a_copy(service: socket.socket, pipe: int) -> None:
    systemd.keep("watchdog", pipe)
    text, fds, _, _ = socket.recv_fds(service, 1000, 4)
    assert text.decode().splitlines() == ["FDSTORE=1", "FDPOLL=0", "FDNAME=watchdog"]
    (copy,) = fds
    assert os.read(copy, 100) == b"mine"
    os.close(copy)
    systemd.keep("watchdog", None)
    assert service.recv(1000).decode().splitlines() == ["FDSTOREREMOVE=1", "FDNAME=watchdog"]


def test_nobody_to_tell_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe: int) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.notify("WATCHDOG=1")
    systemd.keep("watchdog", pipe)


@pytest.mark.parametrize(
    ("listed", "stops"),
    [("", True), ("\udcff", True), ("mnha-guard.service", True),
     ("412 mnha-guard.service restart running", False),
     ("412 mnha-guard.service stop running", True),
     ("411 other.service restart waiting\n412 mnha-guard.service stop running", True)],
)  # fmt: skip
def test_a_unit_that_is_restarted_is_not_stopped_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, stops: bool
) -> None:
    command = tmp_path / "systemctl"
    command.write_text(f"#!/bin/sh\ncat <<'E'\n{listed}\nE\n", errors="surrogateescape")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert jobs.stops("mnha-guard.service") is stops


def test_where_systemd_does_not_say_a_unit_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs.stops("mnha-guard.service")


@pytest.mark.parametrize(("state", "stops"), [("stopping", True), ("running", False), ("degraded", False), ("", False)])
def test_whether_the_node_goes_down_is_systemds_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, stops: bool
) -> None:
    command = tmp_path / "systemctl"
    command.write_text(f"#!/bin/sh\necho {state}\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert jobs.node_stops() is stops
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert not jobs.node_stops()


@pytest.mark.parametrize("state", ["loaded", "masked", "not-found"])
def test_whether_systemd_has_a_unit_is_its_own_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    command = tmp_path / "systemctl"
    command.write_text(f"#!/bin/sh\necho {state}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert jobs.load_state("systemd-machined.service") == state


def test_where_systemd_does_not_say_nothing_is_known_of_a_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert jobs.load_state("systemd-machined.service") == ""


@pytest.mark.parametrize(
    ("names", "count", "said"),
    [("watchdog", "1", "mine"), ("other", "1", "none"), ("", "0", "none"), ("other:watchdog", "1", "none")],
)
def test_what_systemd_hands_back_is_found_by_its_name(pipe: int, names: str, count: str, said: str) -> None:
    """The shell puts the pipe at 3, and its own process id into the variables, as systemd does."""
    shell = f'LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names} exec "$0" -c "$1" 3<&{pipe}'
    code = f"import os; os.execvp('bash', ['bash', '-c', {shell!r}, {sys.executable!r}, {NEXT!r}])"
    assert next_process(code, {}, [pipe]) == said


def test_variables_for_another_process_are_not_taken(pipe: int) -> None:
    variables = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "watchdog"}
    assert next_process(NEXT, variables, [pipe]) == "none"
