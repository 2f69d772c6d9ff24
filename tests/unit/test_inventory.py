"""What a master says when it knows no cluster: why, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import salt.config
import yaml

from mnha.errors import InputError
from mnha.master.inventory import Inventory
from tests.support.example import example_with


class Master:
    """A master's folders, with minions that it has accepted and a pillar for all of them."""

    def __init__(self, folder: Path) -> None:
        self.pillar = folder / "pillar"
        self._minions = folder / "pki/minions"
        for one in (self.pillar, self._minions):
            one.mkdir(parents=True)
        (self.pillar / "top.sls").write_text("base: {'*': [cluster]}")
        self.give("other: 1")
        self._opts: dict[str, Any] = {
            **salt.config.master_config(None), "root_dir": str(folder), "cachedir": str(folder / "cache"),
            "pki_dir": str(folder / "pki"), "pillar_roots": {"base": [str(self.pillar)]},
        }  # fmt: skip

    def give(self, text: str) -> None:
        (self.pillar / "cluster.sls").write_text(text)

    def accept(self, *names: str) -> None:
        for name in names:
            (self._minions / name).write_text("key")

    def asked(self, cluster: str | None) -> str:
        """What it says when it is asked for the nodes of a cluster that it does not know."""
        with pytest.raises(InputError) as raised:
            Inventory(self._opts).nodes(cluster)
        return raised.value.message

    def nodes(self, cluster: str | None) -> tuple[str, list[str]]:
        return Inventory(self._opts).nodes(cluster)


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def test_without_any_minion_it_says_how_to_accept_one(master: Master) -> None:
    assert "this master has accepted no minion: `salt-key -L`" in master.asked(None)
    assert "Accept the nodes' keys (salt-key -a)" in master.asked("example")


def test_without_a_cluster_in_any_pillar_it_says_where_to_assign_one(master: Master) -> None:
    master.accept("node1", "node2")
    assert "accepted are node1, node2: assign the cluster's file to them" in master.asked(None)
    assert "no accepted minion belongs to a cluster 'example'" in master.asked("example")


@pytest.mark.parametrize("cluster", [None, "example"])
def test_a_pillar_that_does_not_render_is_the_reason_with_file_and_line(master: Master, cluster: str | None) -> None:
    master.accept("node1")
    master.give("mnha:\n  cluster: {{ nothing.name }}\n")
    said = master.asked(cluster)
    assert "that of node1 does not render: " in said
    assert f"{master.pillar}/cluster.sls" in said
    assert "'nothing' is undefined; line 2" in said


@pytest.mark.parametrize("cluster", [None, "example"])
def test_a_cluster_that_no_cache_knows_yet_is_found(master: Master, cluster: str | None) -> None:
    master.accept("node1")
    master.give(yaml.safe_dump(example_with({})))
    assert master.nodes(cluster) == ("example", ["node1", "node2", "node3"])
