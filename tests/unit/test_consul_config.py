"""Consul's configuration, policies and client, as far as they need no Consul."""

from __future__ import annotations

import errno
import json
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mnha.consul import acl, server_config
from mnha.consul.client import ConsulClient
from mnha.consul.http import ForbiddenError, read_token
from mnha.errors import ConfigurationError, DeadlineError, FailedError, UnreachableError

SERVER = server_config.Server(
    node="node1", datacenter="c1", address="192.168.93.3", peers=["192.168.93.4", "192.168.93.5"]
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Consul v1.8.7\nProtocol 2 spoken by default", (1, 8, 7)),
        ("Consul v1.20.1\nRevision abc", (1, 20, 1)),
        ("Consul v1.18.0+ent", (1, 18, 0)),
    ],
)
def test_version_is_read_from_the_programs_answer(text: str, version: tuple[int, int, int]) -> None:
    assert server_config.parse_version(text) == version


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Consul v1.7.4", "1.7.4 is too old"),
        ("Consul v0.9.0", "0.9.0 is too old"),
        ("bash: consul: command not found", "does not say"),
        ("", "does not say"),
    ],
)
def test_an_unusable_version_is_refused(text: str, words: str) -> None:
    with pytest.raises(FailedError, match=words):
        server_config.parse_version(text)


def test_a_quorum_is_expected_of_all_servers_and_none_is_removed() -> None:
    config = server_config.server_config(SERVER, (1, 8, 7))
    assert config["bootstrap_expect"] == 3
    assert config["retry_join"] == ["192.168.93.4:8301", "192.168.93.5:8301"]
    assert config["performance"]["raft_multiplier"] == 1
    assert config["autopilot"]["cleanup_dead_servers"] is False
    assert config["autopilot"]["min_quorum"] == 3
    assert config["leave_on_terminate"] is False


def test_only_https_on_loopback_and_storage_is_open() -> None:
    config = server_config.server_config(SERVER, (1, 20, 0))
    assert {name for name, port in config["ports"].items() if port > 0} == {"https", "server", "serf_lan"}
    assert config["addresses"] == {"https": "127.0.0.1 192.168.93.3"}
    assert config["acl"]["default_policy"] == "deny"


def test_old_versions_get_the_old_names_and_new_ones_the_new() -> None:
    old = server_config.server_config(SERVER, (1, 8, 7))
    new = server_config.server_config(SERVER, (1, 20, 0))
    assert old["verify_server_hostname"] is True
    assert old["verify_incoming_rpc"] is True
    assert "tls" not in old
    assert "grpc_tls" not in old["ports"]
    assert new["tls"]["internal_rpc"]["verify_server_hostname"] is True
    assert new["tls"]["defaults"]["verify_incoming"] is True
    assert "ca_file" not in new


def test_secrets_stand_in_their_own_file_only() -> None:
    assert not {"encrypt", "tokens"} & set(str(server_config.server_config(SERVER, (1, 20, 0))).split("'"))


def test_the_only_token_in_a_servers_configuration_is_its_agents() -> None:
    assert server_config.secret_config("g", "a") == {"encrypt": "g", "acl": {"tokens": {"agent": "a"}}}


def test_guard_may_write_leases_and_policy_may_not() -> None:
    guard = json.loads(acl.rules("c1", "guard", "node1", ["mnvm", "other"]))
    policy = json.loads(acl.rules("c1", "policy", "node1", ["mnvm", "other"]))
    for vm in ("mnvm", "other"):
        assert guard["key"][f"mnha/c1/vms/{vm}/lease"]["policy"] == "write"
        assert f"mnha/c1/vms/{vm}/lease" not in policy["key"]
        assert policy["key"][f"mnha/c1/vms/{vm}/desired"]["policy"] == "write"
        assert f"mnha/c1/vms/{vm}/desired" not in guard["key"]
    assert [key for key in guard["key"] if "/nodes/" in key] == ["mnha/c1/nodes/node1"]
    assert policy["key_prefix"]["mnha/c1/"]["policy"] == "read"


def test_every_role_has_its_own_accessor_on_every_node() -> None:
    ids = {acl.accessor_id("c1", role, node) for role in acl.ROLES for node in ("node1", "node2")}
    assert len(ids) == 6
    assert all(uuid.UUID(text) for text in ids)
    assert acl.accessor_id("c1", "guard", "node1") in ids


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a role"):
        acl.rules("c1", "root", "node1", [])
    with pytest.raises(ConfigurationError, match="is not a role"):
        acl.policy_name("c1", "root", "node1")


def test_a_missing_or_empty_token_names_its_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path / "policy")):
        read_token(tmp_path / "policy")
    (tmp_path / "policy").write_text("\n")
    with pytest.raises(ConfigurationError, match="is empty"):
        read_token(tmp_path / "policy")


