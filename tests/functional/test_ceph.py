"""A VM's disk in Ceph, seen by the guard: a real cluster of one monitor and one OSD, and QEMU's own driver as writer.

The client has the capabilities that docs/storage.md names, and no more; its files are those that the states write.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.ceph import POOL, USER, Ceph, running
from lab.shell import wait_until
from mnha.daemon.adapters.other_nodes import with_image
from mnha.daemon.adapters.probe import NOT_LOOKED_AT, Check, Ground
from mnha.daemon.adapters.rbd import CLIENT, PYTHON, Rbd
from mnha.errors import FailedError
from mnha.host import ceph as texts
from mnha.host.clock import boottime_s

PATIENCE_S = 120.0
MIB = 8
REFUSED = "Cannot send after transport endpoint shutdown"
"""EBLOCKLISTED, which is ESHUTDOWN, in strerror's words."""


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    with running(tmp_path_factory.mktemp("ceph")) as found:
        found.key = found.make_user()  # type: ignore[attr-defined]
        yield found


def files_of(ceph: Ceph, folder: Path, key: str) -> Path:
    """What the states write for a VM's disk, here."""
    (folder / "keyring").write_text(texts.keyring(USER, key))
    (folder / "vm.conf").write_text(texts.configuration([ceph.address], str(folder / "keyring")))
    return folder / "vm.conf"


@pytest.fixture
def conf(ceph: Ceph, tmp_path: Path) -> Path:
    return files_of(ceph, tmp_path, ceph.key)  # type: ignore[attr-defined]


@pytest.fixture
def image(ceph: Ceph, request: pytest.FixtureRequest) -> str:
    """A new image of its own for each test."""
    name = f"vm{abs(hash(request.node.name)) % 10**8}"
    ceph.make_image(name, MIB)
    return name


@pytest.fixture
def disk(conf: Path, image: str) -> Rbd:
    return Rbd(f"{POOL}/{image}", USER, str(conf))


