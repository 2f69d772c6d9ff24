"""What a status tells of the pillar: what this master wants beside what is in force, and what each node was given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mnha import config
from mnha.master import report, wanted
from tests.support.example import example_pillar, example_with
from tests.unit.test_report import NODES, one_report, summed

MORE = {"timings": "fast", "announce_s": 1.0, "watchdog": "off", "storage_lost_after_s": 0}


def mapping(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return config.load(example_with(changes or {})).to_mapping()


def recorded(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """As Consul has it."""
    applied = config.Applied(3, config.load(example_with(changes or {})))
    return dict(json.loads(config.applied_to_json(applied)))


def test_nothing_is_told_where_all_is_the_same() -> None:
    assert wanted.notes(example_pillar(), recorded(), {node: mapping() for node in NODES}) == []


def test_a_changed_pillar_is_told_before_it_is_applied_and_not_after() -> None:
    changed = {"vms:mnvm:memory_mib": 16384}
    (told,) = wanted.notes(example_with(changed), recorded(), {node: mapping() for node in NODES})
    assert told == ("the pillar on this master differs from what is in force (vms:mnvm:memory_mib): state.apply through"
                    " this master puts the pillar in force, `salt-run mnha.config_rollback 3` writes what is in force"
                    " into the pillar")  # fmt: skip
    assert wanted.notes(example_with(changed), recorded(changed), {node: mapping(changed) for node in NODES}) == []


def test_a_node_that_was_not_given_what_is_in_force_is_named() -> None:
    given = {"node1": mapping({"timings": "fast"}), "node2": mapping({"timings": "fast"}), "node3": mapping()}
    (told,) = wanted.notes(example_with({"timings": "fast"}), recorded({"timings": "fast"}), given)
    assert told == "node3: what was applied there last differs from what is in force (timings): state.apply"


def test_at_most_three_keys_are_named() -> None:
    (told,) = wanted.notes(example_with(MORE), recorded(), {})
    assert "(timings, watchdog, announce_s and 1 more)" in told


def test_what_an_older_version_has_recorded_is_the_same_if_it_means_the_same() -> None:
    older = recorded()
    del older["cluster"]["storage_lost_after_s"]
    assert wanted.notes(example_pillar(), older, {}) == []


@pytest.mark.parametrize(
    ("pillar", "record", "given", "words"),
    [
        (example_with({"watchdog": "sometimes"}), recorded(), {}, "the pillar on this master is wrong"),
        ({"_errors": ["Rendering SLS 'all' failed"]}, recorded(), {}, "the pillar on this master is wrong"),
        (example_pillar(), {"v": 2, "version": 3, "cluster": {}}, {}, "what was applied last can't be read"),
        (example_pillar(), recorded(), {"node2": {"name": "x"}}, "node2: what was applied there last differs"),
    ],
)
def test_what_can_not_be_compared_is_told(pillar: Any, record: Any, given: Any, words: str) -> None:
    (told,) = wanted.notes(pillar, record, given)
    assert words in told


def test_the_status_tells_it_and_it_is_no_fault() -> None:
    asked = []

    def compare(record: Any, given: Any) -> list[str]:
        asked.append((record, given))
        return ["the pillar differs"]

    reports = {node: one_report(node) for node in NODES}
    assert summed(**reports, compare=compare)["warnings"] == ["the pillar differs"]
    assert summed(**reports, compare=compare)["code"] == report.HEALTHY
    one = reports["node1"]
    assert asked[0] == (one["applied"], dict.fromkeys(NODES, one["config"]))
