"""An orderly reboot of a node: in which order does systemd stop what a VM hangs on? A real systemd (Debian's, in a
container of its own) with the product's units, whose programs are replaced by some that write down when they end.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import pytest

from lab import build, cgroups, host
from lab.settings import Settings
from mnha import config
from mnha.config.guard import guard_config
from tests.support.example import ROOT, example_with

TARGET = "virt-guest-shutdown.target"
REBOOT_CODE = 133
LIMIT_S = 90
UNITS = {
    "mnha-guard": "states/guard/files/mnha-guard.service",
    "mnha-fencer": "states/fencer/files/mnha-fencer.service",
    "consul": "states/consul/files/consul.service",
}
CHANGES = """[Unit]
ConditionPathExists=
[Service]
Type=exec
User=root
Group=root
WatchdogSec=0
ExecStartPre=
ExecStart=
ExecStart=/bin/sleep infinity
ExecStop=
ExecStop=/bin/sh -c '{stop}'
"""
STOPS = "echo {name} ends >>/log"
GUARD_STOPS = (
    "systemctl is-system-running >>/log; systemctl list-jobs --no-legend --plain mnha-guard.service | "
    "cut -d\\  -f2-3 >>/log; sleep 2; mountpoint -q /srv/images && echo share is there >>/log; "
    + STOPS.format(name="mnha-guard")
)
STUB = "[Unit]\n{order}\n[Service]\nExecStart=/bin/sleep infinity\nExecStop=/bin/sh -c '{stop}'\n"
OTHERS = {
    # libvirt's own, word for word in what matters here
    TARGET: "[Unit]\nDescription=Libvirt guests shutdown\n",
    "libvirtd.service": STUB.format(
        order="After=network.target remote-fs.target", stop=STOPS.format(name="libvirtd")
    ),
    "network.service": STUB.format(
        order="Before=network.target\nWants=network.target", stop=STOPS.format(name="network")
    ),
    "reboot-soon.service": "[Service]\nType=oneshot\nExecStart=/bin/sh /qemu\n",
}  # fmt: skip
QEMU = f"""
systemd-run --scope --unit=machine-qemu-1-mnvm --slice=mnha-mnvm.slice \\
    -p After=libvirtd.service -p Before={TARGET} \\
    sh -c 'trap "echo qemu ends >>/log; exit" TERM; while :; do sleep 0.1; done' &
for unit in machine-qemu-1-mnvm.scope mnha-guard mnha-fencer consul libvirtd network srv-images.mount; do
    until systemctl --quiet is-active $unit; do sleep 0.1; done
done
sleep 0.5
systemctl --no-block reboot
"""
"""The scope as libvirt asks machined for it."""


def rendered(path: str) -> str:
    """A unit as the states write it."""
    guard = guard_config(config.load(example_with({})), "node1")
    text = (ROOT / "salt" / path).read_text(encoding="utf-8")
    return jinja2.Template(text).render(salt={"mnha_config.guard": lambda: guard})


def fill(etc: Path, change: Callable[[str], str]) -> None:
    """Write the units of a node, those of the product as `change` leaves them."""
    folder = etc / "systemd/system"
    wanted = folder / "multi-user.target.wants"
    wanted.mkdir(parents=True, exist_ok=True)
    for name, path in UNITS.items():
        (folder / f"{name}.service").write_text(change(rendered(path)))
        stop = GUARD_STOPS if name == "mnha-guard" else STOPS.format(name=name)
        (folder / f"{name}.service.d").mkdir()
        (folder / f"{name}.service.d/test.conf").write_text(CHANGES.format(stop=stop))
    for name, text in OTHERS.items():
        (folder / name).write_text(text)
    for name in (*(f"{one}.service" for one in UNITS), *(one for one in OTHERS if one != TARGET)):
        (wanted / name).symlink_to(folder / name)
    (etc / "fstab").write_text("images /srv/images tmpfs _netdev 0 0\n")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The root of a node, which goes with the test."""
    host.prepare()
    base = build.build_base(Settings.from_environment())
    layers = tmp_path / "layers"
    layers.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "layers", layers], check=True)
    try:
        for name in ("upper", "work", "root"):
            (layers / name).mkdir()
        options = f"lowerdir={base},upperdir={layers}/upper,workdir={layers}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, layers / "root"], check=True)
        try:
            yield layers / "root"
        finally:
            subprocess.run(["umount", layers / "root"], check=True)
    finally:
        subprocess.run(["umount", layers], check=True)


def reboot(root: Path) -> list[str]:
    """Boot the node, have it reboot with a VM, and return what was written down."""
    name = f"mnha-test-{uuid.uuid4().hex[:8]}"
    groups = [one / name for one in (cgroups.unified_root(), Path("/sys/fs/cgroup/systemd")) if one.is_dir()]
    (root / "srv/images").mkdir(parents=True, exist_ok=True)
    (root / "qemu").write_text(QEMU)
    for group in groups:
        group.mkdir()
    enter = "; ".join(f"echo 0 >{group}/cgroup.procs" for group in groups)
    command = (
        f"timeout {LIMIT_S} systemd-nspawn --boot --quiet --register=no --keep-unit --machine={name} "
        f"--private-network -D {root} --link-journal=no --console=pipe --resolv-conf=off --timezone=off"
    )
    try:
        done = subprocess.run(
            ["sh", "-c", f"{enter}; exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 {command}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    finally:
        for group in groups:
            for folder in sorted((one for one in group.rglob("*") if one.is_dir()), reverse=True):
                folder.rmdir()
            group.rmdir()
    assert done.returncode == REBOOT_CODE, done.stdout
    return (root / "log").read_text().splitlines()


def test_a_node_that_reboots_stops_its_guard_before_all_that_its_vm_hangs_on(root: Path) -> None:
    fill(root / "etc", lambda text: text)
    told = reboot(root)
    assert told[:4] == ["stopping", "mnha-guard.service stop", "share is there", "mnha-guard ends"], told
    assert sorted(told[4:]) == ["consul ends", "libvirtd ends", "mnha-fencer ends", "network ends", "qemu ends"]
    after = told[4:]
    assert after.index("qemu ends") < after.index("libvirtd ends") < after.index("mnha-fencer ends")
    assert after.index("consul ends") < after.index("network ends")


def test_without_libvirts_target_qemu_would_be_stopped_beside_the_guard(root: Path) -> None:
    """What the test above is good for."""
    fill(root / "etc", lambda text: text.replace(f"After={TARGET}\n", "").replace(f" {TARGET}", ""))
    told = reboot(root)
    assert told.index("qemu ends") < told.index("mnha-guard ends")
