"""What a node answers by: what was applied there, not the pillar in the memory of its minion. By Salt's own loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader

from mnha.master.inventory import Inventory
from tests.support.example import ROOT, example_pillar, example_with

Modules = Callable[[dict[str, Any]], Any]


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    """node1's modules, its daemon having a pillar in memory."""
    synced = tmp_path / "extmods"
    synced.mkdir()
    for kind in ("modules", "utils"):
        (synced / kind).symlink_to(ROOT / "salt" / f"_{kind}")

    def load(pillar: dict[str, Any]) -> Any:
        opts = salt.config.minion_config(None)
        opts.update(
            id="node1", root_dir=str(tmp_path), cachedir=str(tmp_path / "cache"), extension_modules=str(synced),
            file_client="local", pillar=pillar, test=False, grains={"id": "node1", "kernel": "Linux"},
            mnha_cluster_file=str(tmp_path / "cluster.json"),
        )  # fmt: skip
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts), context={})

    return load


def applied(modules: Modules, folder: Path, pillar: dict[str, Any]) -> None:
    """What a run of states with that pillar writes down."""
    (folder / "cluster.json").write_text(json.dumps(modules(pillar)["mnha_config.file"]()))


def test_what_was_applied_counts_and_not_the_pillar_in_memory(modules: Modules, tmp_path: Path) -> None:
    applied(modules, tmp_path, example_with({"vms:mnvm:memory_mib": 16384}))
    old = modules(example_pillar())
    assert old["mnvm.config"]()["vms"]["mnvm"]["memory_mib"] == 16384
    assert old["mnha_config.get"]()["cluster"]["vms"]["mnvm"]["memory_mib"] == 8192, "what states ask for"


def test_what_is_applied_while_modules_are_loaded_counts_at_once(modules: Modules, tmp_path: Path) -> None:
    loaded = modules(example_pillar())
    applied(modules, tmp_path, example_pillar())
    assert loaded["mnvm.config"]()["timings"] == "default"
    applied(modules, tmp_path, example_with({"timings": "fast"}))
    assert loaded["mnvm.config"]()["timings"] == "fast"


def test_before_anything_was_applied_the_pillar_counts(modules: Modules) -> None:
    assert modules(example_with({"timings": "fast"}))["mnvm.config"]()["timings"] == "fast"


@pytest.mark.parametrize(
    "pillar", [{}, {"mnha": {"cluster": {}}}, example_with({"watchdog": "sometimes"})], ids=["none", "empty", "wrong"]
)
def test_a_pillar_in_memory_that_is_wrong_or_gone_refuses_nothing(
    modules: Modules, tmp_path: Path, pillar: dict[str, Any]
) -> None:
    applied(modules, tmp_path, example_pillar())
    assert modules(pillar)["mnvm.config"]()["name"] == "example"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"mnha": {"cluster": {"name": "example"}}}'], ids=["empty", "no mapping", "of another version"]
)
def test_a_file_that_can_not_be_used_is_named_with_what_writes_it_anew(
    modules: Modules, tmp_path: Path, text: str
) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(Exception, match=r"(?s)cluster.json can't be used: .*state.apply states.guard writes it anew"):
        modules(example_pillar())["mnvm.config"]()


def test_a_domain_is_defined_for_a_vm_that_is_not_in_force_yet(modules: Modules, tmp_path: Path) -> None:
    """As the states do with a VM that is being added; of the others only what was written down."""
    applied(modules, tmp_path, example_pillar())
    loaded = modules(example_with({"vms:mnvm:domain_type": "qemu"}))
    xml = loaded["mnha_config.domain"]("mnvm")
    assert "<name>mnvm</name>" in xml
    with pytest.raises(Exception, match="example has no VM 'second'; its VMs are mnvm"):
        loaded["mnvm.wanted_xml"]("second")
    with pytest.raises(Exception, match=r"/etc/mnha/domains/mnvm.xml: .*state.apply states.mnvm writes it"):
        loaded["mnvm.wanted_xml"]("mnvm")


def test_a_master_that_is_a_node_knows_the_nodes_that_its_guard_was_given(tmp_path: Path) -> None:
    """Not those of a pillar that it has compiled some time."""
    opts = salt.config.master_config(None)
    guard_file = tmp_path / "guard.json"
    opts.update(cachedir=str(tmp_path), pki_dir=str(tmp_path), mnha_guard_file=str(guard_file))
    guard_file.write_text(json.dumps({"cluster": "example", "nodes": ["node1", "node2", "node3"]}))
    assert Inventory(opts).nodes("example") == ("example", ["node1", "node2", "node3"])
    assert Inventory(opts).nodes(None) == ("example", ["node1", "node2", "node3"])