class Writer:
    """A QEMU tool that has the image open as a VM has: by QEMU's driver, to write."""

    def __init__(self, conf: Path, image: str) -> None:
        self._process = subprocess.Popen(
            ["qemu-io", "-f", "raw", "-n", f"rbd:{POOL}/{image}:id={USER}:conf={conf}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def write(self, pattern: int) -> str:
        """Write a block; what was said of it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"write -P {pattern} 0 4k\n")
        self._process.stdin.flush()
        while True:
            line = self._process.stdout.readline()
            if "wrote" in line or "write failed" in line or not line:
                return line.strip()

    def signal(self, number: int) -> None:
        """Stop it, let it go on, or kill it."""
        self._process.send_signal(number)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def writer(conf: Path, image: str) -> Iterator[Writer]:
    found = Writer(conf, image)
    yield found
    found.close()


def look(disk: Rbd) -> Ground:
    return disk.look(Path(), "node1-vm", [Path(disk.image)])


def shut_others_out(disk: Rbd) -> list[str]:
    return disk.shut_others_out(lambda: float("inf"), lambda: False)


def bytes_in(ceph: Ceph, image: str) -> bytes:
    """The first bytes of an image, as its administrator sees them."""
    command = ["rbd", "-c", str(ceph.conf), "export", f"{POOL}/{image}", "-", "--no-progress"]
    return subprocess.run(command, capture_output=True, check=True).stdout[:4]


def test_a_well_disk_is_well(disk: Rbd) -> None:
    seen = look(disk)
    assert (seen.storage.ok, seen.storage.why, seen.lost) == (True, "", False)
    assert [(one.ok, one.why) for one in seen.images] == [(True, "")]
    assert disk.objection(seen) == ""


def test_what_is_wrong_with_the_pool_is_a_matter_of_the_vm_and_rules_no_node_out_for_others() -> None:
    bad, well, full = Check(False, "Ceph does not answer"), Check(True), Check(True, "full")
    assert Ground(bad, [NOT_LOOKED_AT]).by_whom(is_of_vm=True) == (well, bad)
    assert Ground(full, [well]).by_whom(is_of_vm=True) == (well, full)
    assert Ground(full, [bad]).by_whom(is_of_vm=True) == (well, bad)
    assert Ground(bad, [NOT_LOOKED_AT]).by_whom(is_of_vm=False) == (bad, NOT_LOOKED_AT)


def test_elsewhere_it_is_well_where_the_vms_own_check_says_so() -> None:
    def row(node: str, **checks: bool) -> dict[str, bytes]:
        told = {name: {"ok": ok} for name, ok in checks.items()}
        record = {"node": node, "checks": {"storage": {"ok": True}}, "guard": {"vms": {"vm": {"checks": told}}}}
        return {"Value": json.dumps(record).encode()}

    rows = [row("a", image=True), row("b", image=False), row("c"), {"Value": b"x"}]
    assert with_image("vm", rows) == {"a"}
    assert with_image("other", rows) == set()


def test_an_image_that_is_missing_says_nothing_of_the_storage(conf: Path) -> None:
    seen = look(Rbd(f"{POOL}/nosuch", USER, str(conf)))
    assert seen.storage.ok
    assert "is missing" in seen.images[0].why
    assert "qemu-img convert" in seen.images[0].why


def test_an_image_of_which_nobody_knows_who_writes_is_refused_with_the_remedy(ceph: Ceph, conf: Path) -> None:
    ceph.rbd("create", f"{POOL}/plain", "--size", "8M", "--image-feature", "layering")
    seen = look(Rbd(f"{POOL}/plain", USER, str(conf)))
    assert seen.storage.ok
    assert f"rbd feature enable {POOL}/plain exclusive-lock" in seen.images[0].why


@pytest.mark.parametrize(("pool", "user"), [("nosuch", USER), (POOL, "stranger")])
def test_what_ceph_refuses_by_itself_is_not_lost_storage_that_a_vm_would_be_killed_for(
    conf: Path, pool: str, user: str
) -> None:
    seen = look(Rbd(f"{pool}/vm", user, str(conf)))
    assert not seen.storage.ok
    assert not seen.lost
    assert seen.images[0].ok is False


def test_a_key_that_is_wrong_by_now_is_not_lost_storage_either(ceph: Ceph, tmp_path: Path, image: str) -> None:
    other = ceph.make_user("other")
    seen = look(Rbd(f"{POOL}/{image}", USER, str(files_of(ceph, tmp_path, other))))
    assert not seen.storage.ok
    assert not seen.lost


def test_a_full_pool_is_told_and_no_fault_of_this_node(ceph: Ceph, disk: Rbd) -> None:
    ceph.set_full(True)
    try:
        wait_until(lambda: look(disk).storage.why, PATIENCE_S, "the pool is not told to be full")
        seen = look(disk)
    finally:
        ceph.set_full(False)
    assert (seen.storage.ok, seen.storage.why) == (True, f"the pool {POOL} is full; make room")
    assert seen.images[0].ok
    wait_until(lambda: not look(disk).storage.why, PATIENCE_S, "the pool is still told to be full")


@pytest.mark.parametrize("daemon", ["osd", "mon"])
def test_a_ceph_that_does_not_answer_is_lost_storage_and_well_again_by_itself(
    ceph: Ceph, disk: Rbd, daemon: str
) -> None:
    ceph.pause_daemon(daemon)
    try:
        seen = look(disk)
    finally:
        ceph.resume_daemon(daemon)
    assert not seen.storage.ok
    assert seen.lost
    assert "timed out" in seen.storage.why
    wait_until(lambda: look(disk).storage.ok, PATIENCE_S, "the storage is not well again")


def test_after_a_clean_end_nobody_is_shut_out(ceph: Ceph, disk: Rbd, conf: Path, image: str) -> None:
    before = ceph.blocklist()
    command = ["qemu-io", "-f", "raw", "-n", "-c", "write 0 4k", f"rbd:{POOL}/{image}:id={USER}:conf={conf}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert shut_others_out(disk) == []
    assert ceph.blocklist() == before


def test_the_old_writer_is_refused_for_ever_and_no_other_client_of_its_host(
    ceph: Ceph, disk: Rbd, conf: Path, image: str, writer: Writer
) -> None:
    ceph.make_image(f"{image}-other", MIB)
    other = Writer(conf, f"{image}-other")
    try:
        assert "wrote" in other.write(7)
        assert "wrote" in writer.write(1)
        (address,) = ceph.watchers(image)
        assert shut_others_out(disk) == [address]
        assert address in ceph.blocklist()
        new = Writer(conf, image)
        try:
            assert "wrote" in new.write(2)
            assert REFUSED in writer.write(3)
            assert "wrote" in new.write(4)
        finally:
            new.close()
        assert REFUSED in writer.write(5)
        assert bytes_in(ceph, image) == b"\4" * 4
        assert "wrote" in other.write(8)
    finally:
        other.close()


def test_a_writer_that_stood_still_all_the_time_is_refused_when_it_goes_on(
    ceph: Ceph, disk: Rbd, conf: Path, image: str, writer: Writer
) -> None:
    assert "wrote" in writer.write(1)
    writer.signal(signal.SIGSTOP)
    shut_others_out(disk)
    new = Writer(conf, image)
    try:
        assert "wrote" in new.write(2)
        writer.signal(signal.SIGCONT)
        assert REFUSED in writer.write(3)
        assert bytes_in(ceph, image) == b"\2" * 4
    finally:
        new.close()


def test_what_a_dead_writer_has_left_is_shut_out_and_its_lock_taken(
    ceph: Ceph, disk: Rbd, conf: Path, image: str, writer: Writer
) -> None:
    assert "wrote" in writer.write(1)
    (address,) = ceph.watchers(image)
    writer.close()
    shut_others_out(disk)
    assert address in ceph.blocklist()
    assert ceph.rbd("lock", "ls", f"{POOL}/{image}") == ""
    shut_others_out(disk)


def test_rbds_own_lock_alone_lets_a_second_writer_in(conf: Path, image: str, writer: Writer) -> None:
    """Why it is not relied on: the two hand it over to each other."""
    assert "wrote" in writer.write(1)
    second = Writer(conf, image)
    try:
        assert "wrote" in second.write(2)
        assert "wrote" in writer.write(3)
    finally:
        second.close()


def test_without_a_lease_nobody_is_shut_out(ceph: Ceph, disk: Rbd, writer: Writer) -> None:
    assert "wrote" in writer.write(1)
    before = ceph.blocklist()
    for until_s in (None, boottime_s()):
        with pytest.raises(FailedError, match="lease was not renewed"):
            disk.shut_others_out(lambda until_s=until_s: until_s, lambda: False)  # type: ignore[misc]
    assert ceph.blocklist() == before
    assert "wrote" in writer.write(2)


def test_an_image_that_somebody_has_locked_by_hand_is_left_alone(ceph: Ceph, disk: Rbd, image: str) -> None:
    ceph.rbd("lock", "add", f"{POOL}/{image}", "repair")
    before = ceph.blocklist()
    with pytest.raises(FailedError, match="locked it by hand, as 'repair'.*rbd lock rm"):
        assert shut_others_out(disk) == []
    assert ceph.blocklist() == before


def test_a_start_that_is_void_by_now_does_not_wait_for_a_ceph_that_hangs(ceph: Ceph, disk: Rbd) -> None:
    ceph.pause_daemon("mon")
    began_s = time.monotonic()
    try:
        with pytest.raises(FailedError, match="voided"):
            disk.shut_others_out(lambda: float("inf"), lambda: time.monotonic() > began_s + 0.5)
    finally:
        ceph.resume_daemon("mon")


def test_a_ceph_that_does_not_answer_lets_nothing_be_started(ceph: Ceph, disk: Rbd) -> None:
    ceph.pause_daemon("osd")
    try:
        with pytest.raises(FailedError, match="timed out"):
            shut_others_out(disk)
    finally:
        ceph.resume_daemon("osd")


def test_no_process_shows_the_key(ceph: Ceph, disk: Rbd) -> None:
    ceph.pause_daemon("osd")
    child: list[bytes] = []

    def seen() -> bool:
        for number in filter(str.isdigit, os.listdir("/proc")):
            try:
                line = Path(f"/proc/{number}/cmdline").read_bytes()
                if b"ceph_client.py" in line:
                    child.append(line + Path(f"/proc/{number}/environ").read_bytes())
            except OSError:
                continue
        return bool(child)

    try:
        with pytest.raises(FailedError, match="voided"):
            disk.shut_others_out(lambda: float("inf"), seen)
    finally:
        ceph.resume_daemon("osd")
    assert ceph.key.encode() not in child[0]  # type: ignore[attr-defined]


def test_without_cephs_libraries_the_state_that_installs_them_is_named(conf: Path) -> None:
    seen = look(Rbd(f"{POOL}/vm", USER, str(conf), [PYTHON, "-S", "-I", str(CLIENT)]))
    assert "rados is missing: apply states.storage" in seen.storage.why
    assert not seen.lost
