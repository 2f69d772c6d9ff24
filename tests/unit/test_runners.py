"""Which functions each runner offers: `salt-run -d mnha` shows what a person types, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
from types import ModuleType
from typing import Any

import pytest

from mnha.errors import UnreachableError
from mnha.master.minions import Reply
from tests.support.example import ROOT

TYPED = {
    "accept_disk",
    "adopt_share",
    "bootstrap",
    "check_config",
    "history",
    "maintenance",
    "migrate",
    "start",
    "status",
    "stop",
    "version",
}
BY_EVENTS = {"claim", "consul_roles", "failover", "prepare"}


def offered(runner: str) -> set[str]:
    tree = ast.parse((ROOT / f"salt/_runners/{runner}.py").read_text(encoding="utf-8"))
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name for name in functions if not name.startswith("_")}


def test_an_operator_sees_the_verbs_and_nothing_that_only_events_run() -> None:
    assert offered("mnha") == TYPED
    assert offered("mnha_policy") == BY_EVENTS


def test_reactor_and_orchestrations_run_only_what_the_runners_offer() -> None:
    known = {f"{runner}.{name}" for runner in ("mnha", "mnha_policy") for name in offered(runner)}
    called = set()
    for path in [*(ROOT / "salt/reactor").glob("*.sls"), *(ROOT / "salt/orch").glob("*.sls")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            word = line.strip().removeprefix("- name:").removeprefix("runner.").strip().partition(":")[0]
            if word.startswith("mnha"):
                called.add(word)
    assert {f"mnha_policy.{name}" for name in BY_EVENTS - {"claim"}} <= called
    assert called <= known


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """The operator's runner, under a name that is not the library's."""
    spec = importlib.util.spec_from_file_location("mnha_runner", ROOT / "salt/_runners/mnha.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["__opts__"] = {"id": "m1"}  # as Salt's loader gives it
    return module


class Minions:
    """All have a quorum, node2 is the first to say so, and some fall silent then."""

    def __init__(self, *silent: str) -> None:
        self.silent, self.asked = silent, list[str]()

    def first(self, nodes: list[str], fun: str, timeout_s: float) -> Reply:
        return Reply("node2", True, True)

    def one(self, node: str, fun: str, kwarg: Any, timeout_s: float) -> Reply:
        self.asked.append(node)
        if node in self.silent:
            raise UnreachableError(f"the minion of {node} does not answer")
        return Reply(node, {"plan": node}, True)


@pytest.mark.parametrize(
    ("silent", "asked"),
    [((), ["node2"]), (("node2",), ["node2", "node1"]), (("node1", "node2"), ["node2", "node1", "node3"])],
)
def test_the_wish_goes_through_the_next_node_when_one_falls_silent(
    runner: ModuleType, silent: tuple[str, ...], asked: list[str]
) -> None:
    minions = Minions(*silent)
    assert runner._desire(minions, ["node1", "node2", "node3"], "started", None) == (asked[-1], {"plan": asked[-1]})
    assert minions.asked == asked


def test_a_wish_that_nobody_confirms_may_have_been_written_all_the_same(runner: ModuleType) -> None:
    with pytest.raises(UnreachableError, match="node2 does not answer.*whether it is written is not known"):
        runner._desire(Minions("node1", "node2", "node3"), ["node1", "node2", "node3"], "stopped", None)
