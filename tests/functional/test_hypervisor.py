"""What the guard's hypervisor tells of a migrated VM's process, with libvirt away: real processes, no libvirtd.

What libvirtd does with the orders is shown in the lab (tests/integration/cluster/test_migration.py).
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from lab.cgroups import unified_root
from lab.shell import wait_until
from mnha.core.model import Vm
from mnha.core.ports import Event, Moved, StartFailed, VmSeen
from mnha.daemon.adapters import libvirt as libvirt_module
from mnha.daemon.adapters.asking import SHUTDOWN_STALE_S, Told
from mnha.daemon.adapters.libvirt import (
    SCAN_S,
    STRAY_S,
    UNIDENTIFIED_S,
    Connection,
    LibvirtHypervisor,
    explained,
    mark_of,
    resumed_mark_of,
)
from mnha.daemon.adapters.migration import Route
from mnha.daemon.adapters.processes import birth_of, is_incoming, qemu_pids
from mnha.errors import FailedError
from mnha.fencer.slices import KernelSlices
from mnha.host.clock import boottime_s

PATIENCE_S = 20.0
SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
HEADLESS = """
import ctypes, threading, time
threading.Thread(target=lambda: time.sleep(600)).start()
print('up', flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""
"""Its first thread has ended: a zombie with an empty command line, whose other thread lives on."""
WITH_A_HELPER = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True)"


