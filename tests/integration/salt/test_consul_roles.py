"""A node that misses its Consul tokens asks, and a master that has the cluster's secrets makes them: there only.

Both masters hear who asks, and each has the tokens made: the later one when the first is long done. So each test asks
with a word of its own.
"""

from __future__ import annotations

import json
import time

from mnha.secrets import store
from tests.support.salt_cluster import wait_until

NODES = ("node1", "node2", "node3")


def asks(world, node: str, cluster: str, wanted: str) -> None:
    """What states do on `node` whose tokens are not in Consul."""
    data = {"cluster": cluster, "wanted": wanted}
    world.salt.salt("m1", "event.send", f"mnha/consul_roles/{cluster}", data, target=node)


def token_given_to(world, node: str, wanted: str) -> str:
    """The management token by which a master had made on `node` what was wanted; empty as long as none has."""
    path = world.folder / f"roles-{node}-{wanted}"
    return path.read_text() if path.is_file() else ""


def test_the_node_that_asks_gets_the_token_for_the_moment_and_no_other_does(world) -> None:
    asks(world, "node2", "example", "first")
    wait_until(lambda: token_given_to(world, "node2", "first"), 60, "a master has the tokens of node2 made")
    assert token_given_to(world, "node2", "first") == store.management_token(world.folder / "secrets" / "example")
    assert [node for node in NODES if token_given_to(world, node, "first")] == ["node2"]


def test_a_node_that_asks_for_another_cluster_gets_nothing(world) -> None:
    asks(world, "node1", "elsewhere", "second")
    asks(world, "node2", "example", "second")  # both take the same way: when this one is done, the first one is
    wait_until(lambda: token_given_to(world, "node2", "second"), 60, "a master has the tokens of node2 made")
    time.sleep(2)
    assert [node for node in NODES if token_given_to(world, node, "second")] == ["node2"]


def test_the_verb_is_for_nodes_of_the_cluster_only(world) -> None:
    done = world.salt.run("m1", "--out=json", "mnha_policy.consul_roles", "example", "node9", "third")
    assert done.returncode != 0
    assert "node9 is no node of cluster example" in json.loads(done.stdout)["example"]["comment"]
    assert [node for node in NODES if token_given_to(world, node, "third")] == []
