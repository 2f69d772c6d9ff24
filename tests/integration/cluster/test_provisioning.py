"""The product's own states on real nodes: they can be applied again at any time.

That what they set up is closed is shown in tests/integration/security.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.provision import MASTER, TREE
from tests.support.scene import Scene

LAB_PILLAR = f"{TREE}/pillar/clusters/lab.sls"

States = dict[str, dict[str, Any]]


def apply(cluster: Cluster, target: str, *arguments: str, master: str = MASTER) -> dict[str, Any]:
    """`salt TARGET state.apply …` typed on a master: each node's answer."""
    words = ["salt", "--out=json", "--static", "--timeout=300", target, "state.apply", *arguments]
    done = cluster.run(master, words, timeout_s=400)
    return json.loads(done.stdout[done.stdout.index("{") :])


def failed(states: States) -> list[str]:
    """What failed; a state that could not even be called has no `__id__`."""
    return [
        f"{state.get('__id__', key)}: {state['comment']}" for key, state in states.items() if state["result"] is False
    ]


def changed(states: States) -> dict[str, Any]:
    return {state["__id__"]: state["changes"] for state in states.values() if state["changes"]}


def test_states_applied_again_change_nothing_and_the_mnvm_runs_on(scene: Scene) -> None:
    pid = scene.qemu_pid(scene.holder)
    answers = apply(scene.cluster, "*")
    assert sorted(answers) == scene.cluster.names
    for node, states in answers.items():
        assert isinstance(states, dict), states
        assert (node, failed(states)) == (node, [])
        assert (node, changed(states)) == (node, {})
    assert scene.qemu_pid(scene.holder) == pid


def test_any_master_can_apply_the_states(cluster: Cluster) -> None:
    for master in cluster.names[1:]:
        answers = apply(cluster, "*", "states.consul", master=master)
        assert sorted(answers) == cluster.names
        assert [failed(states) for states in answers.values()] == [[], [], []]


def test_a_dry_run_tells_the_changes_and_makes_none(scene: Scene) -> None:
    node = scene.others[0]
    scene.cluster.run(node, ["rm", "/etc/mnha/domains/mnvm.xml"], check=True)
    scene.cluster.run(node, ["virsh", "undefine", "mnvm"], check=True)
    dry = apply(scene.cluster, node, "states.mnvm", "test=True")[node]
    assert list(changed(dry)) == ["mnvm_mnvm"]
    assert [state["result"] for state in dry.values() if state["changes"]] == [None]
    assert scene.cluster.run(node, ["test", "-e", "/etc/mnha/domains/mnvm.xml"]).returncode == 1
    wet = apply(scene.cluster, node, "states.mnvm")[node]
    assert changed(wet).keys() == changed(dry).keys()
    assert failed(wet) == []
    assert changed(apply(scene.cluster, node, "states.mnvm")[node]) == {}


@pytest.mark.nightly
def test_consul_servers_restart_one_after_the_other_and_the_mnvm_runs_on(scene: Scene) -> None:
    cluster, pid, epoch = scene.cluster, scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    for node in cluster.names:
        cluster.run(node, ["sh", "-c", "echo >> /etc/mnha/consul/server.json"], check=True)
    answers = apply(cluster, "*", "states.consul")
    assert sorted(answers) == cluster.names
    for node, states in answers.items():
        assert (node, failed(states)) == (node, [])
        assert "consul_current" in changed(states)
    started = []
    for node in cluster.names:
        words = ["systemctl", "show", "consul", "--property=ActiveEnterTimestampMonotonic", "--value"]
        started.append(int(cluster.run(node, words, check=True).stdout) / 1e6)
    started.sort()
    assert min(later - earlier for earlier, later in itertools.pairwise(started)) > 5.0
    assert scene.qemu_pid(scene.holder) == pid
    assert scene.status(scene.holder)["lease"]["epoch"] == epoch


def test_a_wrong_pillar_is_told_in_full_and_nothing_is_applied(cluster: Cluster) -> None:
    good = cluster.file(MASTER, LAB_PILLAR).read_text()
    mark = "/etc/mnha/domains/mnvm.xml"
    assert good.count("watchdog: automatic") == good.count("cpus: 1") == 1
    cluster.run(MASTER, ["rm", mark], check=True)
    try:
        bad = good.replace("watchdog: automatic", "watchdog: sometimes").replace("cpus: 1", "cpus: one")
        cluster.write_file(MASTER, LAB_PILLAR, bad)
        answer = apply(cluster, MASTER)[MASTER]
        assert isinstance(answer, list), "the run must end before the first state"
        text = "\n".join(answer)
        assert text.count("mnha:cluster:watchdog") == text.count("mnha:cluster:vms:mnvm:cpus") == 1
        assert cluster.run(MASTER, ["test", "-e", mark]).returncode == 1
    finally:
        cluster.write_file(MASTER, LAB_PILLAR, good)
        assert failed(apply(cluster, MASTER)[MASTER]) == []
    assert cluster.run(MASTER, ["test", "-e", mark]).returncode == 0


def test_consul_never_removes_a_server_on_its_own(cluster: Cluster) -> None:
    words = ["salt-call", "--out=json", "consul_ha.autopilot_present", "test=True"]
    for node in cluster.names:
        assert json.loads(cluster.run(node, words, check=True).stdout)["local"] == {}


def test_no_service_logs_that_its_score_for_the_oom_killer_can_not_be_lowered(cluster: Cluster) -> None:
    """As it is in containers: then it is not lowered, which is no error."""
    for node in cluster.names:
        words = ["journalctl", "--boot", "--no-pager", "-o", "cat", "-u", "mnha-guard", "-u", "consul"]
        lines = cluster.run(node, words, check=True).stdout.splitlines()
        assert lines
        assert [line for line in lines if "oom" in line.lower() or "I/O error" in line] == []


@pytest.mark.parametrize("verb", ["mnha.status", "mnha.version"])
def test_salt_run_prints_its_answer_and_nothing_else(cluster: Cluster, verb: str) -> None:
    done = cluster.run(MASTER, ["salt-run", "--out=json", verb])
    assert (done.returncode, done.stderr) == (0, "")
    assert CLUSTER_NAME in json.loads(done.stdout)


def test_a_second_bootstrap_changes_nothing(cluster: Cluster) -> None:
    words = ["salt-run", "--out=json", "mnha.bootstrap", CLUSTER_NAME]
    sums = ["sh", "-c", "find /etc/mnha/secrets -type f | sort | xargs sha256sum"]
    before = cluster.run(MASTER, sums, check=True).stdout
    done = cluster.run(MASTER, words, check=True)
    assert json.loads(done.stdout)[CLUSTER_NAME]["created"] == []
    for node in cluster.names:
        assert cluster.run(node, sums, check=True).stdout == before
