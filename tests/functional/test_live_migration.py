"""What a guard tells of a live migration, and its abort: two real libvirtd with real, emulated QEMUs, that migrate to
each other as nodes do, but for the way between them: a Unix socket of the other one.

What becomes of the lease meanwhile is shown in the lab (tests/integration/cluster/test_migration.py).
"""

from __future__ import annotations

import contextlib
import os
import queue
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab.cgroups import unified_root
from lab.shell import wait_until
from mnha.core.ports import Event, Moved
from mnha.daemon.adapters.asking import Asker
from mnha.daemon.adapters.libvirt import Connection, LibvirtHypervisor
from mnha.daemon.adapters.migration import Route
from mnha.daemon.adapters.moves import MIB
from mnha.errors import FailedError
from mnha.fencer.slices import KernelSlices
from mnha.guest import libvirt_domains
from tests.functional.test_adapters_fail import halt
from tests.support import real_libvirt

PATIENCE_S = 60.0
SLOW_MIB_S = 1
UUID = str(uuid.uuid4())
FULL_MIB = 16
"""So much of the guest's memory is not zero, and has to be sent."""
XML = """<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>vm</name><uuid>{uuid}</uuid>
    <memory unit='MiB'>48</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os>
    <features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
    <qemu:commandline><qemu:arg value='-device'/>
    <qemu:arg value='loader,file={memory},addr=0x1000000,force-raw=on'/></qemu:commandline></domain>"""


class Near(Route):
    """To a libvirtd on this machine."""

    def uri(self, target: str) -> str:
        return target


class Pair:
    """Two hosts, and the VM's hypervisor on the first."""

    def __init__(self, source: real_libvirt.RealLibvirt, target: real_libvirt.RealLibvirt, folder: Path) -> None:
        self.target_uri, self.memory = target.uri, target.files / "memory"
        self.memory.write_bytes(os.urandom(FULL_MIB * MIB))
        self.source, self.target = libvirt.open(source.uri), libvirt.open(target.uri)
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.connection = Connection(source.uri)
        self.connection.start()
        wait_until(lambda: self.connection.error == "", PATIENCE_S, "it is connected")
        self.hypervisor = LibvirtHypervisor(
            self.connection, "vm", UUID, folder / "vm.xml", folder, KernelSlices(unified_root() / "mnha-none.slice"),
            Near({}, {}, unsafe=True), str, self.events.put,
        )  # fmt: skip
        self.connection.listen(self.hypervisor._on_event)
        self.worker = next(one for one in self.hypervisor.threads if one.name == "vm-vm")

    def start(self) -> Any:
        """The VM runs on the first host."""
        domain = self.source.defineXML(XML.format(uuid=UUID, memory=self.memory))
        domain.create()
        return domain

    def moved(self) -> Moved:
        """How the migration ended."""
        event = self.events.get(timeout=PATIENCE_S)
        while not isinstance(event, Moved):
            event = self.events.get(timeout=PATIENCE_S)
        return event

    def told(self) -> dict[str, Any]:
        return self.hypervisor.moves.told() or {}

    def close(self) -> None:
        for host in (self.source, self.target):
            with contextlib.suppress(libvirt.libvirtError):
                host.lookupByUUIDString(UUID).destroy()
        halt(self.connection.threads[1])


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[real_libvirt.RealLibvirt, ...]]:
    one, other = tmp_path_factory.mktemp("target"), tmp_path_factory.mktemp("source")
    with (
        real_libvirt.running(one, "target") as target,
        real_libvirt.running(other, "source", beside=one) as source,
    ):
        yield source, target


@pytest.fixture
def pair(hosts: tuple[real_libvirt.RealLibvirt, ...], tmp_path: Path) -> Iterator[Pair]:
    made = Pair(*hosts, tmp_path)
    yield made
    made.close()


