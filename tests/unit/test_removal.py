"""The way back: when it is refused, what is told of it, and that a node that is away holds nothing up."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mnha.master import removal
from mnha.master.minions import Reply

NODES = ["node1", "node2", "node3"]
ALL, SOME = dict.fromkeys(NODES, True), {"node1": False, "node3": True}


def found(state: str = "off", run: str | None = "stopped", *, quorum: bool = True) -> dict[str, Any]:
    desired = {"run": run} if run else None
    return {"quorum": quorum, "vms": {"mnvm": {"state": state, "desired": desired, "where": "runs on node2"}}}


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (found("running"), "mnvm runs on node2: `salt-run mnha.stop` first"),
        (found("paused"), "mnvm runs on node2: `salt-run"),
        (found("starting", "started"), "mnvm runs on node2"),
        (found("off", "started"), "mnvm is to run: `salt-run mnha.stop` first"),
        (found("lost", "started"), "mnvm is to run"),
        (found("unknown"), "mnvm runs on node2"),
        (found("running", None, quorum=False), "mnvm runs on node2"),
        (found("unknown", None, quorum=False), "Consul has no quorum.*`salt NODE state.apply states.removed`"),
    ],
)
def test_nothing_is_removed_while_a_vm_runs_or_is_to_run_or_nobody_can_say(one: dict[str, Any], words: str) -> None:
    assert re.search(words, removal.obstacle(one, ALL))


@pytest.mark.parametrize(
    ("one", "there"),
    [
        (found(), ALL),
        (found("lost"), ALL),  # whoever had it is dead, and it was stopped since
        ({"quorum": True, "vms": {}}, ALL),  # it was never started
        (found("unknown", None, quorum=False), SOME),
        ({"quorum": False, "vms": {}}, dict.fromkeys(NODES, False)),
    ],
    ids=["stopped", "its node is dead", "no VM yet", "a removal that was not finished", "nothing is left"],
)
def test_what_is_stopped_may_be_removed_and_a_removal_be_finished(one: dict[str, Any], there: dict[str, bool]) -> None:
    assert removal.obstacle(one, there) == ""


class Minions:
    """Nodes that remove what they have; those that are away answer nothing."""

    def __init__(self, away: tuple[str, ...] = (), fails: tuple[str, ...] = ()) -> None:
        self.away, self.fails = away, fails
        self.left = dict.fromkeys(NODES, True)

    def each(
        self, nodes: Any, fun: str, kwarg: Any = None, timeout_s: float = 0, enough: Any = None, gone_s: float = 0.0
    ) -> Any:
        there = [node for node in nodes if node not in self.away]
        if fun == "file.file_exists":
            return {node: Reply(node, self.left[node], True) for node in there}
        assert (fun, kwarg["mods"]) == ("state.apply", "states.removed")
        replies = {node: Reply(node, self._run(node, kwarg["test"]), True, 2.0) for node in there}
        if enough:
            enough(replies, 2.0)
        return replies

    def _run(self, node: str, test: bool) -> dict[str, Any]:
        result = (None if test else True) if self.left[node] else True
        changes = {"removed": "x"} if self.left[node] else {}
        if node in self.fails and not test:
            result, changes = False, {}
        elif not test:
            self.left[node] = False
        return {"file_|-a_|-/etc/x_|-absent": {"name": "/etc/x", "__id__": "a", "comment": "busy", "result": result,
                                                "changes": changes, "__run_num__": 0}}  # fmt: skip


def remove(minions: Minions, *, test: bool = False) -> removal.Removed:
    awake = list(removal.marked(minions, NODES))  # type: ignore[arg-type]
    return removal.remove(minions, NODES, awake, lambda line: None, test=test)  # type: ignore[arg-type]


def test_a_dry_run_removes_nothing_and_tells_the_same() -> None:
    minions = Minions()
    told = remove(minions, test=True)
    assert all(minions.left.values())
    assert told.lines == {node: ["file /etc/x"] for node in NODES} == remove(minions).lines
    assert not any(minions.left.values())


def test_a_node_that_is_away_is_told_and_a_second_removal_completes_it() -> None:
    minions = Minions(away=("node3",))
    done = remove(minions)
    assert (list(done.lines), list(done.faults)) == (["node1", "node2"], ["node3"])
    assert "lab is removed from node1, node2, and not wholly from node3: `salt-run mnha.uninstall yes" in (
        removal.sentence(done, "lab")
    )
    minions.away = ()
    done = remove(minions)
    assert (done.lines, done.faults) == ({"node3": ["file /etc/x"]}, {})
    assert removal.sentence(done, "lab").startswith("lab is removed from node3. What stays: the VMs' images")
    assert removal.sentence(remove(minions), "lab").startswith("nothing was left of lab")


def test_what_fails_on_a_node_is_told() -> None:
    done = remove(Minions(fails=("node2",)))
    assert done.faults == {"node2": ["a: busy"]}
    assert "is removed from node1, node3, and not wholly from node2" in removal.sentence(done, "lab")
