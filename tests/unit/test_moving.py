"""The steps of a planned migration and of maintenance, over minions that answer what a table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnha.errors import DeadlineError, InputError, UnreachableError
from mnha.master import migration
from mnha.master.minions import Reply

NODES = ["node1", "node2", "node3"]
LEASE = {"epoch": 7, "holder": "node1", "phase": "held"}
PLAN = {
    "vm": "mnvm",
    "lease": LEASE,
    "desired": "started",
    "order": ["node3", "node2"],
    "rejected": {"node1": "holds the lease that is being lost"},
    "prefer": [],
    "together": {"mnvm": "node3"},
    "alive": NODES,
}
MOVED = {"message": "moved", "epoch": 8, "timeline": {"migrating_s": 1.0}}


class Minions:
    """Answers each function with what the table says: a value, a failed Reply, or an error to raise. Minions of
    `silent` nodes answer nothing.
    """

    def __init__(self, *silent: str, **answers: Any) -> None:
        self.silent, self.quorum = silent, True
        self.answers: dict[Any, Any] = {
            "mnvm.plan": PLAN,
            "consul_ha.kv_list": {"vms/mnvm/lease": LEASE, "vms/mnvm/desired": {"run": "started"}},
            "consul_ha.kv_put": True,
            "consul_ha.kv_delete": True,
            "mnvm.record": "key",
            "guard.fit": {"node": "node3", "why": ""},
            "guard.migrate": MOVED,
            "guard.status": {"vms": {"mnvm": {"vm": "running", "sentence": ""}}},
            **{name.replace("__", "."): answer for name, answer in answers.items()},
        }
        self.calls: list[tuple[str, str, dict[str, Any]]] = []

    def one(self, node: str, fun: str, kwarg: Any = None, timeout_s: float = 5.0) -> Reply:
        self.calls.append((node, fun, dict(kwarg or {})))
        if node in self.silent:
            raise UnreachableError(f"the minion of {node} does not answer")
        answer = self.answers[fun]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(node, answer, True)

    def first(self, nodes: Any, fun: str, kwarg: Any = None, timeout_s: float = 5.0) -> Reply:
        return self.one([node for node in nodes if node not in self.silent][-1], fun, kwarg, timeout_s)

    def heard(
        self, nodes: Any, fun: str, kwarg: Any = None, timeout_s: float = 5.0,
        good: Callable[[Reply], bool] = lambda reply: reply.ok,
    ) -> dict[str, Reply]:  # fmt: skip
        assert fun == "consul_ha.quorum"
        return {node: Reply(node, self.quorum, True) for node in nodes if node not in self.silent}

    def called(self, fun: str) -> list[tuple[str, dict[str, Any]]]:
        return [(node, kwarg) for node, name, kwarg in self.calls if name == fun]


def test_without_a_node_the_best_candidate_gets_it_and_the_holder_is_ordered() -> None:
    ask = Minions()
    outcome = migration.migrate(ask, NODES, None, "", "root@m1")
    ((node, order),) = ask.called("guard.migrate")
    assert (node, order["target"], order["vm"]) == ("node1", "node3", "mnvm")
    assert (outcome.ok, outcome.done, outcome.node) == (True, True, "node3")
    ((_, record),) = ask.called("mnvm.record")
    assert (record["event"], record["vm"]) == ("migrated", "mnvm")


def test_a_target_that_finds_itself_unfit_at_this_moment_is_sent_nothing() -> None:
    """Its record, by which it was chosen, is some seconds old."""
    ask = Minions(guard__fit={"node": "node3", "why": "/opt/smp is not the cluster's share"})
    outcome = migration.migrate(ask, NODES, None, "node3", "root@m1")
    assert (outcome.ok, ask.called("guard.migrate"), ask.called("guard.fit")) == (
        False,
        [],
        [("node3", {"vm": "mnvm"})],
    )
    assert outcome.text == ("mnvm stays on node1: node3 can't take it now: /opt/smp is not the cluster's share")


@pytest.mark.parametrize("silence", [Reply("node3", "no function guard.fit", False), DeadlineError("no answer")])
def test_a_target_that_can_not_say_whether_it_is_fit_decides_by_itself(silence: object) -> None:
    assert migration.migrate(Minions(guard__fit=silence), NODES, None, "node3", "root@m1").ok


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("a rejected node", "node2", {"order": ["node3"], "rejected": {"node2": "is lost"}}, "node2 is lost"),
    ("nobody fits", "", {"order": [], "rejected": {"node2": "is lost"}}, "no other node can take it: node2 is lost"),
    ("it is released", "node2", {"lease": {"epoch": 7, "holder": "", "phase": "released"}}, "runs on no node"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "changes", "words"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_it_is_not_ordered_where_it_can_not_be(target: str, changes: dict[str, Any], words: str) -> None:
    ask = Minions(mnvm__plan={**PLAN, **changes})
    outcome = migration.migrate(ask, NODES, None, target, "root@m1")
    assert not outcome.ok
    assert words in outcome.text
    assert ask.called("guard.migrate") == []


def test_to_where_it_is_nothing_is_done_and_an_unknown_node_is_an_error() -> None:
    ask = Minions()
    outcome = migration.migrate(ask, NODES, None, "node1", "root@m1")
    assert (outcome.ok, outcome.done) == (True, False)
    assert ask.called("guard.migrate") == []
    with pytest.raises(InputError, match="node9 is no node"):
        migration.migrate(ask, NODES, None, "node9", "root@m1")


@pytest.mark.parametrize(
    "answer", [Reply("node1", "refused: busy", False), DeadlineError("too long"), UnreachableError("silent")]
)
def test_what_went_wrong_is_told_and_recorded(answer: Any) -> None:
    ask = Minions(guard__migrate=answer)
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert not outcome.ok
    assert "was not migrated from node1 to node2" in outcome.text
    assert [record["event"] for _, record in ask.called("mnvm.record")] == ["migration failed"]


def test_a_lost_answer_of_a_migration_that_was_done_is_no_failure() -> None:
    plans = [PLAN, {**PLAN, "lease": {"epoch": 8, "holder": "node2", "phase": "held"}}]
    ask = Minions(guard__migrate=UnreachableError("closed"), mnvm__plan=plans)
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert (outcome.ok, outcome.node) == (True, "node2")
    assert "was migrated from node1 to node2, epoch 8" in outcome.text


@pytest.mark.parametrize(
    ("alive", "words"),
    [
        (NODES, "its minion is silent, and a migration is ordered through it; run `systemctl start salt-minion` there"),
        (["node2", "node3"], "the node is down, by Consul's word"),
    ],
    ids=["its minion is silent", "it is dead"],
)
def test_a_holder_that_nothing_can_be_ordered_from_is_told_and_not_waited_for(alive: list[str], words: str) -> None:
    ask = Minions("node1", mnvm__plan={**PLAN, "alive": alive})
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert not outcome.ok
    assert outcome.text.startswith(f"mnvm stays on node1: {words}")
    assert ask.called("guard.migrate") == []
    assert [node for node, fun, _ in ask.calls if node == "node1"] == ["node1"], "one ping"


def seen(**changes: Any) -> dict[str, Any]:
    """What Consul shows of a VM that went on at node2."""
    return {"outcome": "running", "holder": "node2", "told": {"came_by": "migration"}, **changes}


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (seen(), "was migrated from node1 to node2, epoch 8"),
        (seen(told={"came_by": "start"}), "but there the VM was started anew, from its disk"),
        (seen(outcome="timeout", told={"state": "degraded"}), "does not run by its record: degraded"),
    ],
)
def test_what_becomes_of_it_at_a_target_whose_minion_is_silent_is_told_by_consul(told: Any, words: str) -> None:
    ask = Minions("node2", mnvm__follow=told)
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert outcome.ok == words.startswith("was migrated")
    assert words in outcome.text
    assert [node for node, _, _ in ask.calls if node == "node2"] == []


def test_a_vm_that_does_not_run_where_its_lease_went_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "RESUME_WAIT_S", 0.0)
    monkeypatch.setattr(migration, "POLL_S", 0.0)
    ask = Minions(guard__status={"vms": {"mnvm": {"vm": "off", "sentence": "it is starting"}}})
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert not outcome.ok
    assert "went from node1 to node2, but there the VM is off: it is starting" in outcome.text


def test_a_vm_that_had_to_be_started_anew_was_not_migrated() -> None:
    """As when the target could not resume what had come: the guest's memory is lost, though the lease moved."""
    ask = Minions(guard__status={"vms": {"mnvm": {"vm": "running", "sentence": "", "came_by": "start"}}})
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert not outcome.ok
    assert "but there the VM was started anew, from its disk" in outcome.text
    assert [kwarg["event"] for _, kwarg in ask.called("mnvm.record")] == ["migration failed"]


