"""How a guest is asked: with real sockets, real threads of a real process, and libvirt's test driver, which knows no
agent. What libvirt says of an agent that is silent is what was seen of libvirt 9.0.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from lab.shell import wait_until
from mnha.core.hang import Health
from mnha.daemon.adapters import libvirt as libvirt_module
from mnha.daemon.adapters import processes
from mnha.daemon.adapters.health import GENTLE_S, GuestHealth
from mnha.daemon.adapters.libvirt import Connection
from mnha.daemon.adapters.processes import vcpu_turns
from tests.functional.test_adapters_fail import halt

TEST_DOMAIN = "6695eb01-f6a4-8304-79aa-97f2502e193f"
PATIENCE_S = 20.0
GUEST = """
import ctypes, threading, time
def vcpu(number):
    ctypes.CDLL(None).prctl(15, f"CPU {number}/KVM".encode(), 0, 0, 0)  # PR_SET_NAME
    while True:
        time.sleep(0.01)
for number in range(2):
    threading.Thread(target=vcpu, args=(number,), daemon=True).start()
time.sleep(0.2)
print("up", flush=True)
time.sleep(600)
"""
"""A process with the threads of a QEMU: two virtual CPUs, that are woken now and then."""


@pytest.fixture
def qemu() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", GUEST], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.send_signal(signal.SIGCONT)
        process.kill()


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connection]:
    for name in ("setKeepAlive", "registerCloseCallback", "unregisterCloseCallback"):
        monkeypatch.setattr(libvirt.virConnect, name, lambda *_: 0)
    for name, limit_s in (("ALIVE_S", 0.05), ("RECONNECT_S", 0.05), ("BEAT_MS", 50)):
        monkeypatch.setattr(libvirt_module, name, limit_s)
    made = Connection("test:///default")
    made.start()
    wait_until(lambda: made.error == "", PATIENCE_S, "it is not connected")
    yield made
    halt(made.threads[1])


def stop(qemu: subprocess.Popen[bytes]) -> None:
    """Let it stand still: all its threads have taken notice."""
    qemu.send_signal(signal.SIGSTOP)
    states = [Path(path, "stat") for path in Path(f"/proc/{qemu.pid}/task").iterdir()]
    wait_until(
        lambda: all(state.read_text().rpartition(")")[2].split()[0] == "T" for state in states),
        PATIENCE_S,
        "a thread of it still runs",
    )


class Guest:
    """An agent that answers, or is as silent as libvirt tells it."""

    def __init__(self, connection: Connection, qemu: subprocess.Popen[bytes], **wanted: Any) -> None:
        self.code: int | None = None
        settings = {
            "interval_s": 5,
            "agent": True,
            "tcp_port": None,
            "timeout_s": 1,
            "failures": 3,
            "boot_grace_s": 300,
        }
        vm = {"name": "test", "uuid": TEST_DOMAIN, "address": "127.0.0.1", "health": {**settings, **wanted}}
        self.pid: int | None = qemu.pid
        self.health = GuestHealth(connection, vm, lambda: self.pid)
        connection.listen_for_reboots(self.health.note_reboot)

    def ping(self, _domain: Any, _command: str, _timeout_s: int, _flags: int) -> str:
        if self.code is None:
            return "{}"
        error = libvirt.libvirtError("Guest agent is not responding")
        error.err = (self.code, 10, "Guest agent is not responding", 2, "", None, None, -1, -1)
        raise error

    def rounds(self, count: int) -> Health:
        for _ in range(count):
            self.health._round()
        return self.health.told()


@pytest.fixture
def guest(connection: Connection, qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> Guest:
    made = Guest(connection, qemu)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", made.ping)
    assert made.rounds(2).answered
    return made


def test_the_turns_of_the_virtual_cpus_are_counted_and_stand_still_when_they_do(qemu: subprocess.Popen[bytes]) -> None:
    before = vcpu_turns(qemu.pid)
    assert before is not None
    assert len(before) == 2
    wait_until(lambda: vcpu_turns(qemu.pid) != before, PATIENCE_S, "no virtual CPU runs")
    stop(qemu)
    before = vcpu_turns(qemu.pid)
    time.sleep(0.2)
    assert vcpu_turns(qemu.pid) == before
    assert vcpu_turns(os.getpid()) is None, "no QEMU"


def test_a_kernel_that_does_not_count_says_nothing_of_the_virtual_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tmp_path / "7" / "task" / "8"
    task.mkdir(parents=True)
    (task / "comm").write_text("CPU 0/KVM\n")
    monkeypatch.setattr(processes, "PROC", tmp_path)
    assert vcpu_turns(7) is None
    (task / "schedstat").write_text("0 0 0\n")
    assert vcpu_turns(7) is None
    (task / "schedstat").write_text("120 30 2\n")
    assert vcpu_turns(7) == {"8": "120 30 2\n"}


def test_a_guest_whose_process_stands_still_hangs_after_three_rounds_and_is_not_asked_to_shut_down(
    guest: Guest, qemu: subprocess.Popen[bytes]
) -> None:
    stop(qemu)
    guest.code = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    assert not guest.rounds(2).hung
    hung = guest.rounds(2)  # in the first of all it may have run for a moment
    assert hung.hung
    assert "its virtual CPUs stand still" in hung.why
    assert guest.health.gentle_s() == 0.0
    assert guest.health.objection() == ""


def test_an_agent_that_is_gone_hangs_no_guest_that_lives(guest: Guest) -> None:
    guest.code = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    told = Health()
    for _ in range(20):
        guest.health._asked_s -= 30.0  # as if so much time had passed
        wait_until(lambda: vcpu_turns(guest.pid or 0) != guest.health._turns, PATIENCE_S, "no virtual CPU runs")
        told = guest.rounds(1)
    assert (told.hung, told.absent, told.failures) == (False, True, 20)
    assert "does not hang" in guest.health.objection()


@pytest.mark.parametrize(
    "code", [libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_RPC]
)
def test_a_libvirtd_that_is_away_says_nothing_of_the_guest(
    guest: Guest, qemu: subprocess.Popen[bytes], code: int
) -> None:
    stop(qemu)
    guest.code = code
    told = guest.rounds(10)
    assert (told.hung, told.failures, told.still, told.answered) == (False, 0, 0, True)
    assert "could not be asked" in told.why


def test_a_connection_that_is_lost_says_nothing_of_the_guest(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest.health, "_connection", Connection("test:///default"))
    told = guest.rounds(10)
    assert (told.hung, told.failures) == (False, 0)


def test_a_reboot_begins_a_new_boot_as_libvirt_tells_of_it(
    guest: Guest, qemu: subprocess.Popen[bytes], connection: Connection
) -> None:
    guest.code = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    stop(qemu)
    assert guest.rounds(3).failures == 3
    connection._on_reboot(None, connection.get().lookupByUUIDString(TEST_DOMAIN), None)
    assert guest.health.told() == Health()
    assert not guest.rounds(20).hung, "it boots"
    guest.health._since_s -= 301.0
    assert guest.rounds(3).hung, "it does not any more, and has answered before"


def test_a_reboot_of_another_vm_changes_nothing(guest: Guest) -> None:
    guest.health.note_reboot("other")
    assert guest.health.told().answered


def test_report_only_tells(
    connection: Connection, qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = Guest(connection, qemu, on_hung="report")
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", guest.ping)
    guest.rounds(2)
    stop(qemu)
    guest.code = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    assert guest.rounds(5).hung
    assert guest.health.objection() == "on_hung is report: a guest that hangs is told of, and not reset"


def test_a_port_that_refuses_is_an_answer_and_a_deaf_guest_is_asked_to_shut_down_before(
    connection: Connection, qemu: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    guest = Guest(connection, qemu, tcp_port=port, boot_grace_s=0.0)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", guest.ping)
    guest.rounds(2)
    guest.code = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    assert guest.rounds(3).failures == 0, "its kernel refuses: it lives"

    def silent(*_: Any, **__: Any) -> Any:
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    wait_until(lambda: vcpu_turns(qemu.pid) != guest.health._turns, PATIENCE_S, "no virtual CPU runs")
    assert not guest.rounds(2).hung
    wait_until(lambda: vcpu_turns(qemu.pid) != guest.health._turns, PATIENCE_S, "no virtual CPU runs")
    assert guest.rounds(1).hung
    assert guest.health.gentle_s() == GENTLE_S
