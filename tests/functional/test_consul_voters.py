"""Who of three real Consul servers votes, while they are wiped one after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from mnha.consul import admin, voters
from mnha.consul.voters import Margin
from mnha.master import report
from mnha.master.records import NodeRecords
from tests.support.consul_cluster import ConsulCluster, running
from tests.support.consul_server import binary

ADDRESSES = {"n1": "127.0.5.1", "n2": "127.0.5.2", "n3": "127.0.5.3"}
VOTE_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulCluster]:
    consul = binary(tmp_path_factory.mktemp("consul"))
    with running(ConsulCluster(consul, tmp_path_factory.mktemp("servers"), ADDRESSES)) as found:
        found.wait(lambda: margin(found).is_full, what="all vote")
        yield found


def margin(cluster: ConsulCluster, *nodes: str) -> Margin:
    return Margin.of(admin.health(cluster.client(*nodes))["servers"], len(ADDRESSES))


def told(cluster: ConsulCluster, *nodes: str) -> list[str]:
    """What a status says of Consul, with nothing else in it."""
    view = NodeRecords(cluster.client(*nodes), "t").view()
    found = report.status(list(ADDRESSES), {}, now_s=0.0, waited_s=0.0, records=view)
    return [text for text in found["warnings"] if text.startswith("Consul: of")]


def test_a_wiped_server_counts_only_when_it_votes_and_the_status_tells_until_then(cluster: ConsulCluster) -> None:
    assert told(cluster) == []
    cluster.wipe("n3")
    others = ("n1", "n2")
    cluster.wait(lambda: told(cluster, *others), what="the status tells that n3 is missing")
    cluster.start("n3")
    rows = lambda: admin.health(cluster.client(*others))["servers"]  # noqa: E731
    cluster.wait(lambda: voters.lack(rows(), "n3") == "the server of n3 does not vote yet", what="it has joined")
    (text,) = told(cluster, *others)
    assert "2 vote and are well (n1, n2): no other may fail. One that has joined anew votes" in text
    assert voters.obstacle(rows(), "n2") == "n3 of Consul's servers do not vote yet, or are not healthy"
    began_s = time.monotonic()
    voters.wait_until(lambda: voters.lack(rows(), "n3"), VOTE_S)
    print(f"the wiped server votes {time.monotonic() - began_s:.1f} s after it has joined")
    assert margin(cluster).is_full
    assert told(cluster) == []
    assert voters.obstacle(rows(), "n2") == ""


@pytest.mark.nightly
def test_a_restart_waits_for_the_vote_of_a_server_that_was_wiped_before(cluster: ConsulCluster) -> None:
    """What an operator does who wipes one server and applies the states to the next at once."""
    cluster.wipe("n1")
    cluster.start("n1")
    seen: list[Margin] = []

    def restart() -> None:
        seen.append(margin(cluster))
        cluster.kill("n2")
        cluster.start("n2")

    turn = admin.RestartInTurn(cluster.client("n2", "n1", "n3"), "mnha/t", "n2", restart, wait_s=90.0)
    thread = threading.Thread(target=turn.run)
    thread.start()
    thread.join(180)
    assert [one.voters for one in seen] == [tuple(ADDRESSES)]
    assert margin(cluster).is_full
