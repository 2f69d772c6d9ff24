"""The fencer's process over its real socket, with real control groups: it kills at the deadline whatever its clients,
its own end or a hanging log do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cgroups import unified_root
from lab.settings import LabError
from lab.shell import wait_until
from mnha.fencer.slices import KernelSlices, slice_of, vm_of
from mnha.host.clock import boottime_s

LIBRARY = Path(__file__).resolve().parents[2] / "salt" / "_utils"
K = 2.0
SOON_S = 1.5
VM = "mnvm"
FAMILY = "sleep 600 & setsid sh -c 'sleep 600 & exec sleep 600' & exec sleep 600"
"""A process with children of which one has a session of its own."""
HEADLESS = """
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(600)).start()
ctypes.CDLL(None).pthread_exit(None)
"""
"""Its first thread has ended: a zombie with an empty command line, whose other thread lives on."""
BREED = "while :; do sh -c 'sleep 600 & sleep 600 &' & sleep 0.002; done"
"""What forks faster than a list of its processes can be read."""


class Bed:
    """A fencer on a folder of the real hierarchy, and what is put into its slices."""

    def __init__(self, folder: Path, slices: Path) -> None:
        self.folder, self.slices = folder, slices
        self.kernel = KernelSlices(slices)
        self.process: subprocess.Popen[bytes] | None = None
        self.guests: list[subprocess.Popen[bytes]] = []
        config = {
            "v": 1, "socket": str(folder / "fencer.sock"), "memory": str(folder / "fencer.json"),
            "mark": str(folder / "watchdog.counts"), "slices": str(slices), "vms": [], "watchdog": "off",
            "watchdog_device": "/dev/none",
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))

    def start(self, stderr: int | None = None) -> None:
        """Start a fencer, and wait until it serves."""
        words = [sys.executable, "-m", "mnha.fencer", "--config", str(self.folder / "config.json")]
        self.process = subprocess.Popen(words, cwd=LIBRARY, stderr=stderr)
        wait_until(self.serves, 10, "the fencer does not serve")

    def serves(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.ask("status")["ok"])
        return False

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the fencer."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait(10)

    def client(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.settimeout(5)
        made.connect(str(self.folder / "fencer.sock"))
        return made

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """One request, as a client of its own."""
        with self.client() as client:
            client.send(json.dumps({"v": 1, "op": op, **fields}).encode())
            return dict(json.loads(client.recv(65536)))

    def prepare(self, ahead_s: float, vm: str = VM) -> float:
        """Prepare a VM for so long; returns until when."""
        until_s = boottime_s() + ahead_s
        assert self.ask("prepare", vm=vm, until_s=until_s, kill_s=K)["ok"]
        return until_s

    def enter(self, *words: str, vm: str = VM) -> subprocess.Popen[bytes]:
        """Start something in a VM's slice, as libvirt does."""
        script = f'echo 0 >"{self.kernel.path(vm)}/cgroup.procs" && exec "$@"'
        guest = subprocess.Popen(["sh", "-c", script, "sh", *words])
        self.guests.append(guest)
        wait_until(lambda: not self.kernel.is_empty(vm), 5, "it is not in its slice")
        return guest

    def await_death(self, vm: str = VM, timeout_s: float = SOON_S) -> float:
        """Wait until the kernel says that nothing is left; returns when, CLOCK_BOOTTIME."""
        wait_until(lambda: self.kernel.is_empty(vm), timeout_s, f"{vm} is alive after {timeout_s:g} s", every_s=0.01)
        return boottime_s()

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.kill()
        for vm in self.kernel.names():
            self.kernel.kill(vm)
            self.await_death(vm, timeout_s=10)
            self.kernel.path(vm).rmdir()
        for guest in self.guests:
            guest.wait(10)
        if self.slices.is_dir():
            self.slices.rmdir()


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path, unified_root() / f"mnha-test-{uuid.uuid4().hex[:8]}.slice")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def fencer(bed: Bed) -> Bed:
    bed.start()
    return bed


@pytest.mark.parametrize("words", [("sh", "-c", FAMILY), (sys.executable, "-c", HEADLESS), ("sh", "-c", BREED)],
                         ids=["family", "headless", "breeding"])  # fmt: skip
def test_all_that_is_in_the_slice_is_dead_soon_after_its_moment_and_not_before(fencer: Bed, words: list[str]) -> None:
    until_s = fencer.prepare(1.0)
    fencer.enter(*words)
    while boottime_s() < until_s - 0.2:
        assert not fencer.kernel.is_empty(VM)
        time.sleep(0.05)
    assert until_s <= fencer.await_death() < until_s + K


