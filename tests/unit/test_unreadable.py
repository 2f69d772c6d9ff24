"""Records that somebody wrote by hand such that they can't be read: named, with a remedy, and the others are shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mnha.consul.client import Entry
from mnha.core.lease import first
from mnha.core.timing import PROFILES
from mnha.master import history, unreadable, view

PREFIX = "mnha/example/"
LEASE = json.loads(first(PROFILES["default"]).to_json())
NO_JSON = "it is no JSON (Expecting value: line 1 column 1 (char 0))"


def entries(values: dict[str, Any]) -> list[Entry]:
    return [Entry(PREFIX + key, value, 1) for key, value in values.items()]


def test_what_can_be_read_is_what_it_says() -> None:
    values = {"vms/mnvm/lease": LEASE, "nodes/node1": {"v": 1}, "maintenance/node2": {}}
    assert unreadable.sorted_out(entries(values), PREFIX) == (values, {})


@pytest.mark.parametrize("value", [[1], "x", 3, None, True])
def test_a_record_that_is_no_object_has_no_value_and_a_reason(value: Any) -> None:
    assert unreadable.sorted_out(entries({"nodes/x": value}), PREFIX) == (
        {"nodes/x": None}, {"nodes/x": "it is no JSON object"},
    )  # fmt: skip


def test_a_record_that_is_no_json_keeps_its_reason() -> None:
    broken = Entry(f"{PREFIX}config", None, 1, NO_JSON)
    assert unreadable.sorted_out([broken], PREFIX) == ({"config": None}, {"config": NO_JSON})


@pytest.mark.parametrize(
    ("lease", "why"),
    [
        ({"holder": "node1"}, "it is no lease"),
        ({**LEASE, "seq": "many"}, "it is no lease"),
        ({**LEASE, "v": 2}, "it is of another version than is known here"),
    ],
)
def test_a_lease_has_to_be_one(lease: dict[str, Any], why: str) -> None:
    assert unreadable.sorted_out(entries({"vms/mnvm/lease": lease}), PREFIX)[1] == {"vms/mnvm/lease": why}
    assert unreadable.is_newer(lease) == ("version" in why)


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("maintenance/node2", "`salt-run mnha.maintenance node2 off`"),
        ("nodes/node2", "its guard writes that of a node anew"),
        ("history/1", "`salt NODE consul_ha.kv_delete history/1` on any node removes it"),
        ("config", "`state.apply` writes it anew"),
        ("share", "`salt-run mnha.adopt_share NODE`"),
        ("vms/mnvm/last_start", "the VM's next start writes it anew"),
        ("vms/mnvm/disk", "`salt-run mnha.accept_disk`"),
    ],
)
def test_each_is_told_with_its_remedy(key: str, remedy: str) -> None:
    (told,) = unreadable.told({key: "it is no JSON object"})
    assert told.startswith(f"the record {key} in Consul can't be read: it is no JSON object; ")
    assert remedy in told


def test_a_vms_lease_and_desired_state_are_told_with_what_it_means_for_the_vm() -> None:
    faults = {"vms/mnvm/lease": "a", "vms/mnvm/desired": "b", "vms/mnvm/disk": "c", "vms/other/lease": "d"}
    assert unreadable.of_vm("mnvm", faults) == {"lease": "a", "desired": "b", "disk": "c"}
    assert len(unreadable.told(faults)) == 1


def test_a_node_whose_maintenance_can_not_be_read_is_in_maintenance_as_for_the_guards() -> None:
    found = view.view_of({"maintenance/node2": None, "nodes/node2": None}, [], (), {"maintenance/node2": "x"})
    assert found["maintenance"] == {"maintenance/node2": {}}
    assert found["unreadable"] == {"maintenance/node2": "x"}


def test_an_entry_of_the_history_that_can_not_be_read_says_so_before_all_others() -> None:
    well = {"at": "2026-01-01T00:00:00", "text": "node1 took it"}
    found = history.readable({"history/9": None, "history/1": well}, {"history/9": "it is no JSON object"})
    newest = history.newest(found, 5)
    assert newest[1] == well
    assert "history/9 in Consul can't be read" in newest[0]["text"]
    assert history.newest(found, 1) == [well]
