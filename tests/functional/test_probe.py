"""The guard's probes of its ground, on a real file system that can be made to hang; what other nodes say of theirs."""

from __future__ import annotations

import errno
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lab.shell import mounts_below, wait_until
from mnha.core.ports import AbilitySeen
from mnha.daemon import prober as prober_module
from mnha.daemon.adapters import look
from mnha.daemon.adapters import probe as probe_module
from mnha.daemon.adapters import share as share_module
from mnha.daemon.adapters.consul import Servers
from mnha.daemon.adapters.other_nodes import said_of, with_storage
from mnha.daemon.adapters.probe import NODE_DISKS, SALT_DISKS, Check, Disk, disks, ground
from mnha.daemon.adapters.record import Record
from mnha.daemon.adapters.share import Rules, Share
from mnha.daemon.prober import STORAGE_LIMIT_S, Prober, Sources
from mnha.host.clock import boottime_s

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys, mfusepy
from pathlib import Path
from lab.storage import Passed
mfusepy.FUSE(Passed(Path(sys.argv[1])), sys.argv[2], foreground=True, direct_io=True, attr_timeout=0, entry_timeout=0)
"""


class Storage:
    """A folder that hangs when asked to."""

    def __init__(self, folder: Path, server: subprocess.Popen[bytes]) -> None:
        self.folder, self._server = folder, server

    def hang(self) -> None:
        """Nothing is answered any more."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """What waited is answered."""
        self._server.send_signal(signal.SIGCONT)


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A folder with an image."""
    behind, folder = tmp_path / "behind", tmp_path / "folder"
    behind.mkdir()
    folder.mkdir()
    (behind / "vm.img").write_bytes(bytes(4096))
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(behind), str(folder)], cwd=ROOT)
    try:
        wait_until(lambda: bool(mounts_below(folder)), 20, "the folder is there")
        yield Storage(folder, server)
    finally:
        server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
        server.kill()
        server.wait(10)


def record(tmp_path: Path, value: dict[str, Any] | None) -> Record:
    """What the guard before this one has known of the cluster's share; Consul is away."""
    (tmp_path / "share.json").write_text(json.dumps({"value": value}))
    return Record(Servers([], tmp_path, tmp_path), "mnha/t/share", tmp_path / "share.json")


def prober(folder: Path, tmp_path: Path, name: str = "mnvm", disk_error: str = "") -> Prober:
    """A prober that finds everything well but, maybe, the folder of its image."""
    (tmp_path / "domain.xml").touch()
    vm = {
        "name": name, "image": str(folder / "vm.img"), "bridges": [], "domain_xml": str(tmp_path / "domain.xml"),
        "memory_mib": 1,
    }  # fmt: skip
    sources = Sources(
        is_running=lambda: True,
        is_paused=lambda: False,
        qemu=lambda: 0,
        written=str,
        disk_error=lambda: disk_error,
        libvirt_error=str,
        fencer_error=str,
        watchdog_error=str,
        lack=str,
        disk=lambda: Check(True),
        storage_elsewhere=lambda: "you",
    )
    share = Share("me", folder, record(tmp_path, None), Rules(declared=True))
    return Prober("me", vm, share, sources, changed=lambda seen: None)


def test_hanging_storage_is_lost_from_the_begin_of_the_look_that_hangs_until_one_that_does_not(
    storage: Storage, tmp_path: Path
) -> None:
    probing = prober(storage.folder, tmp_path)
    well = probing.probe()
    assert (well.unable, well.storage_lost_s, well.storage_elsewhere) == ("", None, "")
    storage.hang()
    began_s = boottime_s()
    lost = probing.probe()
    assert f"within {STORAGE_LIMIT_S:g} s" in lost.unable
    assert lost.storage_lost_s is not None
    assert began_s <= lost.storage_lost_s < began_s + 0.5
    assert lost.storage_elsewhere == "you"
    asked_s = boottime_s()
    assert probing.probe() == lost  # the same look still hangs, and is not waited for again
    assert boottime_s() - asked_s < 0.5
    storage.go_on()
    time.sleep(0.5)
    assert probing.probe() == well


