"""Run in a machine with a file server and another client (`shares.sh`), by `test_shares.py`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mnha.fencer.slices import KernelSlices
from mnha.host import mounts
from tests.support.example import example_pillar
from tests.support.local_salt import LocalSalt

FOLDER, SOURCE, UNIT = "/opt/smp/mngt", "10.9.0.1:/mngt", "opt-smp-mngt.mount"
UNITS = Path("/etc/systemd/system")
LEASE_S = int(os.environ.get("LEASE_S", "10"))
"""The server's lease time (`test_shares.py`)."""
LOOK_S = 12.0
"""What a look at a dead server may take: see :data:`mnha.host.share.LIMIT_S`."""


def run(*words: str, check: bool = True, limit_s: float = 90) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def until(question: Callable[[], object], limit_s: float, what: str) -> float:
    """Wait until it is so; after how many seconds it was."""
    began_s = time.monotonic()
    while not question():
        assert time.monotonic() < began_s + limit_s, f"not within {limit_s:g} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began_s


def live(folder: str = FOLDER) -> mounts.Mount | None:
    return mounts.at(folder, mounts.table())


def server(state: str) -> None:
    """The server's cable: up or down."""
    run("ip", "-n", "server", "link", "set", "br0", state)


@pytest.fixture(scope="module")
def salt(tmp_path_factory: pytest.TempPathFactory) -> LocalSalt:
    made = LocalSalt(tmp_path_factory.mktemp("salt") / "x", example_pillar())
    made.here("saltutil.sync_all")
    return made


def mounted(salt: LocalSalt, *, test: bool = False, **how: Any) -> dict[str, Any]:
    """What came of the state."""
    given = {"source": SOURCE, **how}
    states = salt.here("state.single", "sharedfs.mounted", FOLDER, test=test, **given)
    assert isinstance(states, dict), states
    (one,) = states.values()
    return dict(one)


def test_a_share_is_mounted_by_a_unit_and_left_alone_afterwards(salt: LocalSalt) -> None:
    dry = mounted(salt, test=True)
    assert (dry["result"], dry["changes"]["mounted"]) == (None, {"old": None, "new": SOURCE}), dry
    assert live() is None
    made = mounted(salt)
    assert made["result"] is True, made
    first = live()
    assert first is not None
    assert (first.kind, first.faults) == ("nfs4", [])
    assert "hard" in first.options
    assert run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert "mnha-guard.service" in run("systemctl", "show", "--property=Before", UNIT)
    again = mounted(salt)
    assert (again["result"], again["changes"]) == (True, {}), again
    assert live() == first, "the very same mount"
    assert mounted(salt, test=True)["result"] is True


def test_what_was_mounted_by_hand_and_agrees_is_left_alone(salt: LocalSalt) -> None:
    run("systemctl", "stop", UNIT)
    run("mount", "-t", "nfs", "-o", "nfsvers=4.2,noatime", SOURCE, FOLDER)
    first = live()
    found = mounted(salt)
    assert (found["result"], found["changes"]) == (True, {}), found
    assert live() == first


def test_a_status_tells_how_it_is(salt: LocalSalt) -> None:
    found = salt.here("sharedfs.status", FOLDER)
    assert (found["mounted"], found["answers"], found["locks"], found["told"]) == (True, True, True, []), found
    assert (found["source"], found["type"], found["lease_time_s"]) == (SOURCE, "nfs4", LEASE_S)
    assert 0 <= found["latency_s"] < LOOK_S
    assert salt.here("sharedfs.status", "/opt/smp/bs")["mounted"] is False
    assert list(salt.here("sharedfs.list")) == [FOLDER]


def test_other_options_are_mounted_anew_but_not_while_somebody_is_in_there(salt: LocalSalt) -> None:
    dry = mounted(salt, options=["timeo=100"], test=True)
    assert dry["changes"]["mounted"]["why"] == ["timeo=100 is not in force"], dry
    user = subprocess.Popen(["sleep", "600"], cwd=FOLDER)
    try:
        refused = mounted(salt, options=["timeo=100"])
    finally:
        user.kill()
        user.wait()
    assert refused["result"] is False
    assert "can't be unmounted, is it in use?" in refused["comment"], refused
    assert live() is not None
    found = mounted(salt, options=["timeo=100"])
    assert found["result"] is True, found
    anew = live()
    assert anew is not None
    assert "timeo=100" in anew.options
    assert mounted(salt)["result"] is True, "without it any agrees"


@pytest.mark.nightly
def test_a_mount_whose_locks_do_not_hold_is_told(salt: LocalSalt) -> None:
    Path("/mnt/three").mkdir(exist_ok=True)
    run("mount", "-t", "nfs", "-o", "vers=3,nolock,mountproto=tcp,proto=tcp", "10.9.0.1:/bs", "/mnt/three")
    found = salt.here("sharedfs.status", "/mnt/three")
    run("umount", "/mnt/three")
    assert found["answers"]
    assert not found["locks"]
    assert [word for word in ("NFSv3", "nolock") if not any(word in text for text in found["told"])] == [], found


