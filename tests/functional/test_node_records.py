"""What a master that is a node reads of Consul itself, against a real server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnha.core.model import Lease, Phase
from mnha.core.timing import PROFILES
from mnha.errors import UnreachableError
from mnha.master import records
from tests.support.consul_server import NODE, ConsulServer, binary, running

LEASE = json.loads(Lease("n1", 7, Phase.HELD, 1, PROFILES["default"]).to_json())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    with running(binary(tmp_path_factory.mktemp("consul")), tmp_path_factory.mktemp("server")) as one:
        client = one.client("anonymous")
        client.put("mnha/t/config", {"cluster": {"name": "t"}})
        client.put("mnha/t/vms/a/lease", LEASE)
        client.put("mnha/t/vms/b/lease", {**LEASE, "phase": "released", "holder": ""})
        client.put("mnha/t/nodes/n1", {"node": "n1"})
        client.put("mnha/t/history/1", {"at": "1", "event": "taken"})
        client.put("mnha/other/history/1", {"at": "1", "event": "not ours"})
        yield one


def guard_file(folder: Path, server: ConsulServer) -> Path:
    path = folder / "guard.json"
    consul = {"servers": [{"host": "127.0.0.1", "port": server.port}], "ca": str(server.ca_file)}
    path.write_text(json.dumps({"cluster": "t", "consul": consul}))
    return path


@pytest.fixture
def own(server: ConsulServer, tmp_path: Path) -> records.NodeRecords:
    found = records.of_this_node("t", guard_file(tmp_path, server), server.token_file)
    assert found is not None
    return found


def test_the_view_has_the_records_and_the_members(own: records.NodeRecords) -> None:
    view = own.view()
    assert view["errors"] == {}
    assert view["applied"] == {"cluster": {"name": "t"}}
    assert view["vms"]["vms/a/lease"] == LEASE
    assert view["nodes"] == {"nodes/n1": {"node": "n1"}}
    assert [(row["node"], row["status"]) for row in view["members"]] == [(NODE, "alive")]


def test_the_history_is_that_of_the_cluster(own: records.NodeRecords) -> None:
    assert own.history() == {"history/1": {"at": "1", "event": "taken"}}


def test_a_renewal_is_seen_and_a_lease_that_nobody_holds_is_not_waited_for(
    server: ConsulServer, own: records.NodeRecords
) -> None:
    leases = {key: value for key, value in own.view()["vms"].items() if key.endswith("/lease")}
    renewal = threading.Timer(0.3, lambda: server.client("anonymous").put("mnha/t/vms/a/lease", {**LEASE, "seq": 2}))
    renewal.start()
    began_s = time.monotonic()
    found = own.renewed_s(leases)
    assert list(found) == ["a"]
    assert 0 <= found["a"] < time.monotonic() - began_s
    renewal.join()


def test_a_lease_that_is_not_renewed_has_no_age(own: records.NodeRecords) -> None:
    assert own.renewed_s({key: value for key, value in own.view()["vms"].items() if key == "vms/a/lease"}) == {}


def test_a_reading_goes_on_beside_and_ends_in_time(server: ConsulServer, own: records.NodeRecords) -> None:
    reading = records.Reading(own)
    view, _ = reading.result(2.0, with_renewals=False)
    assert view is not None
    assert "vms/a/lease" in view["vms"]
    server.client("anonymous").put("mnha/t/vms/a/lease", {**LEASE, "seq": time.monotonic_ns()})
    _, renewed_s = reading.result(2.0, with_renewals=True)
    assert 0 <= renewed_s["a"] < 2.0


def test_a_server_that_is_gone_is_an_error_and_the_reading_says_so(own: records.NodeRecords, tmp_path: Path) -> None:
    conf = json.loads((tmp_path / "guard.json").read_text())
    conf["consul"]["servers"] = [{"host": "127.0.0.1", "port": 1}]
    (tmp_path / "guard.json").write_text(json.dumps(conf))
    (tmp_path / "token").write_text("x")
    gone = records.of_this_node("t", tmp_path / "guard.json", tmp_path / "token")
    assert gone is not None
    with pytest.raises(UnreachableError):
        gone.history()
    view, renewed_s = records.Reading(gone).result(2.0, with_renewals=True)
    assert view is not None
    assert "no Consul server can do it" in view["errors"]["consul"]
    assert renewed_s == {}


@pytest.mark.parametrize("missing", ["guard.json", "token", "cluster"])
def test_a_machine_that_is_no_node_reads_nothing(server: ConsulServer, tmp_path: Path, missing: str) -> None:
    path, token = guard_file(tmp_path, server), tmp_path / "token"
    if missing != "token":
        token.write_text("x")
    if missing == "guard.json":
        path.unlink()
    assert records.of_this_node("elsewhere" if missing == "cluster" else "t", path, token) is None
