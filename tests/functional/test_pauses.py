"""A VM that stands paused, as the guard's hypervisor sees and resumes it: through libvirt's own test driver, which has
no QEMU. That a disk has failed is put into its mouth, as it was seen of libvirt 9.0 with QEMU 7.2; the rest is real.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from lab.shell import wait_until
from mnha.core.model import Pause, Vm
from mnha.core.ports import VmSeen
from mnha.daemon.adapters import libvirt as libvirt_module
from mnha.daemon.adapters import look as look_module
from mnha.daemon.adapters.libvirt import Connection, mark_of
from mnha.daemon.adapters.probe import ground
from tests.functional.test_adapters_fail import halt
from tests.functional.test_hypervisor import PATIENCE_S, Bench

TEST_DOMAIN = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""What the test driver has, under the name `test`."""


class Paused:
    """A bench whose VM is the test driver's domain, and what libvirt is to say of a pause."""

    def __init__(self, bench: Bench, domain: Any) -> None:
        self.bench, self.domain = bench, domain
        self.reason = libvirt.VIR_DOMAIN_PAUSED_USER
        self.errors: dict[str, int] = {}
        self.hypervisor = bench.hypervisor

    def seen(self, vm: Vm) -> VmSeen:
        """The next time that the VM is seen so."""
        while (event := self.bench.next(VmSeen)).vm is not vm:
            pass
        return event


@pytest.fixture
def paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paused]:
    for name in ("setKeepAlive", "registerCloseCallback", "unregisterCloseCallback"):
        monkeypatch.setattr(libvirt.virConnect, name, lambda *_: 0)
    for name, limit_s in (("ALIVE_S", 0.05), ("BEAT_MS", 50), ("SCAN_S", 0.2)):
        monkeypatch.setattr(libvirt_module, name, limit_s)
    connection = Connection("test:///default")
    connection.start()
    wait_until(lambda: connection.error == "", PATIENCE_S, "it is not connected")
    domain = connection.get().lookupByUUIDString(TEST_DOMAIN)
    bench = Bench(tmp_path)
    bench.uuid = bench.hypervisor._uuid = TEST_DOMAIN
    bench.hypervisor._connection = connection
    bench.qemu()
    made = Paused(bench, domain)
    real_state, real_resume = libvirt.virDomain.state, libvirt.virDomain.resume
    monkeypatch.setattr(
        libvirt.virDomain,
        "state",
        lambda one, flags=0: [3, made.reason] if (found := real_state(one, flags))[0] == 3 else found,
    )
    monkeypatch.setattr(libvirt.virDomain, "diskErrors", lambda _domain, flags=0: made.errors)
    bench.hypervisor.open()
    made.seen(Vm.RUNNING)
    yield made
    if real_state(domain)[0] == 3:
        real_resume(domain)
    for thread in (*bench.hypervisor.threads, connection.threads[1]):
        halt(thread)
    bench.close()


def test_a_vm_that_somebody_has_suspended_is_seen_so_and_is_not_resumed(paused: Paused) -> None:
    paused.domain.suspend()
    assert paused.seen(Vm.PAUSED).pause is Pause.OPERATOR
    paused.hypervisor.unpause(1)
    while (event := paused.bench.next(VmSeen)).generation < 1:
        pass
    assert (event.vm, event.pause) == (Vm.PAUSED, Pause.OPERATOR)
    assert paused.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert not mark_of(paused.bench.run, "vm").exists()


@pytest.mark.parametrize(
    ("errors", "pause"),
    [
        ({"vda": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE}, Pause.NO_SPACE),
        ({"vda": libvirt.VIR_DOMAIN_DISK_ERROR_UNSPEC}, Pause.IO_ERROR),
        ({}, Pause.IO_ERROR),
    ],
)
def test_a_vm_that_its_disk_has_paused_is_seen_so_and_goes_on_when_it_is_resumed(
    paused: Paused, errors: dict[str, int], pause: Pause
) -> None:
    paused.reason, paused.errors = libvirt.VIR_DOMAIN_PAUSED_IOERROR, errors
    paused.domain.suspend()
    assert paused.seen(Vm.PAUSED).pause is pause
    paused.hypervisor.unpause(1)
    seen = paused.seen(Vm.RUNNING)
    assert (seen.generation, seen.pause) == (1, Pause.NONE)
    assert paused.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert not mark_of(paused.bench.run, "vm").exists()


