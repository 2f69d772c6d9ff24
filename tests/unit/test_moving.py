"""The steps of a planned migration and of maintenance, over minions that answer what a table says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnha.errors import DeadlineError, FailedError, InputError, UnreachableError
from mnha.master import migration
from mnha.master.migration import How
from mnha.master.minions import Reply, Watch

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
            "consul_ha.kv_get": {"value": {"by": "root@m1"}, "index": 7},
            "consul_ha.kv_put": True,
            "consul_ha.kv_delete": True,
            "mnvm.record": "key",
            "guard.fit": {"node": "node3", "why": ""},
            "mnvm.cpu": None,
            "guard.migration": {"node": "node1", "migration": {"percent": 42, "outcome": ""}},
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

    def watched(self, node: str, fun: str, kwarg: Any, timeout_s: float, watch: Watch | None) -> Reply:
        """One look, and then the answer."""
        if watch:
            watch.tell(self.one(node, watch.fun, watch.kwarg).value)
        return self.one(node, fun, kwarg, timeout_s)

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


KVM = {"cpu": "<cpu/>", "arch": "x86_64", "kind": "kvm"}


def test_a_target_whose_cpu_can_not_go_on_with_the_guest_is_sent_nothing_and_another_way_is_told() -> None:
    lacks = "Host CPU does not provide required features: avx2"
    ask = Minions(mnvm__cpu=KVM, mnvm__cpu_objection=lacks)
    outcome = migration.migrate(ask, NODES, None, "node3", "root@m1")
    assert not outcome.ok
    assert outcome.text == (
        "mnvm stays on node1: node3 has another CPU, and the running guest could not go on there:"
        f" {lacks}; offline=True shuts it down and starts it there"
    )
    assert (ask.called("mnvm.cpu"), ask.called("guard.migrate")) == ([("node1", {"vm": "mnvm"})], [])
    assert ask.called("mnvm.cpu_objection") == [("node3", {"wanted": KVM})]


@pytest.mark.parametrize(
    ("cpu", "objection"),
    [
        (KVM, ""),
        (None, "is not asked"),
        (Reply("node1", "no function mnvm.cpu", False), "is not asked"),
        (KVM, Reply("node3", "libvirtd does not answer", False)),
        (KVM, DeadlineError("no answer")),
    ],
    ids=["fits", "is emulated", "is not known", "is not compared", "is not answered"],
)
def test_a_cpu_that_fits_or_of_which_nobody_knows_is_no_obstacle(cpu: Any, objection: Any) -> None:
    ask = Minions(mnvm__cpu=cpu, mnvm__cpu_objection=objection)
    assert migration.migrate(ask, NODES, None, "node3", "root@m1").ok


class Shown:
    """What was shown of a migration."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, source: str, target: str) -> None:
        self.told.append((source, target))

    def show(self, told: Any) -> None:
        self.told.append(told["migration"]["percent"])

    def end(self, *, arrived: bool) -> None:
        self.told.append(arrived)


@pytest.mark.parametrize(("answer", "arrived"), [(MOVED, True), (Reply("node1", "failed: no way", False), False)])
def test_how_far_it_is_is_shown_from_its_begin_to_its_end(answer: Any, arrived: bool) -> None:
    shown = Shown()
    migration.migrate(Minions(guard__migrate=answer), NODES, None, "node2", "root@m1", How(show=shown))
    assert shown.told == [("node1", "node2"), 42, arrived]


FIGURES = {"downtime_ms": 61, "stopped_at": 1000.0}


@pytest.mark.parametrize(
    ("figures", "resumed_at", "downtime_s"),
    [
        (FIGURES, 1000.25, 0.25),
        (FIGURES, 1000.05, 0.061),
        (FIGURES, 999.0, 0.061),
        (FIGURES, 1060.0, 0.061),
        (FIGURES, None, 0.061),
        ({"stopped_at": 1000.0}, 1000.25, 0.25),
        ({"stopped_at": None, "downtime_ms": None}, 1000.25, None),
        (None, 1000.25, None),
    ],
    ids=["both clocks", "shorter than libvirt's", "before it was stopped", "longer than all took", "by libvirt",
         "by clocks alone", "nobody says", "no figures"],
)  # fmt: skip
def test_how_long_the_guest_stood_still_is_told_by_clocks_that_agree_else_by_libvirt(
    figures: Any, resumed_at: float | None, downtime_s: float | None
) -> None:
    assert migration.downtime_s(figures, {"resumed_at": resumed_at}, took_s=3.0) == downtime_s