class Bench:
    """A hypervisor whose libvirtd never answers, and processes with a QEMU's command line."""

    def __init__(self, folder: Path) -> None:
        self.run, self.uuid = folder / "run", str(uuid.uuid4())
        self.run.mkdir()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        route = Route({"node2": "192.0.2.2"}, {"node1": "127.0.0.1", "node2": "127.0.0.1"})
        self.folder = unified_root() / f"mnha-test-{uuid.uuid4().hex[:8]}.slice"
        self.slices = KernelSlices(self.folder)
        self.slices.open("vm")
        self.hypervisor = LibvirtHypervisor(
            Connection(), "vm", self.uuid, folder / "vm.xml", self.run, self.slices, route, str, self.events.put
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def qemu(self, *more: str, code: str = SLEEPS, placed: bool = True) -> int:
        """A process that looks like a QEMU of the VM, in its slice; its number."""
        enter = f"echo 0 >'{self.slices.path('vm')}/cgroup.procs' && " if placed else ""
        words = [f'{enter}exec -a qemu-system-x86_64 {sys.executable} "$@"', "bash", "-c", code, "-uuid", self.uuid]
        process = subprocess.Popen(["bash", "-c", *words, *more], stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout
        process.stdout.readline()
        return process.pid

    def close(self) -> None:
        """Remove all."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.slices.kill("vm")
        wait_until(lambda: self.slices.is_empty("vm"), PATIENCE_S, "its slice is not empty")
        self.slices.path("vm").rmdir()
        self.folder.rmdir()

    def next(self, kind: type[Any]) -> Any:
        """The next event of a kind; others before it are passed over."""
        while True:
            event = self.events.get(timeout=PATIENCE_S)
            if isinstance(event, kind):
                return event

    def seen(self) -> Vm:
        return self.next(VmSeen).vm


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_vm_that_a_migration_has_brought_is_arriving_and_a_started_one_runs(bench: Bench) -> None:
    pid = bench.qemu("-incoming", "defer")
    assert is_incoming(pid)
    bench.hypervisor.open()
    assert bench.seen() is Vm.ARRIVING


def test_a_started_vm_runs(bench: Bench) -> None:
    pid = bench.qemu()
    assert not is_incoming(pid)
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING


def test_the_next_guard_knows_that_this_very_process_was_resumed(bench: Bench) -> None:
    pid = bench.qemu("-incoming", "defer")
    resumed_mark_of(bench.run, "vm").write_text(birth_of(pid))
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING


def test_the_mark_of_a_process_of_the_same_number_that_began_at_another_time_says_nothing(bench: Bench) -> None:
    pid = bench.qemu("-incoming", "defer")
    resumed_mark_of(bench.run, "vm").write_text(f"{pid} 1")
    bench.hypervisor.open()
    assert bench.seen() is Vm.ARRIVING


def test_what_can_not_be_resumed_is_killed_and_then_reported_as_off(bench: Bench) -> None:
    bench.qemu("-incoming", "defer")
    bench.hypervisor.open()
    assert bench.seen() is Vm.ARRIVING
    bench.hypervisor.resume(1)
    failed = bench.next(StartFailed)
    assert (failed.generation, failed.locked) == (1, False)
    assert "libvirtd does not answer" in failed.error
    seen = bench.next(VmSeen)
    assert (seen.vm, seen.generation) == (Vm.OFF, 1)
    assert bench.processes[0].wait(PATIENCE_S) == -9
    assert not mark_of(bench.run, "vm").exists()


def test_each_migration_that_fails_is_reported_once_and_the_vm_runs_on(bench: Bench) -> None:
    bench.qemu()
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING
    bench.hypervisor.migrate("node2", 1)
    bench.hypervisor.migrate("node2", 2)
    moves = [bench.next(Moved), bench.next(Moved)]
    assert {move.generation for move in moves} == {1, 2}
    assert all("libvirtd does not answer" in move.error for move in moves)
    rest: list[Event] = []
    while not any(isinstance(event, VmSeen) for event in rest) or not bench.events.empty():
        rest.append(bench.events.get(timeout=PATIENCE_S))
    assert {event.vm for event in rest if isinstance(event, VmSeen)} == {Vm.RUNNING}
    assert not [event for event in rest if isinstance(event, Moved)]


def test_an_abort_without_libvirt_and_the_end_of_what_arrives_are_no_trouble(bench: Bench) -> None:
    bench.qemu("-incoming", "defer")
    bench.hypervisor.open()
    assert bench.seen() is Vm.ARRIVING
    bench.hypervisor.abort()
    bench.processes[0].kill()
    assert bench.seen() is Vm.OFF


def test_a_qemu_whose_name_is_gone_is_not_off(bench: Bench) -> None:
    """As after a SIGKILL, while a thread of it hangs in a write: a guard that begins then must not call it dead."""
    bench.qemu(code=HEADLESS)
    wait_until(lambda: qemu_pids(bench.uuid) == [], PATIENCE_S, "its first thread has not ended")
    bench.hypervisor.open()
    while bench.seen() is not Vm.OFF:
        pass
    assert bench.slices.is_empty("vm"), "it was killed first"


def test_what_a_vm_leaves_in_its_slice_is_killed_before_it_is_off(bench: Bench) -> None:
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    bench.qemu(code=WITH_A_HELPER)
    assert bench.processes[0].wait(PATIENCE_S) == 0
    assert not bench.slices.is_empty("vm")
    bench.hypervisor._look()
    while bench.seen() is not Vm.OFF:
        pass
    assert bench.slices.is_empty("vm")


def test_a_qemu_that_was_something_else_for_a_moment_is_left_alone(bench: Bench) -> None:
    """As libvirt puts a process into the slice before it becomes a QEMU."""
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    enter = f"echo 0 >'{bench.slices.path('vm')}/cgroup.procs' && sleep 1.5 && exec -a qemu-system-x86_64"
    words = ["bash", "-c", f'{enter} {sys.executable} "$@"', "bash", "-c", SLEEPS, "-uuid", bench.uuid]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    bench.processes.append(process)
    bench.hypervisor._look()
    while bench.seen() is not Vm.RUNNING:
        pass
    time.sleep(UNIDENTIFIED_S + SCAN_S)
    assert process.poll() is None


def test_a_qemu_outside_of_its_slice_is_told_and_killed(bench: Bench) -> None:
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    pid = bench.qemu(placed=False)
    assert bench.processes[0].wait(PATIENCE_S) == -9
    wait_until(lambda: bench.hypervisor.error == "", PATIENCE_S, "it is told of for ever")
    assert pid not in qemu_pids(bench.uuid)


def test_a_qemu_on_its_way_into_its_slice_is_no_stray(bench: Bench) -> None:
    """libvirt has just begun it."""
    pid = bench.qemu(placed=False)
    place = threading.Timer(STRAY_S / 3, (bench.slices.path("vm") / "cgroup.procs").write_text, [str(pid)])
    place.start()
    bench.hypervisor._find_strays()
    place.join()
    assert bench.hypervisor.error == ""
    assert bench.processes[0].poll() is None


@pytest.mark.parametrize(
    "error",
    [
        "Unable to read from '/sys/fs/cgroup/mnha.partition/cgroup.controllers': No such file or directory",
        "GDBus.Error:org.freedesktop.DBus.Error.FileExists: Unit dbus-org.freedesktop.machine1.service failed to load",
    ],
)
def test_what_libvirt_says_without_machined_is_explained(error: str) -> None:
    assert explained(error).startswith(f"{error}; libvirt puts a VM into its slice by systemd-machined: apply")


def test_what_needs_no_explanation_is_left_as_it_is() -> None:
    assert explained("cannot open /opt/smp/mngt/mnvm.img") == "cannot open /opt/smp/mngt/mnvm.img"


def test_while_a_qemu_may_be_on_its_way_into_its_slice_nothing_is_said_of_the_vm(bench: Bench) -> None:
    """Neither that it is off, nor that it runs."""
    bench.qemu(placed=False)
    looking = threading.Thread(target=bench.hypervisor._find_strays)
    looking.start()
    wait_until(lambda: bool(bench.hypervisor._suspects), PATIENCE_S, "it is not seen")
    bench.hypervisor._look()
    looking.join()
    assert bench.events.empty()
    assert "outside of its slice" in bench.hypervisor.error


def test_a_shutdown_that_was_asked_for_long_ago_is_not_carried_out(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirtd has hung since; the guard asks again while it is wanted, and may have been told that it is not."""
    asked: list[int] = []
    domain = SimpleNamespace(shutdownFlags=asked.append)
    connection = SimpleNamespace(lookupByUUIDString=lambda _uuid: domain)
    monkeypatch.setattr(bench.hypervisor._connection, "get", lambda: connection)
    asker = bench.hypervisor.asker
    asker.ask(boottime_s() - SHUTDOWN_STALE_S - 1.0)
    assert asked == []
    asker.ask(asker.begin())
    wait_until(lambda: len(asked) == 1, PATIENCE_S, "it is asked")


@pytest.mark.parametrize(
    ("detail", "text"),
    [
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, "the guest shut down by itself after "),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED, None),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED, None),
        (None, "the guest was killed after "),
    ],
    ids=["by itself", "goes on elsewhere", "crashed", "killed"],
)
def test_how_a_guest_ended_that_was_asked_is_told_before_it_is_off(
    bench: Bench, detail: int | None, text: str | None
) -> None:
    told: list[Told | None] = []
    bench.hypervisor._tell = told.append
    bench.qemu()
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING
    bench.hypervisor.shutdown()
    failed = {"agent", "acpi"}
    wait_until(lambda: dict(bench.hypervisor.asker._asking.failed).keys() == failed, PATIENCE_S, "it is asked in vain")
    if detail is None:
        bench.hypervisor.kill()
    else:
        bench.hypervisor._on_event("vm", libvirt.VIR_DOMAIN_EVENT_STOPPED, detail)
        bench.processes[0].kill()
    wait_until(lambda: bench.seen() is Vm.OFF, PATIENCE_S, "it is off")
    texts = [one.text for one in told if one]
    assert len(texts) == bool(text)
    if text:
        assert texts[0].startswith(text)
        assert ", and could not be asked (not through its agent: libvirtd does not answer" in texts[0]


