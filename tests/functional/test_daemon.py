"""The real guard process, with a VM that does not run, no Consul and no libvirt: signals, and requests.

It speaks to systemd as always; the test is systemd.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cgroups import unified_root
from mnha import config
from mnha.config.guard import guard_config
from mnha.daemon import client
from mnha.errors import FailedError, InputError, RefusedError, UnreachableError
from tests.support.example import ROOT, example_with

PATIENCE_S = 30.0
PROGRAM = """
import pathlib, sys
from mnha.daemon import ending, main
calm = pathlib.Path(sys.argv.pop(1))
ending.is_calm = lambda view: calm.exists()
sys.exit(main.main())
"""
"""The guard; it is calm as soon as a file is there, as it otherwise is when a start or a migration is over."""


class Service:
    """A guard process, and what it tells systemd."""

    def __init__(self, folder: Path) -> None:
        self.calm, self.socket = folder / "calm", folder / "guard.sock"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(folder / "notify"))
        self._notified.settimeout(PATIENCE_S)
        settings = guard_config(config.load(example_with({"watchdog": "off"})), "node1")
        settings["socket"] = str(self.socket)
        settings["consul"] = {
            "servers": [{"host": "127.0.0.1", "port": 1}],
            "ca": str(folder / "ca.pem"),
            "token_file": str(folder / "token"),
        }
        (folder / "token").write_text("none")
        self.slices = unified_root() / f"mnha-test-{uuid.uuid4().hex[:8]}.slice"
        settings["fencer"] = {"socket": str(folder / "fencer.sock"), "slices": str(self.slices)}
        self.file = folder / "guard.json"
        self.file.write_text(json.dumps(settings))
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.calm), "--config", str(self.file)],
            env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils"), "NOTIFY_SOCKET": str(folder / "notify")},
        )

    def wait_for(self, word: str) -> list[str]:
        """What it tells until, and with, a word."""
        told: list[str] = []
        end_s = time.monotonic() + PATIENCE_S
        while word not in told:
            assert time.monotonic() < end_s, told
            told += self._notified.recv(4096).decode().split("\n")
        return told

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Another command of the guard's program, to its end."""
        command = [sys.executable, "-m", "mnha.daemon", "--config", str(self.file), *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._notified.close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    begun = Service(tmp_path)
    begun.wait_for("READY=1")
    yield begun
    begun.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_ends_a_guard_once_it_is_calm(service: Service, number: signal.Signals) -> None:
    """And that is all: what runs goes on, for the next guard."""
    service.wait_for("WATCHDOG=1")
    service.send(number)
    service.wait_for("WATCHDOG=1")
    assert service.process.poll() is None
    service.calm.touch()
    service.wait_for("STOPPING=1")
    assert service.process.wait(PATIENCE_S) == 0


def test_a_guard_that_is_told_to_end_and_is_never_calm_ends_all_the_same(service: Service) -> None:
    service.send(signal.SIGTERM)
    service.wait_for("STOPPING=1")
    assert service.process.wait(PATIENCE_S) == 0


def test_who_stops_a_guard_waits_for_its_orderly_end(service: Service) -> None:
    assert service.run("--stop").returncode == 0
    assert service.process.wait(1) == 0
    assert "asked to end" in service.run("--stop").stderr


def test_no_thread_of_a_guard_is_interrupted_by_a_signal(service: Service) -> None:
    """One that did would take it away from the process that replaces this one."""
    service.wait_for("WATCHDOG=1")
    looked_at = 0
    for status in Path(f"/proc/{service.process.pid}/task").glob("*/status"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # that thread has ended
            blocked = re.search(r"^SigBlk:\s*([0-9a-f]+)$", status.read_text(), re.MULTILINE)
            assert blocked
            for number in (signal.SIGTERM, signal.SIGHUP):
                assert int(blocked[1], 16) >> (number - 1) & 1, f"{status}: {number.name}"
            looked_at += 1
    assert looked_at > 1


def test_a_reset_of_a_process_that_the_vm_is_not_any_more_is_refused(service: Service) -> None:
    """Every master orders it: the second order must not kill what the first has started."""
    with pytest.raises(RefusedError, match="mnvm is not process 123 any more, but none"):
        client.request("reset", path=str(service.socket), vm_pid=123)
    with pytest.raises(InputError, match="vm_pid is 'x'"):
        client.request("reset", path=str(service.socket), vm_pid="x")
    with pytest.raises(UnreachableError, match="has not seen the lease"):
        client.request("reset", path=str(service.socket))


def test_what_is_asked_of_a_guard_that_knows_neither_share_nor_disk_is_refused_with_the_reason(
    service: Service,
) -> None:
    path = str(service.socket)
    assert client.request("fit", path=path)["why"] != ""
    with pytest.raises(FailedError, match="which share is the cluster's is not known yet"):
        client.request("adopt_share", path=path)
    (service.file.parent / "mnvm-disk.json").write_text("{}")
    with pytest.raises((UnreachableError, RefusedError)):
        client.request("accept_disk", path=path)


def test_a_vm_on_an_overlay_is_neither_reset_nor_migrated(tmp_path: Path) -> None:
    """It is known from the guard before this one."""
    record = {"v": 1, "target": "vda", "started": "/x.img", "chain": ["/x.snap", "/x.img"]}
    (tmp_path / "mnvm-disk.json").write_text(json.dumps({"value": record}))
    service = Service(tmp_path)
    try:
        service.wait_for("READY=1")
        for words in ({"op": "reset"}, {"op": "migrate", "target": "node2"}):
            with pytest.raises(RefusedError, match="mnvm last wrote to /x.snap"):
                client.request(words.pop("op"), path=str(service.socket), **words)
    finally:
        service.end()