def test_answer_and_history_have_how_long_it_took_and_how_long_the_guest_stood_still() -> None:
    figures = {"outcome": "done", "sent_mib": 140, "downtime_ms": 61, "stopped_at": None}
    ask = Minions(guard__migrate={**MOVED, "migration": figures})
    outcome = migration.migrate(ask, NODES, None, "node2", "root@m1")
    assert outcome.text.startswith("mnvm was migrated from node1 to node2, epoch 8, in 0.0 s")
    assert outcome.text.endswith("; its guest stood still for 0.06 s")
    told = outcome.to_dict()
    assert (told["downtime_s"], told["took_s"], told["epoch"]) == (0.061, 0.0, 8)
    ((_, record),) = ask.called("mnvm.record")
    assert (record["downtime_s"], record["took_s"], record["figures"]) == (0.061, 0.0, figures)


@pytest.mark.parametrize(("offline", "way"), [(False, "migrated, live"), (True, "shut down, and started there")])
def test_what_is_only_to_be_told_is_checked_and_not_done(offline: bool, way: str) -> None:
    ask = Minions()
    outcome = migration.migrate(ask, NODES, None, "", "root@m1", How(offline=offline, test=True))
    assert (outcome.ok, outcome.done) == (True, False)
    assert outcome.text == f"mnvm would be moved from node1 to node3: {way}"
    assert ask.called("guard.fit")
    assert {fun for _, fun, _ in ask.calls} & {"guard.migrate", "guard.release", "mnvm.record"} == set()
    unfit = Minions(guard__fit={"why": "no bridge"})
    assert not migration.migrate(unfit, NODES, None, "", "root@m1", How(offline=offline, test=True)).ok


# ---- shut down, and started there

FREE = {**PLAN, "lease": {"epoch": 7, "holder": "", "phase": "released"}, "order": ["node2", "node1", "node3"],
        "sentence": "node2 (…)"}  # fmt: skip
ENDED = {"message": "gone", "ended": {"text": "the guest shut down by itself after 3.1 s, asked through its agent"}}
RUNS = {"result": "ok", "epoch": 8}


def offline(ask: Minions, target: str = "node3") -> Any:
    return migration.migrate(ask, NODES, None, target, "root@m1", How(offline=True))


def test_offline_its_holder_shuts_it_down_and_then_the_target_starts_it() -> None:
    ask = Minions(mnvm__plan=[PLAN, FREE], guard__release=ENDED, guard__takeover=RUNS)
    outcome = offline(ask)
    assert (outcome.ok, outcome.done, outcome.node, outcome.epoch) == (True, True, "node3", 8)
    assert outcome.text.startswith("mnvm was moved from node1 to node3, epoch 8, in ")
    assert outcome.text.endswith(": the guest shut down by itself after 3.1 s, asked through its agent")
    assert [node for node, _ in ask.called("guard.release")] == ["node1"]
    ((node, order),) = ask.called("guard.takeover")
    assert (node, order["epoch"]) == ("node3", 7)
    assert ask.called("mnvm.cpu") == ask.called("guard.migrate") == ask.called("mnvm.set_desired") == []
    assert [record["event"] for _, record in ask.called("mnvm.record")] == ["moved"]


def test_offline_a_target_that_can_not_start_it_is_told_and_another_node_has_it() -> None:
    failed = {"result": "failed", "message": "node3 could not start the VM: no such bridge"}
    again = {**FREE, "lease": {"epoch": 8, "holder": "", "phase": "released"}, "order": ["node1", "node2"]}
    ask = Minions(mnvm__plan=[PLAN, FREE, again], guard__release=ENDED, guard__takeover=[failed, {**RUNS, "epoch": 9}])
    outcome = offline(ask)
    assert (outcome.ok, outcome.done, outcome.node, outcome.epoch) == (False, True, "node1", 9)
    assert outcome.text == (
        "mnvm was shut down on node1, and node3 did not start it (failed: node3 could not start the VM: no such"
        " bridge): it runs on node1 again"
    )