@pytest.mark.parametrize("order", ["start", "resume"])
def test_what_speaks_against_a_start_is_asked_when_nothing_is_left_but_to_begin(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    (bench.run.parent / "vm.xml").write_text("<domain type='qemu'><name>vm</name></domain>")
    steps: list[str] = []

    def step(name: str, result: object = None) -> Callable[..., Any]:
        return lambda *_: (steps.append(name), result)[1]

    domain = SimpleNamespace(
        isActive=step("is it off", False), createWithFlags=step("start"), resume=step("resume"),
        state=step("state", (5, 0)), jobStats=step("job", {}),
    )  # fmt: skip
    connection = SimpleNamespace(defineXML=step("define", domain), lookupByUUIDString=step("look up", domain))
    opened = SimpleNamespace(
        get=lambda: connection, is_alive=lambda: True, error="", listen=lambda _: None,
        listen_for_io_errors=lambda _: None,
    )  # fmt: skip
    monkeypatch.setattr(bench.hypervisor, "_connection", opened)
    monkeypatch.setattr(bench.hypervisor, "_objection", step("objection", "the share is not mounted"))
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    if order == "start":
        bench.hypervisor.start(7, 1)
    else:
        bench.hypervisor.resume(1)
    assert bench.next(StartFailed).error == "the share is not mounted"
    assert bench.seen() is Vm.OFF
    assert "objection" in steps
    assert not {"start", "resume"} & set(steps)
    assert not mark_of(bench.run, "vm").exists()


def test_others_are_shut_out_of_the_disk_before_a_start_and_if_that_fails_nothing_is_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.run.parent / "vm.xml").write_text("<domain type='qemu'><name>vm</name></domain>")
    steps: list[str] = []

    def shut_others_out(is_void: Callable[[], bool]) -> None:
        steps.append(f"shut out, void: {is_void()}")
        if len(steps) == 1:
            raise FailedError("Ceph does not answer")

    domain = SimpleNamespace(
        isActive=lambda: False, createWithFlags=lambda _: steps.append("start"), state=lambda: (5, 0),
        jobStats=dict,
    )  # fmt: skip
    connection = SimpleNamespace(defineXML=lambda _: domain, lookupByUUIDString=lambda _: domain)
    opened = SimpleNamespace(
        get=lambda: connection, is_alive=lambda: True, error="", listen=lambda _: None,
        listen_for_io_errors=lambda _: None,
    )  # fmt: skip
    monkeypatch.setattr(bench.hypervisor, "_connection", opened)
    monkeypatch.setattr(bench.hypervisor, "_shut_others_out", shut_others_out)
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    bench.hypervisor.start(7, 1)
    assert bench.next(StartFailed).error == "Ceph does not answer"
    assert bench.seen() is Vm.OFF
    assert steps == ["shut out, void: False"]
    bench.hypervisor.start(7, 2)
    assert bench.seen() is Vm.OFF
    assert steps == ["shut out, void: False"] * 2 + ["start"]
    bench.hypervisor.resume(3)
    assert bench.next(StartFailed).error == "what the migration had brought is gone"
    assert len(steps) == 3


