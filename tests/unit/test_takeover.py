"""The steps of a failover, over minions that answer what a table says."""

from __future__ import annotations

import pytest

from mnha.errors import DeadlineError, FailedError, UnreachableError
from mnha.master import failover
from mnha.master.minions import Reply

INCIDENT = failover.Incident("mnvm", 7, 1234, 0, "node2", "lease_expired", 99)
PLAN = {
    "needed": True,
    "claimed": True,
    "vm": "mnvm",
    "lease": {"epoch": 7, "holder": "node1", "phase": "held"},
    "desired": "started",
    "order": ["node2", "node3"],
    "rejected": {"node1": "is lost"},
    "sentence": "node2 (…)",
}
OK = {"result": "ok", "message": "", "epoch": 8, "timeline": {"taken_s": 1.0}}


class Minions:
    """Answers from `answers[(node, function)]`: a value, a list of values in turn, or an error to raise. Only those of
    `deaf` nodes do not answer a ping.
    """

    def __init__(self, answers, deaf=()):
        self.answers, self.calls, self.deaf = answers, [], deaf

    def heard(self, nodes, fun, **_):
        assert fun == "test.ping"
        found = {node: Reply(node, True, True) for node in nodes if node not in self.deaf}
        if not found:
            raise UnreachableError("nobody answers")
        return found

    def one(self, node, fun, kwarg=None, timeout_s=5.0):
        self.calls.append((node, fun, dict(kwarg or {})))
        answer = self.answers.get((node, fun), True if fun == "mnvm.record" else UnreachableError(f"{node} is silent"))
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Reply(node, answer, not (isinstance(answer, dict) and answer.get("result", "ok") != "ok"))

    def orders(self):
        return [(node, kwarg["epoch"]) for node, fun, kwarg in self.calls if fun == "guard.takeover"]

    def records(self):
        return [kwarg for _, fun, kwarg in self.calls if fun == "mnvm.record"]


def run(answers, deaf=()):
    minions = Minions({("node2", "mnvm.plan_failover"): PLAN, **answers}, deaf)
    return minions, failover.fail_over(minions, INCIDENT, "m1")


def test_the_first_candidate_takes_it_and_it_is_recorded():
    minions, outcome = run({("node2", "guard.takeover"): OK})
    assert (outcome.ok, outcome.done, outcome.node, outcome.epoch) == (True, True, "node2", 8)
    assert minions.orders() == [("node2", 7)]
    (record,) = minions.records()
    assert (record["event"], record["cause"], record["epoch"], record["master"]) == (
        "failover",
        "lease_expired",
        8,
        "m1",
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (UnreachableError("the minion of node2 does not answer"), "unreachable: the minion"),
        (DeadlineError("did not end"), "timeout: did not end"),
        ({"result": "refused", "message": "node1 has renewed"}, "refused: node1 has renewed"),
        ({"result": "timeout", "message": "over"}, "timeout: over"),
        ("Traceback …", "broken: Traceback"),
    ],
)
def test_the_next_candidate_follows_one_that_does_not(answer, words):
    minions, outcome = run({("node2", "guard.takeover"): answer, ("node3", "guard.takeover"): OK})
    assert outcome.node == "node3"
    assert minions.orders() == [("node2", 7), ("node3", 7)]
    assert words in outcome.tried["node2"]


@pytest.mark.parametrize(
    ("deaf", "ordered"),
    [((), ["node2"]), (("node2",), ["node3"]), (("node3",), ["node2"]), (("node2", "node3"), ["node2"])],
)
def test_a_candidate_whose_minion_is_silent_is_not_waited_for_while_there_is_another(deaf, ordered):
    minions, outcome = run({("node2", "guard.takeover"): OK, ("node3", "guard.takeover"): OK}, deaf)
    assert outcome.done
    assert [node for node, _ in minions.orders()] == ordered