def test_offline_what_nobody_starts_is_said_to_be_off_and_still_wanted() -> None:
    failed = {"result": "failed", "message": "no"}
    plans = [PLAN, FREE, *({**FREE, "order": []} for _ in NODES)]
    outcome = offline(Minions(mnvm__plan=plans, guard__release=ENDED, guard__takeover=failed))
    assert (outcome.ok, outcome.node) == (False, "")
    assert "and no node has started it yet: mnvm was not taken over: node3: failed: no" in outcome.text
    assert "it is to run, so that the guards go on trying" in outcome.text


def test_offline_a_holder_that_does_not_give_it_back_keeps_it() -> None:
    ask = Minions(mnvm__plan=[PLAN, PLAN], guard__release=Reply("node1", "refused: node1 is busy", False))
    outcome = offline(ask)
    assert (outcome.ok, outcome.done, ask.called("guard.takeover")) == (False, False, [])
    assert (
        outcome.text == "mnvm was not moved, node1 still has its lease: node1: refused: node1 is busy; see mnha.status"
    )


def test_offline_a_lost_answer_of_a_holder_that_gave_it_back_is_no_obstacle() -> None:
    ask = Minions(mnvm__plan=[PLAN, FREE], guard__release=DeadlineError("no answer"), guard__takeover=RUNS)
    assert offline(ask).ok


def test_offline_where_nobody_can_say_what_became_of_it_that_is_said() -> None:
    ask = Minions(mnvm__plan=[PLAN, UnreachableError("gone")], guard__release=ENDED)
    outcome = offline(ask)
    assert not outcome.ok
    assert "what became of it nobody could say: gone; it is to run" in outcome.text


def test_offline_a_target_whose_minion_is_silent_is_refused_before_anything_is_done() -> None:
    """The start is ordered through it; else the VM would be shut down for nothing."""
    ask = Minions("node3")
    outcome = offline(ask)
    assert not outcome.ok
    assert "the minion of node3 is silent, and the start is ordered through it" in outcome.text
    assert ask.called("guard.release") == []
    ask = Minions("node3", mnvm__plan=[PLAN, FREE], guard__release=ENDED, guard__takeover=RUNS)
    assert offline(ask, target="").node == "node2"


# ---- aborted


def test_an_abort_goes_to_the_holder_and_tells_what_its_guard_says() -> None:
    ask = Minions(guard__migrate_abort={"message": "the migration of mnvm to node2 is aborted"})
    outcome = migration.abort(ask, NODES, None)
    assert (outcome.ok, outcome.text) == (True, "the migration of mnvm to node2 is aborted")
    assert ask.called("guard.migrate_abort") == [("node1", {"vm": "mnvm"})]


def test_a_rehearsed_abort_tells_what_is_under_way_and_aborts_nothing() -> None:
    under_way = {"migration": {"target": "node2", "outcome": "", "percent": 42}}
    ask = Minions(guard__migration=under_way)
    outcome = migration.abort(ask, NODES, None, test=True)
    assert (outcome.ok, outcome.done) == (True, False)
    assert "to node2, 42 % of it sent, would be aborted" in outcome.text
    for found in (None, {"target": "node2", "outcome": "done", "percent": 100}):
        outcome = migration.abort(Minions(guard__migration={"migration": found}), NODES, None, test=True)
        assert (outcome.ok, outcome.text) == (False, "no migration of mnvm away from node1 is under way")
    assert ask.called("guard.migrate_abort") == []


@pytest.mark.parametrize(
    ("last", "is_told"),
    [
        ({"outcome": "done", "target": "node1", "ended_s_ago": 2.4}, True),
        ({"outcome": "done", "target": "node1", "ended_s_ago": 900.0}, False),
        ({"outcome": "done", "target": "node3", "ended_s_ago": 2.4}, False),
        ({"outcome": "failed", "target": "node1", "ended_s_ago": 2.4}, False),
        (None, False),
    ],
    ids=["just now", "long ago", "to another node", "failed", "none"],
)
def test_whoever_aborts_what_was_handed_over_a_moment_ago_is_told_so(last: Any, is_told: bool) -> None:
    refused = Reply("node1", "refused: no migration of mnvm away from node1 is under way", False)
    ask = Minions("node3", guard__migrate_abort=refused, guard__migration={"node": "node2", "migration": last})
    with pytest.raises(FailedError) as raised:
        migration.abort(ask, NODES, None)
    words = "; node2 has handed it over 2 s ago: `salt-run mnha.migrate node2` brings it back"
    assert raised.value.message.endswith(words) is is_told


