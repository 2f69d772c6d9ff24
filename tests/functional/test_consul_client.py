"""Salt's door to Consul, against a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mnha.consul.client import ConsulClient
from mnha.errors import UnreachableError
from mnha.master.unreadable import sorted_out
from tests.support.consul_server import NODE, ConsulServer, binary, running

PREFIX = "mnha/t/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    consul = binary(tmp_path_factory.mktemp("consul"))
    with running(consul, tmp_path_factory.mktemp("server")) as running_server:
        yield running_server


@pytest.fixture
def client(server: ConsulServer) -> Iterator[ConsulClient]:
    made = ConsulClient(["127.0.0.1"], "anonymous", ca_file=server.ca_file, port=server.port)
    yield made
    for entry in made.list(PREFIX):
        made.delete(entry.key)


def test_a_snapshot_has_all_keys_below_the_prefixes_the_members_and_the_leader(client: ConsulClient) -> None:
    for name in ("config", "vms/a/lease", "nodes/n1", "history/x"):
        client.put(f"{PREFIX}{name}", {"name": name})
    found = client.snapshot([f"{PREFIX}config", f"{PREFIX}vms/", f"{PREFIX}maintenance/"])
    assert {entry.key: entry.value["name"] for entry in found.entries} == {
        f"{PREFIX}config": "config",
        f"{PREFIX}vms/a/lease": "vms/a/lease",
    }
    assert found.members == [{"node": NODE, "address": "127.0.0.1", "status": "alive"}]
    assert found.leader == client.leader() != ""


def test_requests_one_after_the_other_share_a_connection(client: ConsulClient) -> None:
    """A server may say something of TLS's own unasked; that is no end of the connection."""
    ports = set()
    for _ in range(5):
        client.get("nothing")
        connection = client._clients[client.servers[0]].http._connection
        assert connection is not None
        ports.add(connection.sock.getsockname()[1])
        time.sleep(0.1)
    assert len(ports) == 1


def test_the_index_of_a_key_that_was_deleted_is_above_all_that_it_had(client: ConsulClient) -> None:
    key = f"{PREFIX}lease"
    for value in range(3):
        client.put(key, value)
    last = client.get(key)
    assert last is not None
    assert client.index(key) == last.index
    client.delete(key)
    assert client.index(key) > last.index
    client.put(f"{PREFIX}other", 1)
    other = client.get(f"{PREFIX}other")
    assert other is not None
    assert client.index(key) == other.index


def test_pruning_keeps_what_was_written_last_whatever_its_name_and_what_is_to_be_spared(client: ConsulClient) -> None:
    for name in ("z-oldest", "spared", "b", "a", "c"):
        client.put(f"{PREFIX}actions/{name}", 1)
    client.put(f"{PREFIX}actions/b", 2)
    client.put(f"{PREFIX}history/of-others", 1)
    assert client.prune(f"{PREFIX}actions/", 2, spare=[f"{PREFIX}actions/spared"]) == 2
    assert [entry.key.removeprefix(PREFIX) for entry in client.list(PREFIX)] == [
        "actions/b", "actions/c", "actions/spared", "history/of-others",
    ]  # fmt: skip
    assert client.prune(f"{PREFIX}actions/", 500) == 0
    assert client.prune(f"{PREFIX}actions/", 0) == 3


def test_a_server_that_is_gone_is_unreachable(server: ConsulServer, client: ConsulClient) -> None:
    server.stop()
    try:
        with pytest.raises(UnreachableError, match="connection refused"):
            client.snapshot([PREFIX])
    finally:
        server.start()


def test_records_that_can_not_be_read_hide_no_others_and_say_why(client: ConsulClient) -> None:
    """As somebody writes them by hand."""
    client.put(f"{PREFIX}nodes/node1", {"v": 1})
    for key, value in (
        ("nodes/x", b"{run: started}"),
        ("nodes/y", b""),
        ("nodes/z", b"[1]"),
        ("nodes/deep", b"[" * 99999),
    ):
        client.call(lambda consul, key=key, value=value: consul.kv.put(PREFIX + key, value))
    for entries in (client.list(PREFIX), client.snapshot([PREFIX]).entries):
        values, faults = sorted_out(entries, PREFIX)
        assert values == {"nodes/node1": {"v": 1}, **dict.fromkeys(("nodes/x", "nodes/y", "nodes/z", "nodes/deep"))}
        assert set(faults) == {"nodes/x", "nodes/y", "nodes/z", "nodes/deep"}
        assert "no JSON (Expecting property name" in faults["nodes/x"]
        assert faults["nodes/z"] == "it is no JSON object"
    one = client.get(f"{PREFIX}nodes/x")
    assert one is not None
    assert one.value is None
    assert client.cas(one.key, {"v": 1}, one.index), "it is replaced by its index as any other"
