"""What the tokens of a real cluster are worth: the table of requests, with each of node1's tokens and with none."""

from __future__ import annotations

import json
from typing import Any

from lab import health
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.settings import VM_NAME
from tests.support import consul_rights
from tests.support.scene import eventually

ASK = """
import json, sys
import requests
given = json.load(sys.stdin)
session = requests.Session()
session.verify, session.trust_env = "/etc/mnha/tls/ca.pem", False
answers = []
for method, path, body in given["requests"]:
    row = {}
    for role, token in given["tokens"].items():
        headers = {"X-Consul-Token": token} if token else {}
        reply = session.request(method, given["url"] + path, data=body or None, headers=headers, timeout=10)
        row[role] = [reply.status_code, reply.text[:200]]
    answers.append(row)
json.dump(answers, sys.stdout)
"""
NODE, OTHER = "node1", "node2"


def ask(
    cluster: Cluster, table: list[consul_rights.Ask], tokens: dict[str, str], at: str = "127.0.0.1"
) -> list[dict[str, Any]]:
    """Make all requests of a table on node1 with each of the tokens."""
    rows = [(row.method, row.path, row.body) for row in table]
    given = json.dumps({"url": f"https://{at}:8501", "tokens": tokens, "requests": rows})
    done = cluster.run(NODE, ["/opt/mnha/bin/python", "-c", ASK], stdin=given, timeout_s=120, check=True)
    return json.loads(done.stdout)


def tokens_of_node1(secrets: dict[str, str]) -> dict[str, str]:
    tokens = {role: secrets[f"nodes/{NODE}/{role}-token"] for role in ("guard", "policy", "agent")}
    return {**tokens, "none": "", "unknown": "00000000-1111-2222-3333-444444444444"}


def test_each_token_may_do_what_the_table_says_and_no_more(cluster: Cluster, secrets: dict[str, str]) -> None:
    table = consul_rights.everything(CLUSTER_NAME, NODE, OTHER, VM_NAME)
    # A server that does not lead answers these with the end of its connection to the leader, which says no.
    snapshots = [row for row in table if row.path == "/v1/snapshot"]
    rest = [row for row in table if row not in snapshots]
    tokens = tokens_of_node1(secrets)
    assert len(snapshots) == 2
    health.heal(cluster)
    for _ in range(3):
        leader = eventually(lambda: leader_of(cluster), 30, "Consul has a leader")
        found = consul_rights.faults(rest, ask(cluster, rest, tokens))
        found += consul_rights.faults(snapshots, ask(cluster, snapshots, tokens, at=leader))
        if leader == leader_of(cluster):  # else, what was answered during an election says nothing of rights
            break
    assert not found, "\n".join(found)


def leader_of(cluster: Cluster) -> str:
    """The address of the server that leads; empty while none does."""
    (told,) = ask(cluster, [consul_rights.Ask("GET", "/v1/status/leader")], {"none": ""})
    return str(json.loads(told["none"][1])).rsplit(":", 1)[0]


def test_a_token_is_worth_the_same_at_every_server(cluster: Cluster, secrets: dict[str, str]) -> None:
    """A node's record belongs to that node's guard, whichever server is asked."""
    table = consul_rights.key_rights(CLUSTER_NAME, NODE, OTHER, VM_NAME)
    for plan in cluster.plans:
        found = consul_rights.faults(table, ask(cluster, table, tokens_of_node1(secrets), at=plan.storage))
        assert not found, plan.name + "\n" + "\n".join(found)
