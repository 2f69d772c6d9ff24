"""The record of the file that a running VM writes to: a real libvirtd with a real QEMU, a real Consul server.

The guest has nothing to boot; what matters is its disk.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab.cgroups import unified_root
from lab.shell import wait_until
from mnha.core.model import Vm
from mnha.core.ports import Event, StartFailed, VmSeen
from mnha.daemon.adapters import libvirt as libvirt_module
from mnha.daemon.adapters.disk_watch import DiskWatch
from mnha.daemon.adapters.libvirt import Connection, LibvirtHypervisor
from mnha.daemon.adapters.migration import Route
from mnha.daemon.adapters.record import Record
from mnha.fencer.slices import KernelSlices
from tests.support import real_libvirt
from tests.support.consul_server import ConsulServer, binary, running

KEY = "mnha/t/vms/vm/disk"
PATIENCE_S = 20.0
UUID = str(uuid.uuid4())
DISK_ONLY = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    folder = tmp_path_factory.mktemp("consul")
    with running(binary(folder / "consul"), folder) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_libvirt.RealLibvirt]:
    with real_libvirt.running(tmp_path_factory.mktemp("libvirt")) as made:
        yield made


class Bench:
    """A VM, its record, and its holder's watch."""

    def __init__(self, hosted: real_libvirt.RealLibvirt, server: ConsulServer, kept: Path) -> None:
        self.hosted, self.server, self.kept = hosted, server, kept
        self.image, self.overlay = hosted.files / "vm.img", hosted.files / f"vm.{uuid.uuid4().hex[:6]}"
        server.servers().ask(0, 5.0, lambda consul: consul.kv.delete(KEY))
        hosted.images("create", "-f", "qcow2", self.image, "16M")
        self.libvirt = libvirt.open(hosted.uri)
        self.connection = Connection(hosted.uri)
        self.connection.start()
        self.domain: Any = None
        self.runs = 0
        self.moved: tuple[int, str, str | None] = (0, "", None)
        self.holder = self.watch("n1")
        wait_until(lambda: self.connection.error == "", PATIENCE_S, "it is connected")

    def watch(self, node: str, *, knows: bool = True) -> DiskWatch:
        """A node's; the VM runs on the first one only.

        :param knows: whether the record can be read, and is waited for.
        """
        record = Record(self.server.servers(), KEY, self.kept / f"{node}.json")
        runs: Callable[[], int] = lambda: self.runs if node == "n1" else 0  # noqa: E731
        made = DiskWatch(self.connection, "vm", UUID, str(self.image), record, runs, lambda: self.moved)
        made.start()
        wait_until(lambda: not knows or record.is_known(), PATIENCE_S, "the record is known")
        return made

    @property
    def xml(self) -> str:
        return f"""<domain type='qemu'><name>vm</name><uuid>{UUID}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>
            <os><type arch='x86_64' machine='pc'>hvm</type></os><devices><disk type='file' device='disk'>
            <driver name='qemu' type='qcow2'/><source file='{self.image}'/><target dev='vda' bus='virtio'/></disk>
            </devices></domain>"""

    def start(self) -> None:
        self.domain = self.libvirt.defineXML(self.xml)
        self.domain.create()
        self.runs = 1

    def snapshot(self, file: Path | None = None) -> None:
        """As a backup tool takes it."""
        self.domain.snapshotCreateXML(
            "<domainsnapshot><disks><disk name='vda' snapshot='external'>"
            f"<source file='{file or self.overlay}'/></disk></disks></domainsnapshot>",
            DISK_ONLY,
        )

    def commit(self) -> None:
        """As it merges it."""
        self.domain.blockCommit("vda", None, None, 0, libvirt.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)

        def is_ready() -> bool:
            job = self.domain.blockJobInfo("vda")
            return bool(job) and job["cur"] == job["end"]

        wait_until(is_ready, PATIENCE_S, "it is merged")
        time.sleep(0.2)
        self.domain.blockJobAbort("vda", libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)

    def end(self) -> None:
        """The VM is gone; what is defined stays, with the overlay as its disk."""
        self.domain.destroy()

    def close(self) -> None:
        with contextlib.suppress(libvirt.libvirtError, AttributeError):
            self.domain.destroy()
        for thread in (*self.holder.threads, *self.connection.threads):
            thread._turn = threading.Event().wait  # type: ignore[method-assign, assignment]
        self.image.unlink()