@pytest.fixture
def without_server() -> Iterator[None]:
    server("down")
    yield
    server("up")
    until(lambda: run("ls", FOLDER, check=False, limit_s=60) is not None, 60, "the server answers again")


@pytest.mark.usefixtures("without_server")
def test_a_server_that_is_gone_keeps_nobody_waiting(salt: LocalSalt) -> None:
    began_s = time.monotonic()
    found = salt.here("sharedfs.status", FOLDER)
    assert (found["mounted"], found["answers"]) == (True, False)
    assert "does not answer within 8 s" in found["told"][0]
    assert mounted(salt)["changes"] == {}
    assert time.monotonic() - began_s < 2 * LOOK_S


LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "r+")
try:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    sys.exit(3)
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


def test_the_lock_of_a_dead_node_is_had_when_its_lease_is_over(salt: LocalSalt) -> None:
    assert mounted(salt)["result"] is True
    Path(FOLDER, "image").write_text("x")
    script = f"hostname node2; mkdir -p /mnt/other; mount -t nfs -o vers=4.2 {SOURCE} /mnt/other; exec python3 -c "
    words = ["unshare", "--uts", "--mount", "sh", "-c", f'{script} "$0" /mnt/other/image 600', LOCK]
    other = subprocess.Popen(["nsenter", "--net=/run/netns/other", *words], stdout=subprocess.PIPE, text=True)
    assert other.stdout
    assert other.stdout.readline() == "locked\n"
    assert salt.here("sharedfs.status", FOLDER)["lease_time_s"] == LEASE_S
    mine = ["python3", "-c", LOCK, f"{FOLDER}/image", "0"]
    assert subprocess.run(mine, check=False).returncode == 3, "it is had by the other"
    run("ip", "-n", "other", "link", "set", "share0", "down")
    took_s = until(lambda: subprocess.run(mine, check=False).returncode == 0, 3 * LEASE_S, "the lock is free")
    print(f"lease time {LEASE_S} s: the lock of a dead node was had after {took_s:.1f} s")
    assert took_s > LEASE_S / 2
    other.kill()


@pytest.mark.nightly
def test_a_mount_is_tried_again_until_the_server_is_there(salt: LocalSalt) -> None:
    run("systemctl", "stop", UNIT)
    server("down")
    found = mounted(salt)
    assert found["result"] is False
    assert f"{SOURCE} can't be mounted at {FOLDER}; it is tried again every 10 s" in found["comment"], found
    server("up")
    took_s = until(live, 60, "it is mounted by itself")
    print(f"the server came: mounted after {took_s:.1f} s")
    assert mounted(salt)["changes"] == {}


