"""A run of states makes its pillar the configuration in force, unless another master's came first."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.example import ROOT, example_with

FAST, SLOW = {"timings": "fast"}, {"announce_s": 1.0}


class Consul:
    """Records with indexes; `before_cas` happens once, before the next write of the configuration, and what `before`
    has for the number of a step (how many questions and writes there were) before that step."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.index: dict[str, int] = {}
        self.before_cas: Callable[[], Any] = lambda: None
        self.before: dict[int, Callable[[], Any]] = {}
        self.steps = 0
        self.pruned = 0

    def step(self) -> None:
        self.steps += 1
        self.before.pop(self.steps, lambda: None)()

    def get(self, key: str, consistent: bool = False) -> Any:
        self.step()
        return {"value": self.records[key], "index": self.index[key]} if key in self.records else None

    def list(self, prefix: str) -> dict[str, Any]:
        self.step()
        return {key: value for key, value in self.records.items() if key.startswith(prefix)}

    def put(self, key: str, value: Any) -> bool:
        self.records[key], self.index[key] = value, self.index.get(key, 0) + 1
        return True

    def cas(self, key: str, value: Any, index: int) -> bool:
        self.step()
        if key == "config":
            self.before_cas, happens = (lambda: None), self.before_cas
            happens()
        return self.index.get(key, 0) == index and self.put(key, value)

    def prune(self, prefix: str, keep: int) -> int:
        self.pruned = keep
        return 0


class Node:
    """A node's execution module, in a run of states of one master's pillar."""

    def __init__(self, consul: Consul, node: str, master: str, changes: dict[str, Any] | None = None) -> None:
        spec = importlib.util.spec_from_file_location("config_module", ROOT / "salt/_modules/mnha_config.py")
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        pillar = {**example_with(changes or {}), **({"mnha_given_by": master} if master else {})}
        vars(self.module).update(
            __opts__={"id": node}, __pillar__=pillar, __context__={},
            __salt__={"consul_ha.kv_get": consul.get, "consul_ha.kv_list": consul.list, "consul_ha.kv_put": consul.put,
                      "consul_ha.kv_cas": consul.cas, "consul_ha.kv_prune": consul.prune},
        )  # fmt: skip

    def record(self, test: bool = False) -> Any:
        return self.module.record(test=test)

    def follows(self, test: bool = False) -> Any:
        return self.module.follows(test=test)


@pytest.fixture
def consul() -> Consul:
    """The example's configuration is in force as version 1, by master node1, which the others' masters follow."""
    consul = Consul()
    assert Node(consul, "node1", "node1").record() == {"version": {"old": None, "new": 1}}
    for node in ("node2", "node3"):
        assert Node(consul, node, "node1").record() == {}
        assert Node(consul, node, "node1").follows() == {node: {"old": None, "new": 1}}
    return consul


def test_a_changed_pillar_is_the_next_version_and_each_is_kept(consul: Consul) -> None:
    assert Node(consul, "node2", "node1", FAST).record() == {"version": {"old": 1, "new": 2}}
    assert Node(consul, "node1", "node1", FAST).record() == {}
    assert [key for key in consul.records if key.startswith("versions/")] == ["versions/00000001", "versions/00000002"]
    assert consul.records["config"]["by"] == "state.apply through master node1"
    assert consul.records["config"]["at_s"] > 1.7e9
    assert consul.pruned == 200


def test_a_dry_run_tells_it_and_writes_nothing(consul: Consul) -> None:
    before = dict(consul.records)
    assert Node(consul, "node2", "node1", FAST).record(test=True) == {"version": {"old": 1, "new": 2}}
    assert Node(consul, "node2", "node2").record(test=True) == {}
    assert consul.records == before


def test_a_second_master_with_another_pillar_is_refused_with_the_difference(consul: Consul) -> None:
    Node(consul, "node1", "node1", FAST).record()
    refused = Node(consul, "node2", "node2", SLOW).record()
    assert "master node2 was last in force as version 1; version 2 is in force" in refused["refused"]
    assert "timings: 'fast' → 'default'" in refused["refused"]
    assert Node(consul, "node2", "node2", SLOW).record(test=True) == refused
    assert consul.records["config"]["version"] == 2


def test_of_two_masters_at_once_one_is_refused(consul: Consul) -> None:
    consul.before_cas = lambda: Node(consul, "node1", "node1", FAST).record()
    assert "refused" in Node(consul, "node2", "node2", SLOW).record()
    assert consul.records["config"]["cluster"]["timings"] == "fast"


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_nodes_of_one_run_that_do_it_at_once_are_all_right(consul: Consul, step: int) -> None:
    """Whatever the second has asked and written when the first does all of it: the fourth step is the write."""
    consul.before = {consul.steps + step: lambda: Node(consul, "node1", "node1", FAST).record()}
    assert Node(consul, "node2", "node1", FAST).record() == {}
    assert not consul.before
    assert consul.records["config"]["version"] == 2


def test_a_master_that_got_the_tree_may_go_on_from_there(consul: Consul) -> None:
    Node(consul, "node2", "node1", FAST).record()
    assert Node(consul, "node2", "node1", FAST).follows(test=True) == {"node2": {"old": 1, "new": 2}}
    assert Node(consul, "node2", "node1", FAST).follows() == {"node2": {"old": 1, "new": 2}}
    assert Node(consul, "node2", "node1", FAST).follows() == {}
    assert Node(consul, "node3", "node2", {**FAST, **SLOW}).record() == {"version": {"old": 2, "new": 3}}
    assert "refused" in Node(consul, "node3", "node3").record(), "it was away"


def test_a_master_whose_pillar_became_the_one_in_force_otherwise_may_go_on(consul: Consul) -> None:
    Node(consul, "node1", "node1", FAST).record()
    assert Node(consul, "node3", "node3", FAST).record() == {}
    assert Node(consul, "node3", "node3", {**FAST, **SLOW}).record() == {"version": {"old": 2, "new": 3}}


def test_what_an_older_version_of_this_program_recorded_may_be_changed_by_anybody() -> None:
    consul = Consul()
    Node(consul, "node1", "").record()
    assert Node(consul, "node2", "node2", FAST).record() == {"version": {"old": 1, "new": 2}}


def test_without_the_module_that_asks_consul_it_can_not_be_asked() -> None:
    node = Node(Consul(), "node1", "node1")
    node.module.__salt__.clear()
    with pytest.raises(CommandExecutionError, match="not loaded"):
        node.record()