@dataclass
class Answer:
    """What a fake server does: answers."""

    status: int
    body: str
    length: int = 0

    def getheaders(self) -> list[tuple[str, str]]:
        return [("X-Consul-Index", "1")]

    def read1(self, most: int) -> bytes:
        part, self.body = self.body[:most], self.body[most:]
        return part.encode()

    def close(self) -> None: ...


class Connection:
    """In place of http.client's: does the next step of its server's script, or fails by it."""

    script: ClassVar[dict[str, list[Answer | Exception]]] = {}
    asked: ClassVar[list[str]] = []

    def __init__(self, host: str, port: int, **_: Any) -> None:
        self.host, self.sock = host, socket.socket()

    def connect(self) -> None:
        if isinstance(self.script[self.host][0], ConnectionRefusedError):
            raise self.script[self.host].pop(0)

    def request(self, *_: Any) -> None:
        self.asked.append(self.host)

    def getresponse(self) -> Answer:
        step = self.script[self.host].pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A client whose servers answer by a script: `{address: [Answer or exception, …]}`; notes who was asked."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "somewhere.else:8500")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "wrong")
    (tmp_path / "ca.pem").write_text("")
    monkeypatch.setattr("mnha.consul.http.http.client.HTTPSConnection", Connection)
    monkeypatch.setattr("mnha.consul.http._trusting", lambda ca_file: None)
    monkeypatch.setattr("mnha.consul.http._has_ended", lambda connection: False)
    made = ConsulClient(["127.0.0.1", "10.0.0.2"], "t", "the token in F", ca_file=tmp_path / "ca.pem")
    made.script = Connection.script = {}
    made.asked = Connection.asked = []
    yield made
    for server in made.servers:
        made._clients[server].http.close()


def not_opened() -> Exception:
    return ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def test_environment_variables_lead_nowhere_else(client) -> None:
    assert client._clients["127.0.0.1"].http.token == "t"
    client.script["127.0.0.1"] = [Answer(200, "true")]
    assert client.cas("k", {}, 0) is True
    assert client.asked == ["127.0.0.1"]


def test_a_refused_cas_is_a_value(client) -> None:
    client.script["127.0.0.1"] = [Answer(200, "false")]
    assert client.cas("k", {}, 7) is False


def test_the_next_server_is_asked_when_one_is_down(client) -> None:
    client.script.update({"127.0.0.1": [not_opened()], "10.0.0.2": [Answer(200, "true")]})
    assert client.cas("k", {}, 0) is True


def test_a_cas_whose_answer_got_lost_is_not_repeated(client) -> None:
    client.script["127.0.0.1"] = [TimeoutError()]
    with pytest.raises(DeadlineError, match="not known"):
        client.cas("k", {}, 0)
    assert client.asked == ["127.0.0.1"]


def test_a_read_whose_answer_got_lost_is_repeated_elsewhere(client) -> None:
    client.script.update({"127.0.0.1": [TimeoutError()], "10.0.0.2": [Answer(404, "")]})
    assert client.get("k") is None


def test_a_wrong_token_is_forbidden_and_named(client) -> None:
    client.script["127.0.0.1"] = [Answer(403, "ACL not found")]
    with pytest.raises(ForbiddenError, match="the token in F"):
        client.get("k")


def test_no_server_is_unreachable_and_each_is_named(client) -> None:
    down = [not_opened(), not_opened()]
    client.script.update({"127.0.0.1": list(down), "10.0.0.2": list(down)})
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:8501 .*: connection refused; .* 10\.0\.0\.2:8501"):
        client.get("k")


def test_no_leader_is_unreachable_but_a_failure_with_a_leader_is_not(client) -> None:
    for leader, expected in (('""', UnreachableError), ('"10.0.0.2:8300"', FailedError)):
        client.script["127.0.0.1"] = [Answer(500, "No cluster leader"), Answer(200, leader)]
        client.script["10.0.0.2"] = [Answer(500, "No cluster leader"), Answer(200, leader)]
        with pytest.raises(expected) as caught:
            client.get("k")
        assert type(caught.value) is expected


def test_a_value_that_is_no_json_is_none_and_says_so(client) -> None:
    row = json.dumps([{"Key": "k", "Value": "e25v", "ModifyIndex": 3}])
    client.script["127.0.0.1"] = [Answer(200, row)]
    entry = client.get("k")
    assert (entry.key, entry.value, entry.index) == ("k", None, 3)
    assert entry.fault.startswith("it is no JSON (")


def test_a_client_without_ca_or_servers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is missing"):
        ConsulClient(["127.0.0.1"], "t", ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="no Consul server"):
        ConsulClient([], "t")