def test_a_vm_lives_as_long_as_it_is_granted_and_no_grant_is_taken_after_its_end(fencer: Bed) -> None:
    fencer.prepare(0.6)
    fencer.enter("sleep", "600")
    for _ in range(5):
        time.sleep(0.3)
        assert fencer.ask("grant", vm=VM, until_s=boottime_s() + 0.6, kill_s=K)["ok"]
    assert not fencer.kernel.is_empty(VM)
    fencer.await_death(timeout_s=0.6 + SOON_S)
    refused = fencer.ask("grant", vm=VM, until_s=boottime_s() + 5, kill_s=K)
    assert refused["error"] == {"kind": "refused", "message": f"{VM} was not prepared: prepare it before it runs"}


def test_to_kill_kills_one_vm_and_leaves_the_other(fencer: Bed) -> None:
    for vm in (VM, "other-one"):
        fencer.prepare(20, vm)
        fencer.enter("sleep", "600", vm=vm)
    assert fencer.ask("kill", vm=VM)["ok"]
    fencer.await_death(VM)
    assert not fencer.kernel.is_empty("other-one")
    status = fencer.ask("status")["vms"]
    assert (status["other-one"]["empty"], status["other-one"]["kind"]) == (False, "run")


def test_what_was_asked_by_who_has_gone_is_not_carried_out(fencer: Bed) -> None:
    """As by a guard that gave a stopped fencer up: the next thing it asks may be the contrary."""
    assert fencer.process
    fencer.process.send_signal(signal.SIGSTOP)
    with fencer.client() as client:
        client.send(json.dumps({"v": 1, "op": "prepare", "vm": VM, "until_s": boottime_s() + 30, "kill_s": K}).encode())
    fencer.process.send_signal(signal.SIGCONT)
    assert fencer.ask("status")["vms"] == {}


def test_what_nobody_prepared_is_killed(fencer: Bed) -> None:
    fencer.kernel.open(VM)
    with contextlib.suppress(LabError):  # it may be dead before it was seen alive
        fencer.enter("sleep", "600")
    fencer.await_death()
    wait_until(lambda: fencer.guests[0].poll() is not None, SOON_S, "it lives")
    assert fencer.guests[0].returncode == -signal.SIGKILL


def test_what_comes_after_the_moment_executes_nothing(fencer: Bed, tmp_path: Path) -> None:
    """As a start that hung in libvirtd: it comes to its slice before it becomes a QEMU."""
    fencer.prepare(0.3)
    wait_until(lambda: fencer.ask("status")["vms"] == {} or not fencer.ask("status")["vms"][VM]["kind"], 5, "T")
    wrote = tmp_path / "wrote"
    script = 'echo 0 >"$1/cgroup.procs" && exec touch "$2"'
    for _ in range(20):
        late = subprocess.Popen(["sh", "-c", script, "sh", str(fencer.kernel.path(VM)), str(wrote)])
        assert late.wait(SOON_S) == -signal.SIGKILL
        assert not wrote.exists()
    fencer.prepare(5)
    done = subprocess.run(["sh", "-c", script, "sh", str(fencer.kernel.path(VM)), str(wrote)], check=True)
    assert (done.returncode, wrote.exists()) == (0, True)


def test_a_fencer_that_was_killed_or_stopped_leaves_the_vm_to_the_next_which_keeps_the_moment(bed: Bed) -> None:
    bed.start()
    until_s = bed.prepare(4.0)
    bed.enter("sleep", "600")
    for number in (signal.SIGKILL, signal.SIGTERM):
        bed.kill(number)
        assert not bed.kernel.is_empty(VM)
        bed.start()
    assert not bed.kernel.is_empty(VM)
    assert bed.ask("status")["vms"][VM]["kind"] == "run"
    assert until_s <= bed.await_death(timeout_s=4.0 + SOON_S) < until_s + K


def test_a_fencer_that_comes_after_the_moment_or_knows_none_kills_at_once(bed: Bed) -> None:
    for forget in (False, True):
        bed.start()
        bed.prepare(20.0 if forget else 0.5)
        bed.enter("sleep", "600")
        bed.kill()
        if forget:
            (bed.folder / "fencer.json").write_text("{")
        else:
            time.sleep(0.7)
        assert not bed.kernel.is_empty(VM)
        bed.start()
        bed.await_death()
        bed.kill()


