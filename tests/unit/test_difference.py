"""Where two configurations differ, when that takes effect, and whose pillar may change what is in force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from mnha import config
from mnha.config import claims
from mnha.config.difference import differences, places
from tests.support.configurations import pillars
from tests.support.example import example_with

NETWORKS = "vms:mnvm:networks:0"


def cluster(**changes: Any) -> config.ClusterConfig:
    return config.load(example_with({key.replace("__", ":"): value for key, value in changes.items()}))


def told(old: Any, new: Any) -> list[str]:
    return [str(one) for one in differences(old, new)]


def test_each_place_is_told_with_both_values() -> None:
    assert told({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3, "d": "x"}}) == ["b:c: 2 → 3", "b:d: none → 'x'"]
    assert told({"vms": {"mnvm": {}, "second": {"cpus": 4}}}, {"vms": {"mnvm": {}}}) == [
        "vms:second: {'cpus': 4} → none"
    ]


def test_lists_of_mappings_are_compared_one_by_one_if_they_are_as_long() -> None:
    assert told({"n": [{"a": 1}, {"a": 2}]}, {"n": [{"a": 1}, {"a": 3}]}) == ["n:1:a: 2 → 3"]
    assert told({"n": [{"a": 1}]}, {"n": [{"a": 1}, {"a": 3}]}) == ["n: [{'a': 1}] → [{'a': 1}, {'a': 3}]"]
    assert told({"n": ["a"]}, {"n": ["b"]}) == ["n: ['a'] → ['b']"]
    assert told({"n": []}, {"n": []}) == []


@settings(max_examples=60, deadline=None)
@given(pillars(), pillars())
def test_they_are_the_same_exactly_if_there_is_no_difference(one: dict[str, Any], other: dict[str, Any]) -> None:
    old, new = config.load(one), config.load(other)
    assert (old == new) == (places(old, new) == "")
    assert places(old, config.load(one)) == ""


@pytest.mark.parametrize(
    ("path", "value", "when"),
    [
        ("timings", "fast", "now"),
        ("vms:mnvm:memory_mib", 16384, "start"),
        ("vms:mnvm:stop_timeout_s", 60, "now"),
        (f"{NETWORKS}:bridge", "br9", "start"),
        (f"{NETWORKS}:address", "172.20.198.11", "guest"),
        ("vms:mnvm:dns", ["172.20.198.53"], "guest"),
        ("vms:mnvm:configure_guest", False, "start"),
        ("vms:mnvm:uuid", "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c12", "never"),
        ("nodes:node1:storage", "192.168.93.33", "never"),
        ("name", "other", "never"),
    ],
)
def test_when_a_change_takes_effect(path: str, value: Any, when: str) -> None:
    before, after = config.load(example_with({})), config.load(example_with({path: value}))
    assert [(one.where, one.when) for one in differences(before.to_mapping(), after.to_mapping())] == [(path, when)]


APPLIED = config.Applied(7, cluster(), by="root@node1")
CHANGED = cluster(timings="fast")


@pytest.mark.parametrize(
    ("known", "master"),
    [({}, "node1"), ({"node1": 7}, "node1"), ({"node1": 7, "node2": 6}, "node1"), ({"node1": 6}, "")],
    ids=["none is known", "it has what is in force", "another is behind", "by salt-call --local"],
)
def test_whose_pillar_is_up_to_date_may_change_it(known: dict[str, int], master: str) -> None:
    assert claims.refusal(CHANGED, APPLIED, master, known) == ""


def test_who_is_behind_or_not_known_may_not() -> None:
    behind = claims.refusal(CHANGED, APPLIED, "node2", {"node1": 7, "node2": 6})
    assert "master node2 was last in force as version 6; version 7 is in force, by root@node1" in behind
    assert "timings: 'default' → 'fast'" in behind
    assert "was never in force; version 7" in claims.refusal(CHANGED, APPLIED, "new", {"node1": 7})


def test_who_is_behind_and_has_the_same_changes_nothing() -> None:
    assert claims.refusal(cluster(), APPLIED, "node2", {"node2": 6}) == ""
