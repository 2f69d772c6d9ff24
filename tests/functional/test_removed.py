"""The states by which everything is removed from a node, in a folder in place of the node: what a dry run tells is what
a run removes, a second one finds nothing, and what is not this project's stays.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.example import ROOT
from tests.support.local_salt import LocalSalt

STATES = ROOT / "salt/states/removed"
TOPS = ("usr", "etc", "opt", "var", "run")
SERVICES = """
import os
FOLDER = {folder!r}
def offline(): return False
def available(name): return status(name)
def missing(name): return False
def status(name, sig=None): return os.path.exists(FOLDER + name)
def enabled(name, **kwargs): return status(name)
def disabled(name): return not status(name)
def get_all(): return []
def stop(name, **kwargs): os.unlink(FOLDER + name); return True
def disable(name, **kwargs): return True
def show(name): return {{}}
"""
"""In place of systemd: a service runs if there is a file of its name."""
VMS = """
import os
FILE = {file!r}
def define(): pass
def undefine_all(test=False):
    there = os.path.exists(FILE)
    if there and not test: os.unlink(FILE)
    return ["mnvm"] if there else []
"""
GUARD = "def vms_here(): return {alive!r}\ndef current(): pass\ndef create_lease(): pass\ndef status(): pass\n"
PILLAR = {"mnha": {"cluster": {"consul": {"source": {"kind": "repository"}}}}}
RUNNING = ("mnha-guard", "mnha-fencer", "consul", "libvirtd-tls.socket")
MINION = """\
master: [node2]
id: node1
beacons_before_connect: True
beacons:
  node_liveness:
    - interval: 1
  mnvm_health:
    - cluster: example
"""
LIBVIRTD = '#log_level = 3\nca_file = "/etc/mnha/libvirt/cacert.pem"\nhost_uuid = "4"\nmax_clients = 20\n'
STAYS = {
    "etc/mnha/secrets/example/ca.pem", "etc/salt/minion.d/mnha.conf", "etc/libvirt/libvirtd.conf", "usr/lib/mnha/stamp",
    "usr/lib/mnha/restart-when-idle", "usr/lib/mnha/network-back", "var/lib/mnha/given.json", "etc/hosts",
}  # fmt: skip


class Node:
    """A node below a folder, with all that the states put on one, and its Salt."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.roots = folder, folder / "node", folder / "roots"
        self.domain = folder / "domain"
        for sls in STATES.glob("*.sls"):
            self.write(self.roots / "states/removed" / sls.name, self.below(sls.read_text()))
        self.write(self.roots / "_modules/service.py", SERVICES.format(folder=f"{folder}/runs-"))
        self.write(self.roots / "_modules/mnvm.py", VMS.format(file=str(self.domain)))
        self.write(self.roots / "_modules/guard.py", GUARD.format(alive=[]))
        self.salt = LocalSalt(folder / "salt", PILLAR, (self.roots,))
        assert self.salt.here("saltutil.sync_all")

    def below(self, text: str) -> str:
        """A file of states for the folder: without the package, the user and systemd of this machine."""
        text = re.sub(r"removed_consul_(package|user):\n(  .*\n)*", "", text)
        text = text.replace("systemctl try-restart libvirtd", "echo tried").replace(
            "systemctl daemon-reload", "echo read"
        )
        text = re.sub(rf"(?<![A-Za-z0-9.])/({'|'.join(TOPS)})/", rf"{self.root}/\1/", text)
        assert "pkg." not in text
        assert "user." not in text
        return text

    def write(self, path: Path, text: str, mode: int = 0o644) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def fill(self) -> None:
        """All that is to be removed, and what is to stay."""
        shutil.rmtree(self.root, ignore_errors=True)
        states = "".join(path.read_text() for path in STATES.glob("*.sls"))
        for path in re.findall(rf"'/((?:{'|'.join(TOPS)})/\S+)'", states):
            self.write(self.root / path, "x")
        for path in STAYS:
            self.write(self.root / path, "x")
        self.write(self.root / "etc/salt/minion.d/mnha.conf", MINION)
        self.write(self.root / "etc/libvirt/libvirtd.conf", LIBVIRTD)
        self.write(
            self.root / "usr/lib/mnha/restart-when-idle", f"#!/bin/sh\necho $* >>{self.folder}/restarted\n", 0o755
        )
        self.write(self.root / "etc/systemd/system/libvirt-guests.service", "")
        self.write(self.root / "var/lib/mnha/consul/raft.db", "x")
        for name in RUNNING:
            (self.folder / f"runs-{name}").touch()
        self.domain.touch()

    def apply(self, *, test: bool) -> dict[str, dict[str, Any]]:
        states = self.salt.here("state.apply", "states.removed", test=test)
        assert isinstance(states, dict), states
        return {one["__id__"]: one for one in states.values()}

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(tmp_path_factory.mktemp("node"))


def changing(states: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, one in states.items() if one["changes"] or one["result"] is None}


def test_a_dry_run_tells_what_a_run_removes_and_what_is_not_ours_stays(node: Node) -> None:
    node.fill()
    before = node.files()
    told = node.apply(test=True)
    assert {one["result"] for one in told.values()} <= {True, None}, told
    assert node.files() == before
    assert node.domain.exists()
    done = node.apply(test=False)
    assert {name: one["comment"] for name, one in done.items() if one["result"] is not True} == {}
    assert changing(told) == changing(done)
    assert node.files() == STAYS
    assert not node.domain.exists()
    assert [path.name for path in node.folder.glob("runs-*")] == []
    assert (node.root / "etc/salt/minion.d/mnha.conf").read_text().split() == ["master:", "[node2]", "id:", "node1"]
    assert (node.root / "etc/libvirt/libvirtd.conf").read_text() == (
        '#log_level = 3\n#ca_file = "/etc/mnha/libvirt/cacert.pem"\n#host_uuid = "4"\nmax_clients = 20\n'
    )
    assert (node.folder / "restarted").read_text() == "salt-minion\n"
    assert changing(node.apply(test=False)) == set(), "nothing is left to be removed"


def test_a_node_on_which_a_vm_runs_is_left_alone(node: Node) -> None:
    node.fill()
    before = node.files()
    node.write(node.roots / "_modules/guard.py", GUARD.format(alive=["mnvm"]))
    node.salt.here("saltutil.sync_all")
    try:
        states = node.apply(test=False)
    finally:
        node.write(node.roots / "_modules/guard.py", GUARD.format(alive=[]))
        node.salt.here("saltutil.sync_all")
    assert "mnvm runs on this node" in states["removed_no_vm_runs"]["comment"]
    assert node.files() == before
    assert sorted(path.name for path in node.folder.glob("runs-*")) == sorted(f"runs-{name}" for name in RUNNING)
