"""A changed pillar: told before it is applied, used as soon as it is, and old in the memory of every minion."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.example import example_pillar, example_with

from .conftest import NODES, World


def write(world: World, pillar: dict[str, Any], folder: Path | None = None) -> None:
    ((folder or world.salt.root / "pillar") / "all.sls").write_text("#!json\n" + json.dumps(pillar))


def applied(world: World, master: str = "m1") -> None:
    """As `state.apply` ends, on all nodes; nothing is told to the minions' daemons."""
    answers = world.salt.salt(master, "state.apply", "applied")
    assert sorted(answers) == NODES
    for states in answers.values():
        assert [one["comment"] for one in states.values() if not one["result"]] == []


def told(world: World, master: str) -> list[str]:
    return [text for text in world.status(master=master)[1]["warnings"] if "in force" in text]


def with_second() -> dict[str, Any]:
    """The pillar with another VM."""
    first = example_pillar()["mnha"]["cluster"]["vms"]["mnvm"]
    network = {**first["networks"][0], "mac": "52:54:00:5a:01:02", "address": "172.20.198.11"}
    second = {**first, "uuid": "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c12", "image": "second.img", "networks": [network]}
    return example_with({"vms:second": second})


@pytest.fixture
def first(world: World) -> Iterator[World]:
    """The example is in force, and again at the end."""
    applied(world)
    yield world
    write(world, example_pillar())
    applied(world)


def test_a_vm_is_added_and_usable_through_every_master_when_its_apply_has_ended(first: World) -> None:
    world = first
    assert told(world, "m1") == told(world, "m2") == []
    write(world, with_second())
    (text,) = told(world, "m1")
    assert "the pillar on this master differs from what is in force (vms:second)" in text
    assert "has no VM 'second'" in world.salt.salt("m1", "mnvm.plan", "second", target="node2")["node2"]
    applied(world)
    assert told(world, "m1") == told(world, "m2") == []
    for master in ("m1", "m2"):
        for node in NODES:
            assert world.salt.salt(master, "mnvm.plan", "second", target=node)[node]["vm"] == "second"


def test_a_master_hands_out_of_its_tree_what_the_cluster_is_made_of(first: World) -> None:
    (first.salt.root / "pillar/theirs.sls").write_text("password: theirs")
    for node in NODES:
        found = first.salt.salt("m1", "pillar.items", unmask=True, target=node)[node]
        tree = found["mnha_master"]
        assert sorted(tree["pillar_files"]) == ["all.sls", "top.sls"]
        assert tree["pillar_others"] == ["theirs.sls"]
        assert sorted(tree["minion_keys"]) == NODES


def test_what_minions_remember_of_the_pillar_refuses_nothing(first: World) -> None:
    """They have taken a pillar that is wrong by now, as after a `saltutil.refresh_pillar` at the wrong moment."""
    world = first
    write(world, example_with({"watchdog": "sometimes"}))
    world.salt.salt("m1", "saltutil.refresh_pillar", wait=True)
    for node in NODES:
        assert world.salt.salt("m1", "mnvm.plan", target=node)[node]["vm"] == "mnvm"
    (text,) = [text for text in world.status()[1]["warnings"] if "pillar" in text]
    assert text == "the pillar on this master is wrong: `salt-run mnha.check_config` tells all its faults"


def test_a_node_on_which_it_was_not_applied_is_named(first: World) -> None:
    world = first
    write(world, example_with({"timings": "fast"}))
    answers = world.salt.salt("m1", "state.apply", "applied", target="node1,node2")
    assert sorted(answers) == ["node1", "node2"]
    assert told(world, "m1") == [
        "node3: what was applied there last differs from what is in force (timings): state.apply"
    ]