def test_a_holder_is_marked_only_after_its_vm_has_left() -> None:
    ask = Minions()
    outcome = migration.maintenance(ask, NODES, "node1", True, "root@m1", "new memory")
    assert outcome.ok
    order = [fun for _, fun, _ in ask.calls]
    assert order.index("guard.migrate") < order.index("consul_ha.kv_put")
    ((_, put),) = ask.called("consul_ha.kv_put")
    assert (put["key"], put["value"]["by"], put["value"]["reason"]) == ("maintenance/node1", "root@m1", "new memory")


def test_a_holder_whose_vm_stays_is_not_marked_unless_forced() -> None:
    stays = Reply("node1", "failed: no way", False)
    ask = Minions(guard__migrate=stays)
    outcome = migration.maintenance(ask, NODES, "node1", "on", "root@m1")
    assert not outcome.ok
    assert "no way" in outcome.text
    assert ask.called("consul_ha.kv_put") == []
    forced = Minions(guard__migrate=stays)
    assert migration.maintenance(forced, NODES, "node1", "on", "root@m1", force=True).ok
    assert len(forced.called("consul_ha.kv_put")) == 1


TWO = {"vms/mnvm/lease": LEASE, "vms/big/lease": {**LEASE, "epoch": 3}}


def test_all_vms_of_a_node_are_placed_before_the_first_one_leaves_and_each_goes_to_its_place() -> None:
    plan = {**PLAN, "together": {"big": "node2", "mnvm": "node3", "else": "node2"}}
    runs = {"vm": "running", "sentence": ""}
    ask = Minions(consul_ha__kv_list=TWO, mnvm__plan=[plan, {**plan, "vm": "big", "order": ["node2"]}, *[plan] * 3],
                  guard__status={"vms": {"mnvm": runs, "big": runs}})  # fmt: skip
    assert migration.maintenance(ask, NODES, "node1", "on", "root@m1").ok
    assert [(order["vm"], order["target"]) for _, order in ask.called("guard.migrate")] == [
        ("big", "node2"), ("mnvm", "node3"),
    ]  # fmt: skip
    assert [("alone" in kwarg) for _, kwarg in ask.called("mnvm.plan")][:3] == [False, True, True]