def test_a_kill_makes_a_start_void_while_others_are_shut_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.run.parent / "vm.xml").write_text("<domain type='qemu'><name>vm</name></domain>")
    waits = threading.Event()

    def shut_others_out(is_void: Callable[[], bool]) -> None:
        waits.set()
        wait_until(is_void, PATIENCE_S, "it is not void")

    domain = SimpleNamespace(
        isActive=lambda: False, createWithFlags=lambda _: pytest.fail("it was started"), state=lambda: (5, 0),
        jobStats=dict,
    )  # fmt: skip
    connection = SimpleNamespace(defineXML=lambda _: domain, lookupByUUIDString=lambda _: domain)
    opened = SimpleNamespace(
        get=lambda: connection, is_alive=lambda: True, error="", listen=lambda _: None,
        listen_for_io_errors=lambda _: None,
    )  # fmt: skip
    monkeypatch.setattr(bench.hypervisor, "_connection", opened)
    monkeypatch.setattr(bench.hypervisor, "_shut_others_out", shut_others_out)
    monkeypatch.setattr(libvirt_module, "libvirt_pids", list)  # this machine's own are not to be killed
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    bench.hypervisor.start(7, 1)
    assert waits.wait(PATIENCE_S)
    bench.hypervisor.kill()
    assert bench.next(StartFailed).error == "the start was voided before it began"
    assert bench.seen() is Vm.OFF


def test_where_the_kernel_does_not_say_nothing_is_off_and_the_reason_is_told(tmp_path: Path) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    route = Route({}, {})
    slices = KernelSlices(tmp_path / "no-hierarchy" / "mnha.slice")
    (tmp_path / "run").mkdir()
    found = LibvirtHypervisor(
        Connection(), "vm", str(uuid.uuid4()), tmp_path / "vm.xml", tmp_path / "run", slices, route, str, events.put
    )
    found.open()
    event = events.get(timeout=PATIENCE_S)
    assert isinstance(event, VmSeen)
    assert event.vm is not Vm.OFF
    assert "can't be known" in found.error


@pytest.mark.parametrize("target", ["node2"])
def test_a_route_leads_to_the_storage_address_with_the_nodes_own_certificate(target: str) -> None:
    config = {
        "addresses": {"node1": "192.0.2.1", "node2": "192.0.2.2"},
        "migration": {"port": 16515, "bandwidth_mib_s": 0, "unsafe": False, "pki": "/etc/pki"},
    }
    route = Route.of(config, {"console_addresses": {}})
    assert route.uri(target) == "qemu+tls://192.0.2.2:16515/system?pkipath=/etc/pki"
