"""The state `mnvm.defined`: the domain's file, and the seed with the addresses of its node."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from mnha import config
from mnha.guest import domain, seed
from tests.support.example import ROOT, example_with
from tests.unit.test_guest_networks import BY_NODE


class Node:
    """A node with the state over folders of its own.

    :ivar defined: what was defined in libvirt.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = importlib.util.spec_from_file_location("mnvm_state", ROOT / "salt/_states/mnvm.py")
        assert spec is not None
        assert spec.loader is not None
        self.module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        monkeypatch.setattr(self.module.domain, "SEED_FOLDER", str(folder / "seeds"))
        self.module.FOLDER = folder / "domains"
        self.seed, self.xml = folder / "seeds/mnvm.iso", folder / "domains/mnvm.xml"
        self.defined = ""
        self.configure()

    def configure(self, node: str = "node1", **changes: Any) -> None:
        cluster = config.load(example_with({**BY_NODE, **changes}))
        vars(self.module)["__salt__"] = {
            "mnha_config.domain": lambda vm: domain.render(cluster, vm, node, kvm_works=False),
            "mnha_config.seed": lambda vm: seed.files(cluster, vm, node),
            "mnvm.define": self._define,
        }

    def _define(self, vm: str, xml: str, test: bool) -> list[str]:
        differences = [] if self.defined == xml else ["is not defined"]
        self.defined = self.defined if test else xml
        return differences

    def apply(self, *, test: bool = False) -> tuple[bool | None, set[str]]:
        """What comes of the state: its result, and the names of what it changed, or would."""
        vars(self.module).update(__opts__={"test": test}, __running__={})
        done = self.module.defined("mnvm")
        return done["result"], {Path(name).name for name in done["changes"]}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_a_dry_run_tells_what_would_be_written_and_writes_nothing(node: Node) -> None:
    assert node.apply(test=True) == (None, {"mnvm.iso", "mnvm.xml", "domain"})
    assert not node.seed.exists()
    assert not node.xml.exists()


def test_it_is_written_once_for_everybody_to_read(node: Node) -> None:
    assert node.apply() == (True, {"mnvm.iso", "mnvm.xml", "domain"})
    assert b"172.20.198.10/24" in node.seed.read_bytes()
    assert node.seed.stat().st_mode & 0o777 == 0o644, "QEMU is not root"
    inode = node.seed.stat().st_ino
    assert node.apply() == (True, set())
    assert node.apply(test=True) == (True, set())
    assert node.seed.stat().st_ino == inode


def test_another_address_is_another_seed_in_a_new_file_and_the_same_domain(node: Node) -> None:
    """QEMU goes on with the one that it has open."""
    node.apply()
    with node.seed.open("rb") as opened:
        node.configure("node2")
        assert node.apply() == (True, {"mnvm.iso"})
        assert b"172.20.198.10/24" in opened.read()
    assert b"172.20.200.10/24" in node.seed.read_bytes()
    assert [path.name for path in node.seed.parent.iterdir()] == ["mnvm.iso"]


def test_a_seed_that_is_lost_or_was_changed_is_written_again(node: Node) -> None:
    node.apply()
    for spoil in (node.seed.unlink, lambda: node.seed.write_bytes(b"")):
        spoil()
        assert node.apply() == (True, {"mnvm.iso"})
        assert len(node.seed.read_bytes()) > 0


def test_a_guest_that_is_not_configured_any_more_keeps_the_seed_that_it_may_run_with(node: Node) -> None:
    node.apply()
    node.configure(**{"vms:mnvm:configure_guest": False})
    assert node.apply() == (True, {"mnvm.xml", "domain"})
    assert node.seed.exists()
    assert "mnvm.iso" not in node.xml.read_text()