def test_no_client_holds_it_up(fencer: Bed) -> None:
    """Rubbish, silence, answers that nobody takes, more clients than it has room for: the VM dies in time."""
    until_s = fencer.prepare(1.5)
    fencer.enter("sleep", "600")
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(fencer.client())
        for rubbish in (
            b"\xff" * 4000,
            b"[" * 4000,
            b"{}",
            b'{"v": 1, "op": ["kill"]}',
            b'{"v": 1, "op": "kill", "vm": 3}',
        ):
            with fencer.client() as client:
                client.send(rubbish)
        greedy = stack.enter_context(fencer.client())
        greedy.setblocking(False)
        with contextlib.suppress(OSError):
            while boottime_s() < until_s:
                greedy.send(json.dumps({"v": 1, "op": "status"}).encode())
        assert until_s <= fencer.await_death(timeout_s=3) < until_s + K
        for _ in range(20):
            with contextlib.suppress(OSError):
                stack.enter_context(fencer.client())
    wait_until(fencer.serves, 5, "it does not serve any more")


def test_a_log_that_nobody_reads_holds_nobody_up(bed: Bed) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 4096)
        os.set_blocking(writing, True)  # as systemd hands it over; it is full
        config = json.loads((bed.folder / "config.json").read_text())
        (bed.folder / "config.json").write_text(json.dumps(config | {"watchdog": "automatic"}))  # has to log something
        bed.start(stderr=writing)
        until_s = bed.prepare(1.0)
        bed.enter("sleep", "600")
        assert until_s <= bed.await_death(timeout_s=1.0 + SOON_S) < until_s + K
    finally:
        os.close(reading)
        os.close(writing)


def test_wrong_requests_are_told_what_is_wrong(fencer: Bed) -> None:
    for fields, said in (
        ({"op": "prepare", "vm": "", "until_s": 1, "kill_s": 2}, "vm is ''"),
        ({"op": "prepare", "vm": "../x", "until_s": 1, "kill_s": 2}, "vm is '../x'"),
        ({"op": "prepare", "vm": VM, "until_s": "soon", "kill_s": 2}, "until_s is 'soon'"),
        ({"op": "prepare", "vm": VM, "until_s": boottime_s() + 3600, "kill_s": 2}, "at most 60 s ahead"),
        ({"op": "prepare", "vm": VM, "until_s": boottime_s() + 5, "kill_s": True}, "kill_s is True"),
        ({"op": "dance"}, "op is 'dance'"),
        ({"op": "status", "v": 2}, "v is 2"),
    ):  # fmt: skip
        answer = fencer.ask(**fields)  # type: ignore[arg-type]
        assert answer["error"]["kind"] == "invalid"
        assert said in answer["error"]["message"]
    assert fencer.kernel.names() == set()


@pytest.mark.parametrize("vm", ["mnvm", "vm-2", "a.b_c:d", "Ünï", "x\\x2dy", "with space"])
def test_a_slice_is_named_for_its_vm_and_no_other(vm: str) -> None:
    assert vm_of(slice_of(vm)) == vm
    assert slice_of(vm).count("-") == 1


@pytest.mark.parametrize("name", ["mnha.slice", "machine-qemu.slice", "mnha-a-b.slice", "mnha-a.scope"])
def test_what_is_no_slice_of_a_vm_is_left_alone(name: str) -> None:
    assert vm_of(name) is None


@pytest.mark.parametrize("words", [["--config"], ["--config", "a", "b"], ["a"], ["--help"]], ids=" ".join)
def test_a_command_line_that_is_none_is_refused_with_the_right_one(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "mnha.fencer", *words], cwd=LIBRARY, capture_output=True, text=True,
                          timeout=10, check=False)  # fmt: skip
    assert done.returncode == 2
    assert "write --config FILE" in done.stderr


def test_it_imports_little_for_all_of_it_is_locked_in_memory(fencer: Bed) -> None:
    """What a module brought along once: compression, by argparse; a subprocess' means, by what only a guard asks."""
    assert fencer.process
    code = "import mnha.fencer.main, sys; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=LIBRARY, capture_output=True, text=True, check=True)
    assert set(told.stdout.split()) & {"argparse", "shutil", "zlib", "lzma", "ssl", "subprocess", "email"} == set()
    libraries = {
        Path(line.split()[-1]).name for line in Path(f"/proc/{fencer.process.pid}/maps").read_text().splitlines()
    }
    assert not [name for name in libraries if name.startswith(("libcrypto", "liblzma", "libbz2"))]