@pytest.fixture
def vm() -> Iterator[None]:
    """A process that has an image of this share open, in the slice of a VM."""
    image = Path(FOLDER, "vm.img")
    image.write_text("x")
    folder = Path("/sys/fs/cgroup/mnha.slice")
    slices = KernelSlices(folder)
    slices.path("mnvm").mkdir(parents=True)
    said = {"v": 1, "socket": "", "memory": "", "mark": "", "slices": str(folder), "vms": [], "watchdog": "off",
            "watchdog_device": ""}  # fmt: skip
    file = Path("/etc/mnha/fencer.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(said))
    words = "import sys, time; image = open(sys.argv[1], 'r+'); print('open', flush=True); time.sleep(600)"
    command = ["unshare", "--mount", "--propagation=slave", "python3", "-c", words, str(image)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/")
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    (slices.path("mnvm") / "cgroup.procs").write_text(str(process.pid))
    yield
    process.kill()
    process.wait()
    file.unlink()


def done(salt: LocalSalt, function: str, *words: str, **how: Any) -> dict[str, Any]:
    """What came of a state, for any folder."""
    (one,) = salt.here("state.single", f"sharedfs.{function}", *words, **how).values()
    return dict(one)


@pytest.mark.nightly
@pytest.mark.usefixtures("vm")
def test_nothing_hides_the_images_of_a_vm_and_what_does_can_be_taken_away(salt: LocalSalt) -> None:
    inside = f"{FOLDER}/iso"
    for folder in ("/opt/smp", FOLDER, inside):
        refused = done(salt, "mounted", folder, source="tmpfs", kind="tmpfs")
        assert (refused["result"], "while mnvm runs here" in refused["comment"]) == (False, True), refused
    assert not list(UNITS.glob("opt-smp.mount"))
    first = live()
    assert done(salt, "mounted", "/opt/t", source="tmpfs", kind="tmpfs")["result"] is True
    assert done(salt, "unmounted", "/opt/t")["result"] is True
    for over in ("/opt/smp", FOLDER):
        run("mount", "-t", "tmpfs", "over", over)
        Path(FOLDER).mkdir(exist_ok=True)
        Path(FOLDER, "vm.img").write_text("another one")
        gone = done(salt, "unmounted", over)
        assert gone["result"] is True, gone
        assert (live(), Path(FOLDER, "vm.img").read_text()) == (first, "x")
    assert run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    refused = done(salt, "unmounted", FOLDER)
    assert (refused["result"], f"mnvm has {FOLDER}/vm.img open there" in refused["comment"]) == (False, True), refused
    assert live() == first


def failed() -> str:
    return run("systemctl", "--failed", "--plain", "--no-legend", "--all")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("source", "how", "said"),
    [
        ("10.9.0.1:/no-such", {}, "No such file or directory"),
        ("10.9.0.1:/bs", {"options": ["nonsense=7"]}, "incorrect mount option"),
        ("tmpfs", {"kind": "tmpfs", "options": "size=many"}, "/opt/x"),
    ],
)
def test_a_mount_that_is_refused_tells_the_cause_and_leaves_nothing(
    salt: LocalSalt, source: str, how: dict[str, Any], said: str
) -> None:
    before = sorted(UNITS.iterdir())
    found = done(salt, "mounted", "/opt/x", source=source, **how)
    print(found["comment"])
    assert found["result"] is False
    assert said in found["comment"], found
    assert "nothing was changed" in found["comment"]
    assert sorted(UNITS.iterdir()) == before
    assert failed() == ""
    assert run("systemctl", "is-enabled", "opt-x.mount", check=False).strip() != "enabled"
    time.sleep(12)
    assert live("/opt/x") is None
    assert failed() == ""


@pytest.mark.nightly
def test_a_type_that_there_is_not_is_refused(salt: LocalSalt) -> None:
    assert "nfs5 is no file system's type" in done(salt, "mounted", "/opt/x", source=SOURCE, kind="nfs5")["comment"]
    said = done(salt, "mounted", "/opt/x", source="x", kind="unheardof")["comment"]
    assert "this host knows no file system unheardof" in said


@pytest.mark.nightly
def test_where_the_new_source_is_refused_the_old_one_is_mounted_again(salt: LocalSalt) -> None:
    text = (UNITS / UNIT).read_text()
    found = mounted(salt, source="10.9.0.1:/no-such")
    assert found["result"] is False
    assert f"{SOURCE} is mounted again as before" in found["comment"], found
    again = live()
    assert again is not None
    assert again.source == SOURCE
    assert (UNITS / UNIT).read_text() == text
    assert mounted(salt)["changes"] == {}
    user = subprocess.Popen(["sleep", "600"], cwd=FOLDER)
    try:
        refused = mounted(salt, source="10.9.0.1:/bs")
    finally:
        user.kill()
        user.wait()
    assert "nothing was changed" in refused["comment"], refused
    assert (UNITS / UNIT).read_text() == text
    assert mounted(salt)["changes"] == {}


@pytest.mark.nightly
def test_where_it_is_refused_what_was_mounted_by_hand_is_mounted_again(salt: LocalSalt) -> None:
    assert done(salt, "unmounted", FOLDER)["result"] is True
    run("mount", "-t", "nfs", "-o", "nfsvers=4.2,noatime", SOURCE, FOLDER)
    first = live()
    assert first is not None
    found = mounted(salt, source="10.9.0.1:/no-such")
    assert f"{SOURCE} is mounted again as before" in found["comment"], found
    again = live()
    assert again is not None
    assert again.options == first.options
    assert list(UNITS.glob("opt-*.mount")) == []
    assert mounted(salt)["result"] is True


@pytest.mark.nightly
def test_a_status_of_a_folder_in_a_share_is_that_of_the_share(salt: LocalSalt) -> None:
    Path(FOLDER, "below").mkdir(exist_ok=True)
    found = salt.here("sharedfs.status", f"{FOLDER}/below")
    assert (found["mounted"], found["at"], found["answers"], found["lease_time_s"]) == (True, FOLDER, True, LEASE_S)


def test_what_is_not_wanted_any_more_is_unmounted_for_good(salt: LocalSalt) -> None:
    (gone,) = salt.here("state.single", "sharedfs.unmounted", FOLDER).values()
    assert gone["result"] is True, gone
    assert live() is None
    assert not (UNITS / UNIT).exists()
    assert not list(UNITS.glob("mnha-mount-again@.service")), "no share is left"
    assert failed() == ""
    (again,) = salt.here("state.single", "sharedfs.unmounted", FOLDER).values()
    assert (again["result"], again["changes"]) == (True, {})
