"""What is looked at before an installation: the nodes, and what the old suite's file can't say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnha import config
from mnha.errors import ConfigurationError
from mnha.master import given_file, installing
from mnha.master.minions import Reply
from mnha.oldsuite import sample
from tests.support.example import example_with

NODES = ["node1", "node2", "node3"]
IMAGE = "/opt/smp/mngt/mnvm.img"


def cluster(changes: dict[str, Any] | None = None) -> config.ClusterConfig:
    return config.load(example_with(changes or {}))


class Minions:
    """Nodes by what lies on them: path -> content; one whose path is None hangs there."""

    def __init__(self, **changes: dict[str, str | None]) -> None:
        there = {IMAGE: "", "/sys/class/net/br_mgmt/bridge": "", "/sys/class/net/br_mgmt/operstate": "up\n"}
        self.nodes: dict[str, dict[str, str | None]] = {node: {**there, **changes.get(node, {})} for node in NODES}

    def each(self, nodes: Any, fun: str, kwarg: Any = None, timeout_s: float = 0) -> dict[str, Reply]:
        return {node: reply for node in nodes if node in self.nodes and (reply := self.answer(node, fun, kwarg or {}))}

    def answer(self, node: str, fun: str, kwarg: dict[str, Any]) -> Reply | None:
        if fun == "test.ping":
            return Reply(node, True, True)
        content = self.nodes[node].get(kwarg["path"], "absent")
        if content is None:
            return None
        if fun in ("file.file_exists", "file.directory_exists"):
            return Reply(node, content != "absent", True)
        assert fun == "file.read"
        return Reply(node, "No such file" if content == "absent" else content, content != "absent")


def faults(minions: Minions, changes: dict[str, Any] | None = None) -> dict[str, list[str]]:
    return installing.faults(minions, NODES, cluster(changes))  # type: ignore[arg-type]


def test_where_all_is_there_nothing_is_told() -> None:
    assert faults(Minions()) == {}


def test_all_that_is_missing_is_told_at_once_node_by_node() -> None:
    minions = Minions(
        node1={IMAGE: "absent"},
        node2={"/sys/class/net/br_mgmt/bridge": "absent", "/sys/class/net/br_mgmt/operstate": "absent"},
        node3={"/sys/class/net/br_mgmt/operstate": "down\n", IMAGE: None},
    )
    found = faults(minions)
    assert found == {
        "node1": [f"{IMAGE}, the image of mnvm, is not there: mount the share, and copy the image into it"],
        "node2": ["there is no bridge br_mgmt: make it, or let the states do so (docs/networks.md)"],
        "node3": [
            f"{IMAGE} could not be looked at within 12 s: does the share hang?",
            "br_mgmt has no link: is what lies below it connected, and up?",
        ],
    }
    assert installing.alike(found) == 4


@pytest.mark.parametrize(
    ("having", "told"), [((), set()), (("node3",), {"node3"}), (("node1", "node2"), set()), (tuple(NODES), set())]
)
def test_one_node_with_the_records_of_a_cluster_that_is_gone_is_a_fault(
    having: tuple[str, ...], told: set[str]
) -> None:
    """As one that was away when everything was removed. Two of three are what a third one joins."""
    minions = Minions(**{node: {installing.CONSUL_DATA: ""} for node in having})
    found = faults(minions)
    assert set(found) == told
    assert all(lines == [installing.OLD_DATA] for lines in found.values())


def test_a_silent_minion_is_a_fault() -> None:
    minions = Minions()
    del minions.nodes["node2"]
    assert faults(minions) == {
        "node2": ["its minion does not answer: is salt-minion running there, with this master in its configuration?"]
    }


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"mounts": {"/opt/smp/mngt": {"source": "nfs1:/x"}}}, {"file.directory_exists", "file.read"}),
        ({"networks": {"management": {"device": "eth0", "bridge": "br_mgmt", "prefix": 24}}}, {"file.file_exists"}),
    ],
    ids=["the share", "the bridge"],
)
def test_what_the_states_make_is_not_asked_for(changes: dict[str, Any], left: set[str]) -> None:
    assert {question.fun for question in installing.questions(cluster(changes))} == left


def test_what_the_old_file_can_not_say_is_listed_and_marked_in_a_pillar(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(sample.text("FileConf"))
    given = given_file.read_file(str(path), None)
    lacking = installing.lacking(given.cluster)
    assert [fault.path for fault in lacking] == [
        "mnha:cluster:name",
        *(f"mnha:cluster:nodes:{node}:storage" for node in NODES),
        "mnha:cluster:vms:mnvm:uuid",
        "mnha:cluster:vms:mnvm:image",
    ]
    text = installing.pillar(given.cluster)
    with pytest.raises(ConfigurationError) as error:
        config.load(yaml.safe_load(text))
    assert {fault.path for fault in error.value.faults} == {fault.path for fault in lacking[:4]}, (
        "what is marked is told"
    )
    for number in range(1, 4):
        text = text.replace(f"storage: {installing.WRITE_HERE}", f"storage: 192.168.93.{number}", 1)
    whole = config.load(yaml.safe_load(text.replace(installing.WRITE_HERE, "example")))
    assert whole.vms["mnvm"].cpus == json.loads(sample.text("FileConf"))["CPU"]
    assert str(whole.vms["mnvm"].uuid) != str(given.cluster.vms["mnvm"].uuid), (
        "no two clusters have that of the stand-in"
    )