def test_a_node_whose_vms_do_not_all_find_a_place_is_not_left_by_one_of_them() -> None:
    plan = {**PLAN, "together": {"big": "node2", "mnvm": ""}}
    ask = Minions(consul_ha__kv_list=TWO, mnvm__plan=plan)
    outcome = migration.maintenance(ask, NODES, "node1", "on", "root@m1")
    assert not outcome.ok
    assert "nothing was moved" in outcome.text
    assert "mnvm would find no place if all of its VMs left: mnvm, big" in outcome.text
    assert ask.called("guard.migrate") == ask.called("consul_ha.kv_put") == []


def test_another_node_is_marked_and_nothing_moves() -> None:
    ask = Minions()
    assert migration.maintenance(ask, NODES, "node2", "on", "root@m1").ok
    assert ask.called("guard.migrate") == []


@pytest.mark.parametrize(
    ("prefer", "comes_back"), [([], False), (["node2"], True), (["node1", "node2"], False), (["node2", "node1"], True)]
)
def test_after_maintenance_it_comes_back_only_where_that_is_preferred(prefer: list[str], comes_back: bool) -> None:
    ask = Minions(mnvm__plan={**PLAN, "prefer": prefer})
    assert migration.maintenance(ask, NODES, "node2", False, "root@m1").ok
    assert ask.called("consul_ha.kv_delete")[0][1] == {"key": "maintenance/node2"}
    assert [order["target"] for _, order in ask.called("guard.migrate")] == (["node2"] if comes_back else [])