@pytest.fixture
def bench(hosted: real_libvirt.RealLibvirt, server: ConsulServer, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(hosted, server, tmp_path)
    yield made
    made.close()


def refuses(watch: DiskWatch, file: object) -> Callable[[], bool]:
    return lambda: str(file) in watch.objection()


def test_the_record_follows_a_snapshot_and_its_commit(bench: Bench) -> None:
    other = bench.watch("n2")
    bench.start()
    wait_until(lambda: (bench.holder._record.value or {}).get("chain") == [str(bench.image)], PATIENCE_S, "recorded")
    assert (bench.holder.objection(), other.objection()) == ("", "")
    bench.snapshot()
    for watch in (bench.holder, other):
        wait_until(refuses(watch, bench.overlay), PATIENCE_S, "the snapshot is recorded")
        assert "virsh blockcommit vm vda --active --pivot" in watch.objection()
    bench.commit()
    for watch in (bench.holder, other):
        wait_until(lambda watch=watch: watch.objection() == "", PATIENCE_S, "its end is recorded")  # type: ignore[misc]


def test_what_was_recorded_holds_when_the_vm_has_ended_until_it_is_accepted(bench: Bench) -> None:
    bench.start()
    bench.snapshot()
    wait_until(refuses(bench.holder, bench.overlay), PATIENCE_S, "the snapshot is recorded")
    bench.end()  # its guard has not seen it yet: what is defined now must not be taken for what runs
    bench.libvirt.defineXML(bench.xml)
    time.sleep(3.0)
    assert str(bench.overlay) in bench.holder.objection()
    bench.runs = 0
    other = bench.watch("n2")
    assert str(bench.overlay) in other.objection()
    bench.hosted.images("commit", "-b", bench.image, bench.overlay)
    assert str(bench.overlay) in other.objection(), "nobody has said so"
    other.accept()
    assert other.objection() == ""
    wait_until(lambda: bench.holder.objection() == "", PATIENCE_S, "the others know")
    bench.start()
    bench.snapshot(bench.hosted.files / "another")
    wait_until(refuses(bench.holder, "another"), PATIENCE_S, "the next snapshot is recorded")


def test_a_vm_whose_overlay_is_active_is_not_started_from_its_old_image(bench: Bench) -> None:
    """By the guard's own start, right after the VM has ended."""
    bench.start()
    bench.snapshot()
    wait_until(refuses(bench.holder, bench.overlay), PATIENCE_S, "the snapshot is recorded")
    bench.runs = 0
    bench.end()
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    (bench.kept / "vm.xml").write_text(bench.xml)
    slices = KernelSlices(unified_root() / f"mnha-test-{uuid.uuid4().hex[:8]}.slice")
    slices.open("vm")
    try:
        hypervisor = LibvirtHypervisor(
            bench.connection, "vm", UUID, bench.kept / "vm.xml", bench.kept, slices, Route({}, {}),
            bench.holder.objection, events.put,
        )  # fmt: skip
        hypervisor.start(7, 1)
        hypervisor.open()
        while not isinstance(event := events.get(timeout=PATIENCE_S), StartFailed):
            pass
        assert str(bench.overlay) in event.error
        while not (isinstance(seen := events.get(timeout=PATIENCE_S), VmSeen) and seen.vm is Vm.OFF):
            pass
        assert not bench.domain.isActive()
    finally:
        for thread in hypervisor.threads:
            if isinstance(thread, libvirt_module.Forever):
                thread._turn = threading.Event().wait  # type: ignore[method-assign, assignment]
        slices.path("vm").rmdir()
        slices.path("vm").parent.rmdir()


def test_while_libvirt_does_not_answer_what_was_recorded_holds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()
    bench.snapshot()
    wait_until(refuses(bench.holder, bench.overlay), PATIENCE_S, "the snapshot is recorded")
    monkeypatch.setattr(bench.connection, "get", lambda: libvirt.open("qemu+unix:///system?socket=/none"))
    wait_until(lambda: bool(bench.holder.threads[0].why), PATIENCE_S, "it is told")
    assert str(bench.overlay) in bench.holder.objection()


def test_a_file_that_does_not_lie_there_any_more_is_recorded_until_it_does(bench: Bench) -> None:
    other = bench.watch("n2")
    bench.start()
    wait_until(lambda: (bench.holder._record.value or {}).get("chain") == [str(bench.image)], PATIENCE_S, "recorded")
    for look in ((2, str(bench.image), "it was moved"), (1, "/another", "it was moved")):
        bench.moved = look
        time.sleep(2.5)
        assert other.objection() == "", "that look was at another process, or another file"
    bench.moved = (1, str(bench.image), "it was moved")
    for watch in (bench.holder, other):
        wait_until(refuses(watch, "was moved, removed, or replaced"), PATIENCE_S, "it is recorded")
    bench.moved = (1, str(bench.image), None)
    time.sleep(2.5)
    assert other.objection() != "", "the storage hangs, and nobody can tell"
    bench.moved = (1, str(bench.image), "")
    for watch in (bench.holder, other):
        wait_until(lambda watch=watch: watch.objection() == "", PATIENCE_S, "its end is recorded")  # type: ignore[misc]


def test_a_record_that_can_not_be_read_lets_nothing_start_and_is_written_anew_by_who_runs_the_vm(bench: Bench) -> None:
    other = bench.watch("n2")

    def garble() -> None:
        bench.server.servers().ask(0, 5.0, lambda consul: consul.kv.put(KEY, "xx"))

    garble()
    begun_since = bench.watch("n3", knows=False)
    for watch in (bench.holder, other, begun_since):
        wait_until(refuses(watch, "can't be understood"), PATIENCE_S, "nothing may be started")
    bench.start()
    bench.snapshot()
    for watch in (bench.holder, other):
        wait_until(refuses(watch, bench.overlay), PATIENCE_S, "the snapshot is recorded all the same")
