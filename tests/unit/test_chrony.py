"""Whom each node takes the time from, and whom it gives it to."""

from __future__ import annotations

from mnha.host.chrony import COMMON, HEAD, text

NAMES = {node: (node, f"172.20.198.{number}", f"192.168.93.{number}") for number, node in
         enumerate(["node1", "node2", "node3"], start=3)}  # fmt: skip


def lines(node: str, *servers: str) -> list[str]:
    found = text(servers, node, NAMES)
    assert found.startswith(HEAD)
    assert found.endswith(COMMON)
    return found.removeprefix(HEAD).removesuffix(COMMON).splitlines()


def test_a_node_asks_each_server_and_answers_nobody() -> None:
    assert lines("node1", "ntp1.example.org", "10.9.9.1") == [
        "server ntp1.example.org iburst",
        "server 10.9.9.1 iburst",
    ]


def test_a_node_that_is_a_server_asks_the_others_and_never_itself() -> None:
    for own in NAMES["node2"]:
        found = lines("node2", "node1", own, "10.9.9.1")
        assert found[:3] == ["server node1 iburst", "server 10.9.9.1 iburst", "local stratum 10 orphan"]
        assert found[3:] == [f"allow {one}.{number}" for number in (3, 5) for one in ("172.20.198", "192.168.93")]


def test_the_only_server_has_its_own_clock() -> None:
    assert lines("node1", "172.20.198.3")[0] == "local stratum 10 orphan"
    assert lines("node3", "172.20.198.3") == ["server 172.20.198.3 iburst"]
