"""libvirt's own placement of QEMU, on a kernel whose control groups have controllers: what the fencer counts on.

The machine's root is a node's of the lab, with Debian's systemd, machined, libvirt and QEMU; the emulator is the
packages' own, not what the lab puts in its place (`lab/emulator`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from lab import build
from lab.settings import Settings
from lab.uml import Machine
from mnha import config
from mnha.guest import domain
from tests.support.example import ROOT, example_pillar

from .placement import PHASES, VMS
from .test_watchdog import BOOT_S

LIMIT_S = 400.0
"""Most of it is QEMU, twice: about a minute of one CPU in all."""
PREPARE = f"""
cp --remove-destination /{build.EMULATOR}.real /{build.EMULATOR} || exit 3
modprobe tun && modprobe bridge && ip link add br_mgmt type bridge && ip link set br_mgmt up || exit 4
# QEMU wants a file system that can do without the page cache.
modprobe loop && truncate -s 32M /run/images && mkfs.ext4 -q -O ^has_journal /run/images || exit 5
mkdir -p /opt/smp && mount -o loop /run/images /opt/smp && mkdir /opt/smp/mngt || exit 6
echo "127.0.0.1 $(hostname)" >>/etc/hosts
mkdir /root/domains
"""


def domains() -> Iterator[tuple[str, str]]:
    """Each VM and its domain, as the product renders it for a node without KVM."""
    pillar = example_pillar()
    cluster = pillar["mnha"]["cluster"]
    cluster["minimum_size"] = False
    example = cluster["vms"].pop("mnvm")
    for number, vm in enumerate(VMS, 1):
        network = {**example["networks"][0], "mac": f"52:54:00:5a:01:0{number}", "address": f"172.20.198.1{number}"}
        cluster["vms"][vm] = {
            **example, "uuid": f"6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c1{number}", "cpus": 2, "memory_mib": 64,
            "image": f"{vm}.img", "networks": [network],
        }  # fmt: skip
    loaded = config.load(pillar)
    for vm in VMS:
        yield vm, domain.render(loaded, vm, "node1", kvm_works=False)


@pytest.fixture(scope="module")
def said() -> str:
    """What a machine said in which a VM was started, barred and killed."""
    pieces = build.build_all(Settings.from_environment())
    assert pieces.warm
    lines = [PREPARE]
    for vm, xml in domains():
        image = f"/opt/smp/mngt/{vm}.img"
        lines.append(f"qemu-img create -q -f qcow2 {image} 8M && chown libvirt-qemu {image} || exit 7")
        lines.append(f"printf %s {shlex.quote(xml)} >/root/domains/{vm}.xml")
    lines.append(f"cd {shlex.quote(str(ROOT))} && export PYTHONPATH=salt/_utils:. PYTHONDONTWRITEBYTECODE=1")
    lines.append("/usr/bin/python3 -m tests.kernel.placement /root/domains && exit")
    lines.append("status=$?; journalctl -b --no-pager -u libvirtd -u systemd-machined | tail -n 30; exit $status")
    with Machine("\n".join(lines), systemd=True, layers=[pieces.warm, pieces.base]) as machine:
        end = machine.wait(BOOT_S + LIMIT_S)
    print(end.said)
    return f"{end.said}\nstatus {end.status}"


@pytest.mark.parametrize("phase", [phase.__name__ for phase in PHASES])
def test_placement(said: str, phase: str) -> None:
    assert f"true {phase} " in said, said


def test_nothing_else_is_wrong(said: str) -> None:
    assert said.endswith("status 0"), said
