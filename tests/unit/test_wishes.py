"""The steps of a start and of a stop, over minions that answer what a table says: some of them not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnha.errors import MnhaError, UnreachableError
from mnha.master import wishes
from mnha.master.minions import Reply

NODES = ["node1", "node2", "node3"]
HELD = {"epoch": 7, "holder": "node1", "phase": "held"}
FREE = {"epoch": 7, "holder": "", "phase": "released"}
NEVER_TAKEN = {"epoch": 0, "holder": "", "phase": "held"}
PLAN = {
    "vm": "mnvm", "lease": HELD, "desired": "started", "order": ["node2", "node3"],
    "rejected": {"node1": "holds the lease that is being lost"}, "sentence": "node2 (…)",
}  # fmt: skip
TAKEN = {"result": "ok", "epoch": 8, "timeline": {}}


def seen(outcome: str, lease: dict[str, Any], **told: Any) -> dict[str, Any]:
    return {"outcome": outcome, "lease": lease, "holder": "" if lease["phase"] == "released" else lease["holder"],
            "told": told, "still_s": 8.5}  # fmt: skip


class Minions:
    """Answers each function with what the table says: a value, a list of values in turn, or an error to raise. Minions
    of `silent` nodes answer nothing; those of `cut` ones have no quorum.
    """

    def __init__(self, silent: tuple[str, ...] = (), cut: tuple[str, ...] = (), **answers: Any) -> None:
        self.silent, self.cut = silent, cut
        self.answers: dict[str, Any] = {
            "mnvm.set_desired": PLAN,
            "mnvm.plan": PLAN,
            "guard.takeover": TAKEN,
            **{name.replace("__", "."): answer for name, answer in answers.items()},
        }
        self.asked: list[tuple[str, str]] = []
        self.orders: list[dict[str, Any]] = []

    def one(self, node: str, fun: str, kwarg: Any = None, timeout_s: float = 5.0) -> Reply:
        self.asked.append((node, fun))
        if fun == "guard.takeover":
            self.orders.append(dict(kwarg))
        if node in self.silent:
            raise UnreachableError(f"the minion of {node} does not answer")
        answer = self.answers[fun]
        answer = answer.pop(0) if isinstance(answer, list) else answer
        return answer if isinstance(answer, Reply) else Reply(node, answer, True)

    def heard(
        self, nodes: Any, fun: str, kwarg: Any = None, timeout_s: float = 5.0,
        good: Callable[[Reply], bool] = lambda reply: reply.ok,
    ) -> dict[str, Reply]:  # fmt: skip
        assert fun == "consul_ha.quorum"
        found = {node: Reply(node, node not in self.cut, True) for node in nodes if node not in self.silent}
        if not found:
            raise UnreachableError("nobody answers")
        return found

    def nodes_asked(self, fun: str) -> list[str]:
        return [node for node, name in self.asked if name == fun]


def start(minions: Minions) -> Any:
    return wishes.start(minions, NODES, None, "root@m1")


def stop(minions: Minions) -> Any:
    return wishes.stop(minions, NODES, None, "root@m1", 180.0)


@pytest.mark.parametrize("silent", [(), ("node1",), ("node1", "node2")])
def test_a_stop_needs_no_minion_of_the_holder(silent: tuple[str, ...]) -> None:
    minions = Minions(silent, mnvm__follow=seen("off", FREE))
    result = stop(minions)
    assert (result.ok, result.text, result.node) == (True, "mnvm is stopped; it ran on node1", "node1")
    assert {node for node, _ in minions.asked}.isdisjoint(silent)


@pytest.mark.parametrize("lease", [FREE, NEVER_TAKEN], ids=["stopped", "before the first start"])
def test_a_stop_of_what_nobody_runs_asks_nobody_else(lease: dict[str, Any]) -> None:
    minions = Minions(mnvm__set_desired={**PLAN, "lease": lease})
    assert (stop(minions).ok, stop(minions).text) == (True, "mnvm is stopped: no node has its lease")
    assert {fun for _, fun in minions.asked} == {"mnvm.set_desired"}


def test_a_stop_of_a_vm_whose_node_is_dead_says_what_that_means() -> None:
    result = stop(Minions(("node1",), mnvm__follow=seen("expired", HELD)))
    assert result.ok
    assert "node1 has not given its lease back, but nobody has renewed that for 8.5 s" in result.text
    assert "no node starts it" in result.text


@pytest.mark.parametrize(("wish", "other"), [(stop, "started"), (start, "stopped")])
def test_who_is_overruled_says_by_whom(wish: Any, other: str) -> None:
    overruled = {**seen("overruled", HELD, state="running", vm="running"), "desired": {"run": other, "by": "root@m2"}}
    result = wish(Minions(mnvm__follow=overruled))
    assert (result.ok, result.done) == (False, False)
    assert result.text == f"another wish came after this one: desired of mnvm is {other}, by root@m2"


def test_a_stop_that_takes_too_long_tells_what_the_holder_has_recorded() -> None:
    result = stop(Minions(mnvm__follow=seen("timeout", HELD, state="stopping", vm="running")))
    assert not result.ok
    assert result.text == (
        "desired of mnvm is stopped, but node1 still has the lease after 180 s; its record says stopping, VM running"
    )


def test_a_vm_that_was_killed_is_not_told_as_one_that_shut_down() -> None:
    killed = {**seen("off", FREE), "killed": "the guest did not shut down within 120 s"}
    result = stop(Minions(mnvm__follow=killed))
    assert result.ok
    assert result.text == (
        "mnvm is stopped; it ran on node1, and was killed there: the guest did not shut down within 120 s"
    )


@pytest.mark.parametrize(
    ("killed", "more"),
    [("", ""), ("the guest did not shut down within 120 s", " (the guest did not shut down within 120 s)")],
)
def test_a_stop_tells_how_the_guest_ended(killed: str, more: str) -> None:
    ended = "the guest shut down by itself after 3.1 s, asked through its agent"
    result = stop(Minions(mnvm__follow={**seen("off", FREE), "killed": killed, "ended": ended}))
    assert (result.ok, result.text) == (True, f"mnvm is stopped; it ran on node1: {ended}{more}")


def test_what_came_of_it_is_asked_of_the_next_node_when_one_falls_silent() -> None:
    minions = Minions(mnvm__follow=[Reply("node1", "Traceback", False), seen("off", FREE)])
    assert stop(minions).ok
    assert minions.nodes_asked("mnvm.follow") == ["node1", "node2"]
    with pytest.raises(UnreachableError, match="is written, and the guards obey it.*node3: no"):
        stop(Minions(mnvm__follow=Reply("node3", "no", False)))


def test_a_start_of_what_runs_already_is_told_when_it_is_seen_to_run() -> None:
    minions = Minions(("node1",), mnvm__follow=seen("running", HELD, state="running", vm="running"))
    result = start(minions)
    assert (result.ok, result.text) == (True, "mnvm runs on node1, epoch 7")
    assert minions.nodes_asked("guard.takeover") == []


def test_a_start_is_ordered_from_a_node_whose_minion_answers() -> None:
    free = {**PLAN, "lease": FREE, "order": ["node1", "node2", "node3"], "rejected": {}}
    minions = Minions(("node1",), mnvm__set_desired=free, mnvm__plan=free)
    assert start(minions).node == "node2"
    assert minions.nodes_asked("guard.takeover") == ["node2"]


def test_a_start_with_a_dead_holder_orders_the_take_over_and_never_says_that_it_starts_it() -> None:
    minions = Minions(("node1",), mnvm__follow=seen("overdue", HELD))
    result = start(minions)
    assert (result.ok, result.text) == (True, "mnvm runs on node2, epoch 8")
    nobody = {**PLAN, "order": [], "sentence": "no node can take it over (node2: is lost)"}
    result = start(Minions(("node1",), mnvm__follow=seen("overdue", HELD), mnvm__plan=nobody))
    assert not result.ok
    assert result.text == "node1 has the lease and does not renew it; no node can take it over (node2: is lost)"


def test_a_start_while_somebody_else_takes_it_is_over_when_it_runs_there() -> None:
    taken = {**PLAN, "lease": {**HELD, "epoch": 8, "holder": "node3"}}
    refused = {"result": "refused", "message": "node3 has the lease by now"}
    minions = Minions(
        mnvm__follow=[seen("overdue", HELD), seen("running", taken["lease"])], mnvm__plan=[PLAN, taken],
        guard__takeover=refused,
    )  # fmt: skip
    result = start(minions)
    assert (result.ok, result.text) == (True, "mnvm runs on node3, epoch 8")


def test_a_holder_that_does_not_bring_it_up_is_a_failure_with_what_it_has_recorded() -> None:
    result = start(Minions(mnvm__follow=seen("timeout", HELD, state="degraded", vm="paused")))
    assert not result.ok
    assert "node1 has the lease, but the VM does not run there after 60 s: its record says degraded" in result.text
    result = start(Minions(mnvm__follow=seen("timeout", HELD)))
    assert "it has recorded nothing" in result.text


def test_a_start_of_a_vm_that_stands_paused_fails_and_says_who_resumes_it() -> None:
    told = {"state": "paused", "vm": "paused", "paused": {"why": "somebody has suspended it"}}
    result = start(Minions(mnvm__follow=seen("paused", HELD, **told)))
    assert not result.ok
    assert "mnvm is paused there: somebody has suspended it; nobody resumes it but `virsh resume mnvm`" in result.text


def test_the_first_start_after_an_installation_is_ordered_at_once_and_again_when_guards_take_it() -> None:
    """For three seconds they refuse, as they have not seen for long enough that nobody renews it."""
    new = {**PLAN, "lease": {**NEVER_TAKEN, "timings": {"lease_s": 60.0}}, "order": ["node2"]}
    refused = {"result": "refused", "message": "nobody holds the lease, seen renewed 0.4 s ago"}
    minions = Minions(
        mnvm__set_desired=new, mnvm__plan=new, mnvm__follow=seen("free", new["lease"]),
        guard__takeover=[refused, TAKEN],
    )  # fmt: skip
    assert start(minions).text == "mnvm runs on node2, epoch 8"
    assert [fun for _, fun in minions.asked if fun in ("guard.takeover", "mnvm.follow")] == [
        "guard.takeover", "mnvm.follow", "guard.takeover",
    ]  # fmt: skip
    assert [order["wait_s"] for order in minions.orders] == [120.0, 120.0], "its 60 s, and those of a start"


# ---- the wish


class FallsSilent(Minions):
    """All have a quorum, node2 is the first to say so, and some fall silent then."""

    def heard(self, nodes: Any, *args: Any, **kwargs: Any) -> dict[str, Reply]:
        return {node: Reply(node, True, True) for node in ("node2", "node1", "node3")}


@pytest.mark.parametrize(
    ("silent", "asked"),
    [((), ["node2"]), (("node2",), ["node2", "node1"]), (("node1", "node2"), ["node2", "node1", "node3"])],
)
def test_the_wish_goes_through_the_next_node_when_one_falls_silent(silent: tuple[str, ...], asked: list[str]) -> None:
    minions = FallsSilent(silent)
    node, plan, awake = wishes.desire(minions, NODES, "started", None, "root@m1")
    assert (node, plan) == (asked[-1], PLAN)
    assert minions.nodes_asked("mnvm.set_desired") == asked
    assert set(awake) == set(NODES) - set(silent)


def test_a_wish_that_nobody_confirms_may_have_been_written_all_the_same() -> None:
    with pytest.raises(UnreachableError, match="node2 does not answer.*whether it is written is not known"):
        wishes.desire(FallsSilent(("node1", "node2", "node3")), NODES, "stopped", None, "root@m1")


def test_the_wish_goes_through_a_node_with_a_quorum_whoever_answers_first() -> None:
    minions = Minions(cut=("node1", "node2"))
    assert wishes.desire(minions, NODES, "started", None, "root@m1")[0] == "node3"
    with pytest.raises(MnhaError, match="node1 finds no quorum of Consul; .*node3 finds no quorum"):
        wishes.desire(Minions(cut=tuple(NODES)), NODES, "started", None, "root@m1")
