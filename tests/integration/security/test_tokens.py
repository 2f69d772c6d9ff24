"""Consul's tokens: the one that may do everything lies with the masters only; all others can be replaced at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.provision import MASTER
from tests.integration.cluster.test_provisioning import apply, changed, failed
from tests.support import consul_rights
from tests.support.scene import Scene, eventually

from .conftest import SECRETS, Eyes, secrets_of
from .test_consul_rights import ask
from .test_gossip import CONSUL

MANAGEMENT = "management-token"
SELF = [consul_rights.Ask("GET", "/v1/acl/token/self")]


def test_the_management_token_lies_in_the_masters_store_and_in_consul_itself(cluster: Cluster, eyes: Eyes) -> None:
    """Every node of the lab is a master, so each has the store and what Salt keeps of it; none has it beside that."""
    for node in cluster.names:
        found = eyes.files_with(node, [MANAGEMENT], plain=False, skip=("/usr", "/opt"))
        elsewhere = {path for path in found if not path.startswith(MASTERS_OWN)}
        assert f"/{SECRETS}/{MANAGEMENT}" in found
        assert elsewhere == set(), node


MASTERS_OWN = (
    f"/{SECRETS}/",
    "/var/lib/mnha/consul/raft/",  # each of Consul's servers keeps all tokens: whoever is root there has them
    "/var/cache/salt/master/pillar/",  # a master keeps the pillars, and that of a node that is a master has its store
)


def test_the_pillar_of_a_node_does_not_hold_it(cluster: Cluster, eyes: Eyes) -> None:
    for node in cluster.names:
        done = cluster.run(node, ["salt-call", "--out=json", "pillar.get", "mnha_secrets"], timeout_s=60, check=True)
        pillar = json.loads(done.stdout)["local"]
        own = {"certificate", "key", "libvirt_certificate", "libvirt_key", "agent_token", "guard_token", "policy_token"}
        assert set(pillar) == {"ca", "gossip_key", "ceph", *own}
        assert pillar["ceph"] == {}, "no VM's disk is in Ceph here"
        assert MANAGEMENT not in eyes.in_text(done.stdout)


def codes(cluster: Cluster, tokens: dict[str, str]) -> dict[str, int]:
    """What Consul answers to each of the tokens when it asks who it is."""
    (answer,) = ask(cluster, SELF, tokens)
    return {name: code for name, (code, _) in answer.items()}


def node_tokens(cluster: Cluster) -> dict[str, str]:
    return {name: text for name, text in secrets_of(cluster).items() if name.startswith("nodes/") and "-token" in name}


def lay_out_as_before(cluster: Cluster, management: str) -> None:
    """As installations were whose nodes all had the management token in Consul's configuration."""
    for node in cluster.names:
        path = "etc/mnha/consul/secrets.json"
        config: dict[str, Any] = json.loads(cluster.file(node, path).read_text())
        config["acl"]["tokens"]["master"] = management
        cluster.write_file(node, path, json.dumps(config), 0o640)
        cluster.run(node, ["chgrp", "consul", f"/{path}"], check=True)


@pytest.mark.nightly
def test_all_tokens_are_replaced_while_the_mnvm_runs_on(scene: Scene) -> None:
    """On a cluster laid out as before the management token was taken from the nodes: its rest goes in the same run."""
    cluster, pid = scene.cluster, scene.qemu_pid(scene.holder)
    epoch = scene.status(scene.holder)["lease"]["epoch"]
    management, before = secrets_of(cluster)[MANAGEMENT], node_tokens(cluster)
    assert set(codes(cluster, before).values()) == {200}
    lay_out_as_before(cluster, management)
    words = ["salt-run", "--out=json", "mnha.bootstrap", CLUSTER_NAME, "renew_tokens=True"]
    made = json.loads(cluster.run(MASTER, words, timeout_s=60, check=True).stdout)[CLUSTER_NAME]["created"]
    assert sorted(made) == sorted(before)
    answers = apply(cluster, "*", "states.consul,states.guard")
    assert sorted(answers) == cluster.names
    for node, states in answers.items():
        assert (node, failed(states)) == (node, [])
        assert {"consul_secret_config", "consul_current", "consul_role_policy"} <= set(changed(states))
    after = node_tokens(cluster)
    assert not set(after.values()) & set(before.values())
    assert set(codes(cluster, after).values()) == {200}
    assert set(codes(cluster, before).values()) == {403}
    assert codes(cluster, {MANAGEMENT: management}) == {MANAGEMENT: 200}
    for node in cluster.names:
        assert management not in cluster.file(node, "etc/mnha/consul/secrets.json").read_text()
    assert (scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]) == (pid, epoch)
    answers = apply(cluster, "*", "states.consul")
    assert {node: (failed(states), changed(states)) for node, states in answers.items()} == dict.fromkeys(
        cluster.names, ([], {})
    )


def test_a_node_whose_consul_lost_everything_comes_back_by_applying_the_states(scene: Scene) -> None:
    """Its tokens are in the store of the others and in their Consul: nobody needs the management token for it."""
    cluster, node = scene.cluster, scene.others[0]
    lost = "/var/lib/mnha/consul /etc/mnha/consul /etc/mnha/tokens /etc/mnha/tls"
    lose = f"until rm -rf {lost}; do sleep 0.1; done"  # the guard tries Consul's disk by a file in that very folder
    cluster.run(node, ["sh", "-c", f"systemctl kill --signal=KILL consul; systemctl stop consul; {lose}"], check=True)
    states = apply(cluster, node, "states.consul,states.guard")[node]
    assert failed(states) == []
    assert not [name for name in changed(states) if name.startswith("consul_role_")]
    eventually(lambda: set(codes(cluster, node_tokens(cluster)).values()) == {200}, 30, "all tokens are good")

    def voters() -> int:
        words = ["consul", "operator", "raft", "list-peers"]
        return cluster.run(scene.holder, words, env=CONSUL, check=True).stdout.split().count("true")

    eventually(lambda: voters() == len(cluster.names), 60, "its server votes again")