def test_a_migration_tells_how_far_it_is_and_at_its_end_how_long_the_guest_was_stopped(pair: Pair) -> None:
    domain = pair.start()
    domain.migrateSetMaxSpeed(SLOW_MIB_S)
    began_at = time.time()
    pair.hypervisor.migrate(pair.target_uri, 1)
    wait_until(lambda: pair.told().get("sent_mib", 0) > 0, PATIENCE_S, "libvirt tells its figures")
    told = pair.told()
    assert (told["outcome"], told["target"]) == ("", pair.target_uri)
    assert 0 <= told["percent"] < 100
    assert told["left_mib"] > 0
    domain.migrateSetMaxSpeed(1000)
    assert pair.moved().error == ""
    wait_until(lambda: pair.told()["outcome"] == "done", PATIENCE_S, "it is told to be done")
    told = pair.told()
    assert (told["percent"], told["left_mib"], told["why"]) == (100, 0, "")
    assert told["downtime_ms"] is not None
    assert told["downtime_ms"] < 1000 * told["took_s"]
    wait_until(lambda: pair.told()["stopped_at"] is not None, PATIENCE_S, "when it was stopped")
    assert began_at <= pair.told()["stopped_at"] <= time.time()
    assert pair.target.lookupByUUIDString(UUID).state()[0] == libvirt.VIR_DOMAIN_PAUSED


def test_a_migration_that_is_aborted_has_failed_and_the_vm_goes_on(pair: Pair) -> None:
    domain = pair.start()
    pair.worker.start()
    domain.migrateSetMaxSpeed(SLOW_MIB_S)
    pair.hypervisor.migrate(pair.target_uri, 1)
    wait_until(lambda: pair.told().get("sent_mib", 0) > 0, PATIENCE_S, "it is under way")
    pair.hypervisor.abort()
    assert "cancel" in pair.moved().error
    wait_until(lambda: pair.told()["outcome"] == "failed", PATIENCE_S, "it is told to have failed")
    assert "cancel" in pair.told()["why"]
    assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    halt(pair.worker)


def test_a_guest_without_an_agent_is_asked_by_acpi_and_who_does_not_hear_that_is_not_off(pair: Pair) -> None:
    """A firmware that finds no disk reacts to nothing."""
    pair.start()
    asker = Asker("vm", lambda: pair.connection.get().lookupByUUIDString(UUID), lambda: False)
    asker.ask(asker.begin())

    def ways() -> tuple[str, ...]:
        return asker._asking.ways

    wait_until(lambda: ways() == ("acpi",), PATIENCE_S, "it is asked by ACPI")
    told = asker.over(killed=True)
    assert told is not None
    assert told.how == "killed"
    assert told.text.startswith("the guest was killed after ")
    assert "asked by ACPI (not through its agent: " in told.text


NEEDS = (
    "<cpu mode='custom' match='exact'><model fallback='forbid'>qemu64</model>"
    "<feature policy='require' name='{}'/></cpu>"
)


def test_a_host_says_which_feature_of_a_cpu_it_lacks(
    hosts: tuple[real_libvirt.RealLibvirt, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libvirt_domains, "URI", hosts[1].uri)
    lacks = libvirt_domains.cpu_objection({"cpu": NEEDS.format("avx512f"), "arch": "x86_64", "kind": "qemu"})
    assert "avx512f" in lacks
    assert libvirt_domains.cpu_objection({"cpu": NEEDS.format("sse2"), "arch": "x86_64", "kind": "qemu"}) == ""
    nonsense = libvirt_domains.cpu_objection({"cpu": "<cpu mode='no'/>", "arch": "x86_64", "kind": "qemu"})
    assert nonsense == "", "what can't be compared is no reason"


def test_what_an_emulated_guest_needs_any_host_has_and_what_does_not_run_here_is_told(
    pair: Pair, hosts: tuple[real_libvirt.RealLibvirt, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.start()
    monkeypatch.setattr(libvirt_domains, "URI", hosts[0].uri)
    assert libvirt_domains.wanted_cpu("vm") is None
    monkeypatch.setattr(libvirt_domains, "URI", hosts[1].uri)
    with pytest.raises(FailedError, match="vm does not run on this node"):
        libvirt_domains.wanted_cpu("vm")