def test_a_look_that_ends_in_a_way_nobody_expected_is_told_and_the_next_one_counts(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing = prober(storage.folder, tmp_path)
    well = probing.probe()
    with monkeypatch.context() as broken:
        broken.setattr(share_module, "ground", Mock(side_effect=RuntimeError("rubbish")))
        assert "RuntimeError('rubbish')" in probing.probe().unable
    assert probing.probe() == well


def test_a_look_for_which_there_was_no_thread_does_not_count_as_one_that_hangs(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probing = prober(storage.folder, tmp_path)
    well = probing.probe()
    with monkeypatch.context() as without:
        without.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        with pytest.raises(RuntimeError):
            probing.probe()
    assert probing.probe() == well


def test_an_image_with_a_stale_handle_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "stat", Mock(side_effect=OSError(errno.ESTALE, os.strerror(errno.ESTALE))))
    assert look.image("/share/vm.img") == "/share/vm.img can't be looked at: Stale file handle"


def test_a_look_that_can_not_be_begun_or_breaks_off_says_nothing_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program, why in (("/none", "No such file or directory"), ("/bin/false", "exit code 1"), ("/bin/true", "0")):
        monkeypatch.setattr(sys, "executable", program)
        seen = ground(tmp_path, "me", [tmp_path / "vm.img"], tmp_path, may_be_root=True)
        assert (seen.storage.ok, seen.images[0].ok, seen.lost) == (False, False, True)
        assert why in seen.storage.why


def test_a_folder_that_can_not_be_written_is_told_and_its_images_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / ".mnha").touch()
    seen = ground(tmp_path, "me", [tmp_path / "vm.img"] * 2, tmp_path, may_be_root=True)
    assert seen.storage.why == f"{tmp_path} can't be read: Not a directory; is it mounted?"
    assert [picture.why for picture in seen.images] == [look.NOT_LOOKED_AT] * 2


def command(pid: str) -> str:
    """A process' command line; empty if there is none."""
    return Path(f"/proc/{pid.strip()}/cmdline").read_text().replace("\0", " ") if pid else ""


def test_a_folder_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    """A share that is not mounted must not become a folder on the node's own disk."""
    missing = tmp_path / "share" / "mngt"
    seen = ground(missing, "me", [], missing, may_be_root=True)
    assert seen.storage.why == f"{missing} can't be written: No such file or directory; is it mounted?"
    assert not missing.parent.exists()


def test_a_process_whose_look_hangs_can_end(storage: Storage, tmp_path: Path) -> None:
    """As a guard that is replaced: what hangs is not one of its threads."""
    code = "import sys; from pathlib import Path; from mnha.daemon.adapters.probe import ground\n"
    code += "print('begun', flush=True); ground(Path(sys.argv[1]), 'me', [], Path(sys.argv[1]))"
    storage.hang()
    words = [sys.executable, "-c", code, str(storage.folder)]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": "salt/_utils"}, cwd=ROOT, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            wait_until(lambda: "look.py" in command(children.read_text()), 5, "it looks")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
        finally:
            process.kill()
        process.wait(2)


def test_probes_that_fail_make_the_node_unable_until_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prober_module, "SETTLE_S", 0.0)
    probing, able = prober(tmp_path, tmp_path), AbilitySeen("")
    told: list[AbilitySeen] = []
    monkeypatch.setattr(probing, "_changed", told.append)
    monkeypatch.setattr(probing, "probe", Mock(side_effect=[able, KeyError("x"), able, SystemExit()]))
    with pytest.raises(SystemExit):  # the test's own end of what runs for ever
        probing.run()
    assert {check.ok for check in probing.checks.values()} == {False}
    assert [seen.unable for seen in told] == ["", "the guard's probes fail: KeyError('x'); see its log", ""]


