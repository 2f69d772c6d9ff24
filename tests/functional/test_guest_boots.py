"""The lab's guest, with the real agent, under a real libvirtd: it boots with the addresses of its seed, and the guard's
thread gives it those of another node while it runs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from lab import build
from lab.pillar import lab_pillar
from lab.settings import Settings, plan_nodes
from lab.shell import wait_until
from mnha import config
from mnha.config import guest_networks
from mnha.daemon.adapters.guest_network import GuestNetwork
from mnha.daemon.adapters.libvirt import Connection
from mnha.guest import domain, seed
from tests.functional.test_adapters_fail import halt
from tests.support import real_libvirt

PLANS = plan_nodes(3)
HERE, THERE = PLANS[0], PLANS[1]
CLUSTER = config.load(lab_pillar(PLANS, "default"))
VM = "mnvm"
BOOT_S = 120.0
MEMORY_MIB = 128


class Booted:
    """The guest on a switch that is in the namespace of its libvirtd."""

    def __init__(self, hosted: real_libvirt.RealLibvirt) -> None:
        self.hosted = hosted
        self._enter("ip", "link", "add", "br_mgmt", "type", "bridge")
        for plan in PLANS:
            self._enter("ip", "address", "add", f"{plan.guest_net}.254/24", "dev", "br_mgmt")
        self._enter("ip", "link", "set", "br_mgmt", "up")
        pieces = build.build_guest(Settings.from_environment())
        for name in ("vmlinuz", "initrd.img", "mnvm.img"):
            shutil.copy(pieces / name, hosted.files)
        files = seed.files(CLUSTER, VM, HERE.name)
        assert files is not None
        (hosted.files / f"{VM}.iso").write_bytes(seed.image(files))
        self.domain = libvirt.open(hosted.uri).defineXML(self._xml())
        self.domain.create()

    def _xml(self) -> str:
        """The domain of the first node, in less memory, with all its files in one folder."""
        root = ET.fromstring(domain.render(CLUSTER, VM, HERE.name, kvm_works=False))
        for tag in ("memory", "currentMemory"):
            root.find(tag).text = str(MEMORY_MIB)  # type: ignore[union-attr]
        root.remove(root.find("resource"))  # type: ignore[arg-type]
        for one in [*root.iter("source"), *root.iter("log")]:
            if file := one.get("file"):
                one.set("file", str(self.hosted.files / Path(file).name))
        for tag in ("kernel", "initrd"):
            found = root.find(f"os/{tag}")
            assert found is not None
            found.text = str(self.hosted.files / Path(found.text or "").name)
        return ET.tostring(root, encoding="unicode")

    def _enter(self, *words: str) -> int:
        space = ["nsenter", "--net", f"--target={self.hosted.pids()[0]}"]
        return subprocess.run([*space, *words], capture_output=True, check=False).returncode

    def answers(self, address: str) -> bool:
        """Whether it does, to one on the switch."""
        return self._enter("ping", "-c1", "-W1", address) == 0

    @property
    def starts(self) -> list[str]:
        """The address with which it has come up, each time."""
        text = (self.hosted.files / f"{VM}-console.log").read_text(errors="replace")
        lines = [line for line in text.splitlines() if "mnha-guest UP" in line]
        return [line.rpartition("address=")[2].strip() for line in lines]


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Booted]:
    with real_libvirt.running(tmp_path) as hosted:
        yield Booted(hosted)


@pytest.fixture
def connection(booted: Booted) -> Iterator[Connection]:
    made = Connection(booted.hosted.uri)
    made.start()
    wait_until(lambda: made.error == "", BOOT_S, "it is connected")
    yield made
    for thread in made.threads:
        halt(thread)


def test_a_guest_boots_with_its_seed_gets_another_nodes_address_while_it_runs_and_boots_with_its_seed_again(
    booted: Booted, connection: Connection
) -> None:
    by_seed = f"{HERE.guest}/24"
    wait_until(lambda: booted.starts == [by_seed], BOOT_S, f"it is up with its seed's address: {booted.starts}")
    assert booted.answers(HERE.guest)

    words: list[Any] = [sys.executable, "-c", "input()", "-incoming", "defer"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as arrived:
        vm = {
            "name": VM,
            "uuid": CLUSTER.vms[VM].uuid,
            "health": {"boot_grace_s": 300.0},
            "guest": guest_networks.wanted(CLUSTER, VM, THERE.name),
        }
        guard = GuestNetwork(connection, THERE.name, vm, lambda: arrived.pid)
        guard.start()
        wait_until(lambda: guard.told()["set"], BOOT_S, f"its address is {THERE.guest}: {guard.told()}")
        assert booted.answers(THERE.guest)
        assert not booted.answers(HERE.guest)
        assert guard.told() == {"why": "", "set": True}

        booted.domain.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
        wait_until(lambda: booted.starts == [by_seed] * 2, BOOT_S, f"it boots again, with that seed: {booted.starts}")
        wait_until(lambda: guard.told()["set"], BOOT_S, f"its address is {THERE.guest}: {guard.told()}")
        assert booted.answers(THERE.guest)
        halt(guard.threads[0])
        arrived.communicate()
