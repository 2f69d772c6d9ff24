"""`test=True` of the verbs as they are typed: each tells what it would do, exits by whether it could, and nothing of
what the cluster holds is other than before.

Never is a removal ordered in earnest here: these minions have this machine's own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CHANGING = ("vms/mnvm/desired", "maintenance/", "history/", "masters/", "config", "actions/")
"""What verbs write."""


def held(world: Any) -> dict[str, Any]:
    return {key: value for prefix in CHANGING for key, value in world.get(prefix).items()}


def secrets(world: Any) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (world.folder / "secrets").rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "code", "comment"),
    [
        (["start"], 0, "desired of mnvm would be started (it is stopped), and node"),
        (["stop"], 0, "desired of mnvm would be stopped (it is stopped); no node has its lease"),
        (["maintenance", "node2", "on"], 0, "node2 would be in maintenance; it has no VM"),
        (["maintenance", "node2", "off"], 0, "node2 would be a candidate again; every VM would stay where it is"),
        (["maintenance", "node9", "on"], 1, "'node9' is no node of the cluster"),
        (["accept_disk"], 0, "mnvm would be started from its image again"),
        (["reset_password"], 1, "mnvm runs nowhere"),
        (["bootstrap", "example"], 0, "0 secrets would be made in "),
        (["bootstrap", "example", "renew_tokens=True"], 0, "9 secrets would be made in "),
    ],
)
def test_of_a_vm_that_is_stopped(world: Any, words: list[str], code: int, comment: str) -> None:
    before, kept = held(world), secrets(world)
    found, told = world.run_json(f"mnha.{words[0]}", *words[1:], "test=True")
    assert (found, told["result"]) == (code, code == 0), told
    assert comment in told["comment"]
    assert held(world) == before
    assert secrets(world) == kept
    assert [guard.orders for guard in world.guards.guards.values()] == [[], [], []]


@pytest.mark.parametrize(
    ("words", "code", "comment"),
    [
        (["start"], 0, "node1 has its lease, and would run it on"),
        (["stop"], 0, "node1 would shut it down"),
        (["accept_disk"], 1, "mnvm may be running: it has to be off"),
        (["adopt_share", "node2"], 1, "mnvm is held by node1: its share is the cluster's"),
        (["adopt_share", "node1"], 0, "what node1 has mounted would be the cluster's share"),
    ],
)
def test_of_a_vm_that_runs(world: Any, running: None, words: list[str], code: int, comment: str) -> None:
    before = held(world)
    found, told = world.run_json(f"mnha.{words[0]}", *words[1:], "test=True")
    assert (found, told["result"]) == (code, code == 0), told
    assert comment in told["comment"]
    assert held(world) == before
    assert [guard.orders for guard in world.guards.guards.values()] == [[], [], []]


def test_an_installation_tells_all_that_is_missing_and_does_nothing(world: Any) -> None:
    before = held(world)
    code, told = world.run_json("mnha.install", "test=True")
    assert code == 1
    assert told["comment"] == "2 faults on node1, node2, node3: nothing was done"
    for lines in told["faults"].values():
        image, bridge = lines
        assert "the image of mnvm, is not there" in image
        assert "there is no bridge br_mgmt" in bridge
    assert held(world) == before


def test_a_removal_without_the_word_removes_nothing_and_is_a_failure(world: Any, running: None) -> None:
    before = {key: value for key, value in held(world).items() if not key.startswith("history/")}
    code, told = world.run_json("mnha.uninstall")
    assert (code, told["result"], told["faults"]) == (1, False, {})
    assert told["comment"].startswith("nothing")  # was removed, or is left: that is this machine's
    assert {key: value for key, value in held(world).items() if not key.startswith("history/")} == before
    assert world.guards.guards["node1"].vm == "running"
