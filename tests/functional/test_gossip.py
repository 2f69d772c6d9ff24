"""The gossip of three real Consul servers, behind delay lines, with the product's timings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consul_cluster import ConsulCluster, running
from tests.support.consul_server import binary
from tests.support.delayed_network import DelayedNetwork, delayed_network

ADDRESSES = {"n1": "192.168.95.1", "n2": "192.168.95.2", "n3": "192.168.95.3"}
TRIP_MS = 200
FAILED = "EventMemberFailed"
WATCHED_S = 15.0
SEEN_S = 6.0
"""2 to 3 s were measured; the machine may be busy."""


@pytest.fixture
def cables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DelayedNetwork]:
    with delayed_network("lab-gossip-test", ADDRESSES, tmp_path, monkeypatch) as found:
        yield found


@pytest.mark.nightly
def test_members_are_not_told_failed_at_200_ms_round_trip_and_a_dead_one_soon(
    cables: DelayedNetwork, tmp_path: Path
) -> None:
    (tmp_path / "servers").mkdir()
    cluster = ConsulCluster(binary(tmp_path / "consul"), tmp_path / "servers", ADDRESSES, cables.words)
    with running(cluster):
        for node in ADDRESSES:
            cluster.wait(lambda node=node: cluster.log(node).count("EventMemberJoin") >= 3, what="all have joined")  # type: ignore[misc]
        cluster.wait(lambda: any("entering leader state" in cluster.log(node) for node in ADDRESSES), what="one leads")
        cables.delay(TRIP_MS)
        time.sleep(3)  # the lines were put in one after the other
        before = {node: cluster.log(node).count(FAILED) for node in ADDRESSES}
        time.sleep(WATCHED_S)
        told = {node: cluster.log(node).count(FAILED) for node in ADDRESSES}
        assert told == before, "nobody is told failed"
        cables.cut("n3")
        took_s = cluster.wait(
            lambda: all(cluster.log(node).count(f"{FAILED}: n3") for node in ("n1", "n2")), SEEN_S, "n3 is told failed"
        )
        print(f"at {TRIP_MS} ms round trip a dead member is told failed after {took_s:.1f} s")