def test_a_silent_candidate_is_ordered_when_the_others_can_not():
    refused = {"result": "refused", "message": "the storage is gone"}
    minions, outcome = run({("node2", "guard.takeover"): OK, ("node3", "guard.takeover"): refused}, ("node2",))
    assert (outcome.done, outcome.node) == (True, "node2")
    assert [node for node, _ in minions.orders()] == ["node3", "node2"]


def test_after_a_failed_start_the_new_epoch_is_ordered():
    advice = {**PLAN, "lease": {"epoch": 8, "holder": "", "phase": "released"}, "order": ["node2", "node3", "node1"]}
    minions, outcome = run({
        ("node2", "guard.takeover"): {"result": "failed", "message": "no memory"},
        ("node2", "mnvm.plan"): advice,
        ("node3", "guard.takeover"): {"result": "failed", "message": "no memory"},
        ("node1", "guard.takeover"): {**OK, "epoch": 9},
    })  # fmt: skip
    assert minions.orders() == [("node2", 7), ("node3", 8), ("node1", 8)]
    assert outcome.node == "node1"


def test_all_refuse_and_that_is_a_failure_with_every_reason():
    refusal = {"result": "refused", "message": "node4 has the lease by now, epoch 8"}
    minions, outcome = run({("node2", "guard.takeover"): refusal, ("node3", "guard.takeover"): refusal})
    assert not outcome.ok
    assert outcome.text.count("refused: node4 has the lease") == 2
    assert minions.records()[0]["event"] == "failover failed"


def test_no_candidate_is_a_failure():
    _, outcome = run(
        {("node2", "mnvm.plan_failover"): {**PLAN, "order": [], "sentence": "no node can take it over (…)"}}
    )
    assert not outcome.ok
    assert "no node can" in outcome.text


def test_a_stopped_vm_is_not_taken_over():
    minions, outcome = run({("node2", "mnvm.plan_failover"): {**PLAN, "desired": "stopped"}})
    assert not outcome.ok
    assert minions.orders() == []


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"needed": False, "why": "the lease has epoch 8 by now"}, "epoch 8"),
        ({"needed": True, "claimed": False, "by": "m2"}, "m2 works on it"),
    ],
)
def test_nothing_to_do_is_ok_but_nothing_was_done(plan, words):
    minions, outcome = run({("node2", "mnvm.plan_failover"): plan})
    assert outcome.ok
    assert not outcome.done
    assert words in outcome.text
    assert [fun for _, fun, _ in minions.calls] == ["mnvm.plan_failover"]


def test_a_reporter_that_fails_or_is_silent_is_an_error():
    with pytest.raises(FailedError, match="no Consul"):
        run({("node2", "mnvm.plan_failover"): "no Consul server can do it"})
    with pytest.raises(UnreachableError, match="silent"):
        run({("node2", "mnvm.plan_failover"): UnreachableError("silent")})


def test_a_history_that_can_not_be_written_does_not_spoil_the_failover():
    _, outcome = run({
        ("node2", "guard.takeover"): OK,
        ("node2", "mnvm.record"): UnreachableError("silent"),
    })  # fmt: skip
    assert outcome.ok
    assert "history could not be written" in outcome.text


REFUSED = {"result": "refused", "message": "an order is being carried out, 3.2 s"}


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({("node2", "mnvm.plan_failover"): {**PLAN, "order": []}}, "no candidate"),
        ({("node2", "mnvm.plan_failover"): {**PLAN, "desired": "stopped"}}, "not desired"),
        ({("node2", "guard.takeover"): REFUSED, ("node3", "guard.takeover"): REFUSED}, "node2 refused, node3 refused"),
        ({("node2", "guard.takeover"): REFUSED}, "node2 refused, node3 unreachable"),
    ],
)
def test_a_failure_has_a_reason_without_what_changes_from_one_time_to_the_next(answers, reason):
    minions, outcome = run(answers)
    assert not outcome.ok
    assert [record["reason"] for record in minions.records()] == [reason]
