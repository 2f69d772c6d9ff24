"""What the guard's hypervisor tells of a migrated VM's process, with libvirt away: real processes, no libvirtd.

What libvirtd does with the orders is shown in the lab (tests/integration/cluster/test_migration.py).
"""

from __future__ import annotations

import queue
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnha.core.model import Vm
from mnha.core.ports import Event, Moved, StartFailed, VmSeen
from mnha.daemon.adapters.libvirt import Connection, LibvirtHypervisor, mark_of, resumed_mark_of
from mnha.daemon.adapters.migration import Route
from mnha.daemon.adapters.processes import birth_of, is_incoming

PATIENCE_S = 10.0


class Bench:
    """A hypervisor whose libvirtd never answers, and processes with a QEMU's command line."""

    def __init__(self, folder: Path) -> None:
        self.run, self.uuid = folder / "run", str(uuid.uuid4())
        self.run.mkdir()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        route = Route({"node2": "192.0.2.2"}, {"node1": "127.0.0.1", "node2": "127.0.0.1"})
        self.hypervisor = LibvirtHypervisor(
            Connection(), "vm", self.uuid, folder / "vm.xml", self.run, route, self.events.put
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def qemu(self, *more: str) -> int:
        """A process that looks like a QEMU of the VM; its number."""
        code = "import time; print('up', flush=True); time.sleep(600)"
        words = [sys.executable, "-c", code, "-uuid", self.uuid, *more]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        self.processes.append(process)
        assert process.stdout
        process.stdout.readline()
        return process.pid

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
    for process in made.processes:
        process.kill()
        process.wait()


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


@pytest.mark.parametrize("target", ["node2"])
def test_a_route_leads_to_the_storage_address_with_the_nodes_own_certificate(target: str) -> None:
    config = {
        "addresses": {"node1": "192.0.2.1", "node2": "192.0.2.2"},
        "migration": {"port": 16515, "bandwidth_mib_s": 0, "unsafe": False, "pki": "/etc/pki"},
    }
    route = Route.of(config, {"console_addresses": {}})
    assert route.uri(target) == "qemu+tls://192.0.2.2:16515/system?pkipath=/etc/pki"
