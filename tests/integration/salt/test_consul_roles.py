"""A node that misses its Consul tokens asks, and a master that has the cluster's secrets makes them: there only."""

from __future__ import annotations

import json
import time

import pytest

from mnha.secrets import store
from tests.support.salt_cluster import wait_until

NODES = ("node1", "node2", "node3")


@pytest.fixture
def nobody_asked(world):
    """The world, with nothing left of an earlier test."""
    for node in NODES:
        (world.folder / f"roles-{node}").unlink(missing_ok=True)
    return world


def asks(world, node: str, cluster: str) -> None:
    """What states do on `node` whose tokens are not in Consul."""
    data = {"cluster": cluster, "wanted": "this"}
    world.salt.salt("m1", "event.send", f"mnha/consul_roles/{cluster}", data, target=node)


def token_given_to(world, node: str) -> str:
    path = world.folder / f"roles-{node}"
    return path.read_text() if path.is_file() else ""


def test_the_node_that_asks_gets_the_token_for_the_moment_and_no_other_does(nobody_asked) -> None:
    world = nobody_asked
    asks(world, "node2", "example")
    wanted = store.management_token(world.folder / "secrets" / "example") + " this"
    wait_until(lambda: token_given_to(world, "node2") == wanted, 60, "a master has the tokens of node2 made")
    assert [node for node in NODES if token_given_to(world, node)] == ["node2"]


def test_a_node_that_asks_for_another_cluster_gets_nothing(nobody_asked) -> None:
    world = nobody_asked
    asks(world, "node1", "elsewhere")
    asks(world, "node2", "example")  # both take the same way: when this one is done, the first one is
    wait_until(lambda: token_given_to(world, "node2"), 60, "a master has the tokens of node2 made")
    time.sleep(2)
    assert [node for node in NODES if token_given_to(world, node)] == ["node2"]


def test_the_verb_is_for_nodes_of_the_cluster_only(nobody_asked) -> None:
    done = nobody_asked.salt.run("m1", "--out=json", "mnha_policy.consul_roles", "example", "node9")
    assert done.returncode != 0
    assert "node9 is no node of cluster example" in json.loads(done.stdout)["example"]["comment"]
    assert [node for node in NODES if token_given_to(nobody_asked, node)] == []