def test_what_can_not_be_aborted_is_a_failure_with_the_reason() -> None:
    refused = Reply("node1", "refused: no migration of mnvm away from node1 is under way", False)
    with pytest.raises(FailedError, match="no migration of mnvm away from node1 is under way"):
        migration.abort(Minions(guard__migrate_abort=refused), NODES, None)
    nobody = {**PLAN, "lease": {"epoch": 7, "holder": "", "phase": "released"}}
    outcome = migration.abort(Minions(mnvm__plan=nobody), NODES, None)
    assert (outcome.ok, outcome.text) == (False, "mnvm runs on no node: there is no migration to abort")
    silent = Minions("node1")
    outcome = migration.abort(silent, NODES, None)
    assert not outcome.ok
    assert "its minion is silent" in outcome.text
    assert silent.called("guard.migrate_abort") == []


@pytest.mark.parametrize("offline", [False, True])
def test_what_speaks_against_a_live_migration_speaks_not_against_a_start(offline: bool) -> None:
    """A guest without its seed starts, but QEMU can't go on without a disk that it has."""
    ask = Minions(guard__fit={"why": "", "live": "its guest's seed is missing there"})
    outcome = migration.migrate(ask, NODES, None, "node3", "root@m1", How(offline=offline, test=True))
    assert outcome.ok is offline, outcome.text
    assert offline or "node3 can't take it now: its guest's seed is missing there" in outcome.text


@pytest.mark.parametrize("verb", ["migrate", "maintenance"])
def test_the_best_node_that_says_of_itself_that_it_can_have_it_gets_it(verb: str) -> None:
    ask = Minions(guard__fit=[{"why": "no bridge"}, {"why": ""}])
    if verb == "migrate":
        assert migration.migrate(ask, NODES, None, "", "root@m1").ok
    else:
        assert migration.maintenance(ask, NODES, "node1", "on", "root@m1").ok
    assert [node for node, _ in ask.called("guard.fit")] == ["node3", "node2"]
    assert [order["target"] for _, order in ask.called("guard.migrate")] == ["node2"]


def test_where_nobody_can_have_it_each_says_why() -> None:
    outcome = migration.migrate(Minions(guard__fit={"why": "no bridge"}), NODES, None, "", "root@m1")
    assert not outcome.ok
    for node in ("node2", "node3"):
        assert f"{node} can't take it now: no bridge" in outcome.text


def test_of_a_source_that_dies_is_told_who_has_the_vm_by_then() -> None:
    dead = UnreachableError("the minion of node1 does not answer any more, for 20 s")
    ask = Minions(guard__migrate=dead, mnvm__plan=[PLAN, {**PLAN, "lease": {**LEASE, "holder": "node2", "epoch": 9}}])
    outcome = migration.migrate(ask, NODES, None, "node3", "root@m1")
    assert (outcome.ok, outcome.node) == (False, "node2")
    assert "was not migrated from node1 to node3; node2 has its lease now, epoch 9: the minion of node1" in outcome.text


@pytest.mark.parametrize("silence", [Reply("node3", "no function guard.fit", False), DeadlineError("no answer")])
def test_a_target_that_can_not_say_whether_it_is_fit_decides_by_itself(silence: object) -> None:
    assert migration.migrate(Minions(guard__fit=silence), NODES, None, "node3", "root@m1").ok


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("a rejected node", "node2", {"order": ["node3"], "rejected": {"node2": "is lost"}},
     "node2 is lost; node3 could have it"),
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


def test_to_where_it_is_it_is_refused_in_libvirts_words_and_an_unknown_node_is_an_error() -> None:
    """As the old suite did."""
    ask = Minions()
    outcome = migration.migrate(ask, NODES, None, "node1", "root@m1")
    assert (outcome.ok, outcome.done) == (False, False)
    assert outcome.text.startswith("Requested operation is not valid: domain 'mnvm' is already active")
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


def test_what_is_not_in_maintenance_does_not_leave_it() -> None:
    ask = Minions(consul_ha__kv_get=None)
    outcome = migration.maintenance(ask, NODES, "node2", "off", "root@m1")
    assert (outcome.ok, outcome.done, outcome.text) == (True, False, "node2 was not in maintenance")
    assert ask.called("consul_ha.kv_delete") == ask.called("mnvm.record") == []


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