def test_what_the_event_of_an_io_error_says_counts_for_more_than_what_qemu_has_kept(paused: Paused) -> None:
    """QEMU 7.2 keeps the first error of a disk until it ends, though the VM was resumed since."""
    paused.reason = libvirt.VIR_DOMAIN_PAUSED_IOERROR
    paused.errors = {"vda": libvirt.VIR_DOMAIN_DISK_ERROR_NO_SPACE}
    domain = SimpleNamespace(name=lambda: "vm")
    connection = paused.hypervisor._connection
    connection._on_io_error(None, domain, "/x/vm.img", "virtio-disk0", 1, "", None)
    paused.domain.suspend()
    assert paused.seen(Vm.PAUSED).pause is Pause.IO_ERROR
    connection._on_io_error(None, domain, "/x/vm.img", "virtio-disk0", 1, "enospc", None)
    wait_until(lambda: paused.seen(Vm.PAUSED).pause is Pause.NO_SPACE, PATIENCE_S, "it is not seen")


def test_a_pause_of_which_no_event_tells_is_seen_all_the_same(paused: Paused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paused.hypervisor, "_on_event", lambda *_: None)
    paused.hypervisor._connection._listeners.clear()
    paused.domain.suspend()
    assert paused.seen(Vm.PAUSED).pause is Pause.OPERATOR


def test_a_resume_that_fails_kills_nothing_and_a_kill_voids_one(
    paused: Paused, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused.reason = libvirt.VIR_DOMAIN_PAUSED_IOERROR
    paused.domain.suspend()
    paused.seen(Vm.PAUSED)

    def fails(_domain: Any) -> int:
        raise libvirt.libvirtError("no")

    monkeypatch.setattr(libvirt.virDomain, "resume", fails)
    paused.hypervisor.unpause(1)
    while (event := paused.bench.next(VmSeen)).generation < 1:
        pass
    assert event.vm is Vm.PAUSED
    assert paused.bench.processes[0].poll() is None


def test_a_resume_that_comes_after_a_kill_is_not_carried_out(paused: Paused, monkeypatch: pytest.MonkeyPatch) -> None:
    paused.reason = libvirt.VIR_DOMAIN_PAUSED_IOERROR
    paused.domain.suspend()
    paused.seen(Vm.PAUSED)
    resumed: list[int] = []
    monkeypatch.setattr(libvirt.virDomain, "resume", lambda _domain: resumed.append(1))
    paused.hypervisor._orders.put(lambda: time.sleep(1.0))  # libvirtd hangs
    paused.hypervisor.unpause(1)
    monkeypatch.setattr(libvirt_module, "libvirt_pids", list)
    paused.hypervisor.kill()
    seen = paused.seen(Vm.OFF)
    assert seen.generation == 1
    assert not resumed


def test_a_folder_that_is_well_and_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vm.img").touch()
    assert ground(tmp_path, "me", [tmp_path / "vm.img"], tmp_path, may_be_root=True).storage.why == ""
    full = SimpleNamespace(f_bavail=look_module.LEAST_ROOM_MIB - 1, f_frsize=1 << 20, f_blocks=1000)
    monkeypatch.setattr(os, "statvfs", lambda _path: full)
    assert look_module.room(str(tmp_path)) == f"{tmp_path} is full: less than 64 MiB are left; make room"
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=0, f_frsize=4096, f_blocks=0))
    assert look_module.room(str(tmp_path)) == "", "a file system that does not say how large it is"
