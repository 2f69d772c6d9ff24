"""What the masters on the nodes get of the first one's tree and store, and that it goes again."""

from __future__ import annotations

import pytest

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.provision import MASTER, TREE

from ..cluster.test_provisioning import apply, failed

THEIRS = f"{TREE}/pillar/clusters/theirs.sls"
LAYER = "states.salt.master"


def there(cluster: Cluster, node: str, path: str) -> bool:
    return cluster.run(node, ["test", "-e", path]).returncode == 0


def applied(cluster: Cluster, node: str) -> None:
    states = apply(cluster, node, LAYER)[node]
    assert isinstance(states, dict), states
    assert failed(states) == []


@pytest.mark.nightly
def test_another_clusters_pillar_is_not_given_and_goes_where_it_was_once(cluster: Cluster) -> None:
    node = next(name for name in cluster.names if name != MASTER)
    try:
        for one in (MASTER, node):  # as an earlier version had left it
            cluster.write_file(one, THEIRS, "password: theirs\n")
        applied(cluster, node)
        assert there(cluster, MASTER, THEIRS)
        assert not there(cluster, node, THEIRS)
        assert there(cluster, node, f"{TREE}/pillar/top.sls")
        assert there(cluster, node, f"{TREE}/pillar/clusters/lab.sls")
    finally:
        for one in (MASTER, node):
            cluster.run(one, ["rm", "-f", THEIRS], check=True)


@pytest.mark.nightly
def test_a_secret_and_a_key_that_are_taken_away_on_one_master_go_from_the_others(cluster: Cluster) -> None:
    node, third = [name for name in cluster.names if name != MASTER][:2]
    secret = f"/etc/mnha/secrets/{CLUSTER_NAME}/nodes/gone-token"
    key = f"/etc/salt/pki/master/minions/{third}"
    own = "/etc/salt/pki/master/minions/somebody"  # of a minion that is no node
    text = cluster.file(MASTER, key).read_text()
    try:
        cluster.write_file(MASTER, secret, "secret\n", mode=0o600)
        cluster.write_file(node, own, text)
        applied(cluster, node)
        assert there(cluster, node, secret)
        cluster.run(MASTER, ["rm", secret, key], check=True)
        applied(cluster, node)
        assert not there(cluster, node, secret)
        assert not there(cluster, node, key)
        assert there(cluster, node, own)
    finally:
        cluster.write_file(MASTER, key, text)
        cluster.run(MASTER, ["rm", "-f", secret], check=True)
        cluster.run(node, ["rm", "-f", own], check=True)
        applied(cluster, node)
    assert there(cluster, node, key)