PULSE = """
import subprocess, sys, threading, time
from mnha.daemon.priority import become_prompt
become_prompt()
threading.Thread(target=lambda: subprocess.run([sys.argv[1]]), daemon=True).start()
for _ in range(20):
    time.sleep(0.1)
    print("goes on", flush=True)
"""


def test_a_program_that_can_not_be_read_from_its_disk_holds_nobody_up_but_who_begins_it(storage: Storage) -> None:
    program = storage.folder / "program"
    shutil.copy("/bin/true", program)
    storage.hang()
    guard = subprocess.Popen(
        [sys.executable, "-c", PULSE, str(program)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")},
    )  # fmt: skip
    threading.Timer(10, storage.go_on).start()  # of one that is held up nothing else would be heard
    began_s = time.monotonic()
    assert guard.stdout
    assert [guard.stdout.readline() for _ in range(20)] == ["goes on\n"] * 20
    assert time.monotonic() - began_s < 8
    guard.communicate()


def test_storage_that_is_not_the_share_is_not_lost_but_what_was_lost_stays_so(storage: Storage, tmp_path: Path) -> None:
    """Somebody has mounted something over it: what runs does not notice. But a share that hung, and was unmounted by
    force, is no better for it.
    """
    (storage.folder / look.OWN_FOLDER).mkdir()
    (storage.folder / look.OWN_FOLDER / look.ID_FILE).write_text("x")
    probing = prober(storage.folder, tmp_path)
    known = record(tmp_path, {"v": 1, "id": "x", "placed": True, "node": "me"})
    probing._storage = Share("me", storage.folder, known, Rules(declared=True))
    assert (probing.probe().unable, probing.objection()) == ("", "")
    (storage.folder / look.OWN_FOLDER / look.ID_FILE).write_text("y")
    foreign = probing.probe()
    assert "is not the cluster's share" in foreign.unable
    assert (foreign.storage_lost_s, foreign.storage_elsewhere) == (None, "")
    assert "is not the cluster's share" in probing.objection()
    storage.hang()
    lost_s = probing.probe().storage_lost_s
    assert lost_s is not None
    storage.go_on()
    time.sleep(0.5)
    assert "is not the cluster's share" in probing.probe().unable
    assert probing.probe().storage_lost_s == lost_s
    (storage.folder / look.OWN_FOLDER / look.ID_FILE).write_text("x")
    time.sleep(0.5)
    assert probing.probe() == AbilitySeen("")


def test_a_vm_that_no_node_could_start_waits_for_its_storage(storage: Storage, tmp_path: Path) -> None:
    probing = prober(storage.folder, tmp_path, disk_error="it writes to an overlay")
    assert probing.probe().unable == "it writes to an overlay"
    assert probing.objection() == "it writes to an overlay"
    storage.hang()
    lost = probing.probe()
    assert lost.storage_lost_s is not None
    assert lost.storage_elsewhere == ""


def test_a_missing_image_is_no_lost_storage(storage: Storage, tmp_path: Path) -> None:
    (storage.folder / "vm.img").unlink()
    seen = prober(storage.folder, tmp_path).probe()
    assert "vm.img is missing" in seen.unable
    assert seen.storage_lost_s is None


def test_a_full_disk_is_told_with_its_folder_and_what_comes_of_it(tmp_path: Path) -> None:
    free_mib = shutil.disk_usage(tmp_path).free >> 20
    nowhere = Disk(tmp_path / "not there", 2 * free_mib + 1, "")
    assert disks([Disk(tmp_path, free_mib // 2, ""), nowhere]).ok
    full = disks([nowhere, Disk(tmp_path, 2 * free_mib + 1, "nothing is written"), Disk(Path("/"), 1 << 40, "?")])
    assert not full.ok
    assert re.fullmatch(
        rf"{tmp_path} is full: \d+ MiB are left; nothing is written; make room; / is full: \d+ MiB .*", full.why
    )


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for bytes and for few files."""
    folder = tmp_path / "few"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=300", "few", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_without_inodes_is_full(few_inodes: Path) -> None:
    disk = Disk(few_inodes, 16, "")
    assert disks([disk]).ok
    for number in range(100):
        (few_inodes / str(number)).touch()
    assert re.search(r"is full: \d+ inodes are left", disks([disk]).why)


def test_no_folder_of_a_node_is_told_of_without_a_reason() -> None:
    assert [disk for disk in (*NODE_DISKS, *SALT_DISKS) if not disk.lost or disk.least_mib < 1] == []


def row(value: Any) -> dict[str, Any]:
    """A row of Consul's answer."""
    return {"Value": json.dumps(value).encode()}


def test_whose_storage_is_well_is_read_from_the_records_and_what_is_not_understood_is_not_well() -> None:
    rows = [
        row({"node": "node1", "checks": {"storage": {"ok": True, "why": ""}}}),
        row({"node": "node2", "checks": {"storage": {"ok": False, "why": "hangs"}}}),
        row({"node": "node3", "checks": {}}),
        row({"node": "node6", "checks": {"storage": {"ok": True}, "mount": {"ok": False}}}),
        row({"node": "node7", "checks": {"storage": {"ok": True}, "mount": {"ok": True}}}),
        row({"node": "node4"}),
        row(["node5"]),
        {"Value": None},
        {"Value": b"!"},
    ]
    assert with_storage(rows) == {"node1", "node7"}
    assert said_of("storage", rows) == {"node1": True, "node2": False, "node6": True, "node7": True}


def test_two_vms_in_one_folder_do_not_report_each_others_data(storage: Storage, tmp_path: Path) -> None:
    (storage.folder / "vm.img").touch()
    for vm in ("one", "two"):
        found = prober(storage.folder, tmp_path, vm).probe()
        assert not found.unable, found
    assert {path.name for path in (storage.folder / ".mnha").iterdir()} == {"probe-me-one", "probe-me-two"}


OPEN = "import sys, time; file = open(sys.argv[1]); print(flush=True); time.sleep(60)"


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has an image open."""
    (tmp_path / "vm.img").write_bytes(bytes(4096))
    process = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(tmp_path / "vm.img")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "\n"
    yield process
    process.kill()
    process.wait(10)


def test_an_image_that_was_moved_or_replaced_under_the_vm_is_told(tmp_path: Path, qemu: subprocess.Popen[str]) -> None:
    image, away = tmp_path / "vm.img", tmp_path / "vm.old"

    def moved() -> str | None:
        return ground(tmp_path, "me", [image], tmp_path, "", qemu.pid, str(image), may_be_root=True).moved

    assert moved() == ""
    image.rename(away)
    assert f"does not lie at {image} any more" in (moved() or "")
    image.write_bytes(away.read_bytes())
    assert f"does not lie at {image} any more" in (moved() or "")
    away.rename(image)
    assert moved() == ""
    image.unlink()
    assert moved()
    qemu.kill()
    assert [moved(), qemu.wait(10) and moved()] == [None, None], "nobody writes there any more"
    assert ground(tmp_path, "me", [image], tmp_path, "", 1, "/dev/null", may_be_root=True).moved is None
    assert ground(tmp_path, "me", [image], tmp_path, "", 1, "pool/image", may_be_root=True).moved is None


def test_an_image_that_qemu_could_not_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "QEMU_USER", "nobody")
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    for one in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        one.chmod(0o755)
    image = folder / "vm.img"
    image.touch()
    account = pwd.getpwnam(probe_module.QEMU_USER)

    def why() -> str:
        return ground(folder, "me", [image], folder, may_be_root=True).images[0].why

    for user, mode, told in ((0, 0o600, True), (account.pw_uid, 0o660, False), (account.pw_uid, 0o440, True)):
        os.chown(image, user, 0)
        image.chmod(mode)
        assert bool(why()) is told
    assert why() == f"{image} can't be opened by nobody, as QEMU has to: apply states.mnvm"