def test_only_on_and_off_are_understood() -> None:
    with pytest.raises(InputError, match="on or off, not 'maybe'"):
        migration.maintenance(Minions(), NODES, "node2", "maybe", "root@m1")
    with pytest.raises(InputError, match="'node9' is no node"):
        migration.maintenance(Minions(), NODES, "node9", "on", "root@m1")


def test_the_last_candidate_goes_into_maintenance_with_a_warning() -> None:
    outcome = migration.maintenance(Minions(), NODES, "node2", "on", "root@m1")
    assert outcome.warnings == []
    outcome = migration.maintenance(Minions(mnvm__plan={**PLAN, "order": []}), NODES, "node2", "on", "root@m1")
    assert (outcome.ok, outcome.done) == (True, True)
    assert outcome.warnings == ["mnvm: no candidate is left: if its node fails, no other takes it over"]


def test_without_a_quorum_that_is_what_is_said() -> None:
    """And not that the minions are silent, which wait for a leader."""
    ask = Minions()
    ask.quorum = False
    with pytest.raises(UnreachableError, match="node1 finds no quorum of Consul; .*: nothing can be migrated"):
        migration.migrate(ask, NODES, None, "", "root@m1")
    for state in ("on", "off"):
        with pytest.raises(UnreachableError, match="node1 finds no quorum of Consul; .*: nothing can be marked"):
            migration.maintenance(ask, NODES, "node2", state, "root@m1")


@pytest.mark.parametrize(
    ("lease", "words"),
    [
        ({"epoch": 0, "holder": "", "phase": "held"}, "mnvm runs on no node: nothing can be migrated"),
        ({}, "mnvm has no lease in Consul: nothing can be migrated; mnha.status tells the remedy"),
    ],
    ids=["before the first start", "the lease is deleted"],
)
def test_what_nobody_holds_is_not_migrated_and_keeps_no_node_from_its_maintenance(
    lease: dict[str, Any], words: str
) -> None:
    values = {"vms/mnvm/lease": lease} if lease else {}
    ask = Minions(mnvm__plan={**PLAN, "lease": lease}, consul_ha__kv_list=values)
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert (outcome.ok, words in outcome.text) == (False, True), outcome.text
    for state in ("on", "off"):
        assert migration.maintenance(ask, NODES, "node1", state, "root@m1").ok
    assert ask.called("guard.migrate") == []


def test_a_dead_holder_is_marked_only_by_force_and_says_why() -> None:
    ask = Minions("node1", mnvm__plan={**PLAN, "alive": ["node2", "node3"]})
    outcome = migration.maintenance(ask, NODES, "node1", "on", "root@m1")
    assert not outcome.ok
    assert "mnvm stays on node1: the node is down, by Consul's word" in outcome.text
    assert migration.maintenance(ask, NODES, "node1", "on", "root@m1", force=True).ok
