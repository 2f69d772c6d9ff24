"""Policies and tokens, against a real server: made once, found right without a right, and worth what the table says."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from mnha.consul import acl as consul_acl
from mnha.consul import admin
from mnha.consul.http import ForbiddenError
from mnha.consul.roles import Roles
from mnha.core.lease import first
from mnha.core.ports import Outcome
from mnha.core.timing import PROFILES
from mnha.daemon.adapters.consul import Servers
from mnha.daemon.adapters.lease_store import ConsulStore
from mnha.errors import DeadlineError, FailedError, RefusedError
from tests.support import consul_rights
from tests.support.consul_server import NODE, ConsulServer, binary, running

ROLES = Roles("t", NODE, ["v"], servers=1)
ACL = {"enabled": True, "default_policy": "deny", "down_policy": "extend-cache"}


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return binary(tmp_path_factory.mktemp("consul"))


@pytest.fixture
def server(consul: Path, tmp_path: Path) -> Iterator[ConsulServer]:
    """A cluster just born, which knows no token."""
    with running(consul, tmp_path, {"acl": ACL}) as running_server:
        yield running_server


class Cluster:
    """A server with the secrets that a master has of it."""

    def __init__(self, server: ConsulServer) -> None:
        self.server = server
        self.management = str(uuid.uuid4())
        self.secrets = {f"{role}_token": str(uuid.uuid4()) for role in consul_acl.ROLES}

    def make(self, roles: Roles = ROLES) -> admin.Changes:
        client, anonymous = self.server.client(self.management), self.server.client("")
        return roles.make(client, anonymous, self.management, self.secrets)

    def missing(self, roles: Roles = ROLES) -> admin.Changes:
        found: admin.Changes = {}
        for role in consul_acl.ROLES:
            found |= roles.missing(self.server.client(self.secrets[f"{role}_token"]), role)
        return found | roles.missing_settings(self.server.client(self.secrets["policy_token"]))

    def tokens(self) -> list[dict[str, Any]]:
        return self.server.client(self.management).call(lambda consul: consul.acl.tokens.list())


@pytest.fixture
def cluster(server: ConsulServer) -> Cluster:
    return Cluster(server)


def test_a_cluster_just_born_gets_its_tokens_and_keeps_no_other(cluster: Cluster) -> None:
    with pytest.raises(FailedError, match="does not allow"):
        cluster.missing()
    assert {name.split()[0] for name in cluster.make()} == {"token", "policy", "autopilot"}
    assert cluster.missing() == {}
    assert {row["Description"].split()[0] for row in cluster.tokens()} == {
        "Anonymous", "mnha-t-management", *(f"mnha-t-{role}-{NODE}" for role in consul_acl.ROLES)
    }  # fmt: skip
    assert len(cluster.tokens()) == 5


def test_made_a_second_time_nothing_changes(cluster: Cluster) -> None:
    cluster.make()
    before = cluster.tokens()
    assert cluster.make() == {}
    assert cluster.tokens() == before


def test_another_set_of_vms_is_missed_without_a_right_to_read_policies_and_made(cluster: Cluster) -> None:
    cluster.make()
    more = Roles("t", NODE, ["v", "w"], servers=1)
    assert set(cluster.missing(more)) == {f"token mnha-t-{role}-{NODE}" for role in ("guard", "policy")}
    cluster.make(more)
    assert cluster.missing(more) == {}
    guard = cluster.server.client(cluster.secrets["guard_token"])
    assert guard.cas("mnha/t/vms/w/lease", {}, 0)


def test_masters_that_have_other_secrets_or_vms_in_mind_are_told_apart(cluster: Cluster) -> None:
    digest = ROLES.digest(cluster.secrets)
    assert digest == Roles("t", NODE, ["v"], servers=1).digest(dict(cluster.secrets))
    assert not any(secret in digest for secret in cluster.secrets.values())
    others = [Roles("t", NODE, ["v", "w"], 1), Roles("t", "n2", ["v"], 1), Roles("t", NODE, ["v"], 3)]
    for role in consul_acl.ROLES:
        assert ROLES.digest({**cluster.secrets, f"{role}_token": str(uuid.uuid4())}) != digest
    assert all(other.digest(cluster.secrets) != digest for other in others)
    client, anonymous = cluster.server.client(cluster.management), cluster.server.client("")
    with pytest.raises(RefusedError, match="another one has them"):
        ROLES.make(client, anonymous, cluster.management, cluster.secrets, "other")
    assert ROLES.make(client, anonymous, cluster.management, cluster.secrets, digest) != {}


def test_a_cluster_whose_configuration_had_the_token_goes_on_without_it_there(consul: Path, tmp_path: Path) -> None:
    """As installations were that carried it in every node's configuration, with tokens described by their name only."""
    management = str(uuid.uuid4())
    with running(consul, tmp_path, {"acl": {**ACL, "tokens": {"master": management}}}) as server:
        cluster = Cluster(server)
        cluster.management = management
        former = server.client(management)
        deadline = time.monotonic() + 10
        while not admin._is_known(former):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for role in consul_acl.ROLES:
            name = consul_acl.policy_name("t", role, NODE)
            admin.ensure_policy(former, name, consul_acl.rules("t", role, NODE, ["v"]))
            payload = {"AccessorID": consul_acl.accessor_id("t", role, NODE), "Description": name,
                       "SecretID": cluster.secrets[f"{role}_token"], "Policies": [{"Name": name}]}  # fmt: skip
            former.call(lambda consul, payload=payload: consul.acl.tokens.create(payload))
        assert set(cluster.missing()) >= {f"token mnha-t-{role}-{NODE}" for role in consul_acl.ROLES}
        cluster.make()
        assert cluster.missing() == {}
        server.stop()
        server.set_options(acl=ACL)
        server.start()
        assert cluster.make() == {}
        assert cluster.missing() == {}


def test_a_cluster_that_somebody_else_set_up_is_not_taken_over(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "BOOTSTRAP_S", 0.5)
    anonymous = cluster.server.client("")
    cluster.make()
    stranger = Cluster(cluster.server)
    with pytest.raises(FailedError, match=r"does not know the management token.*docs/security\.md"):
        stranger.make()
    with pytest.raises(ForbiddenError):
        anonymous.call(lambda consul: consul.acl.bootstrap(), repeatable=False)
    assert cluster.missing() == {}


def test_where_a_stranger_was_faster_the_reset_that_the_docs_tell_gives_consul_back(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "BOOTSTRAP_S", 0.5)
    anonymous, end_s = cluster.server.client(""), time.monotonic() + 10
    while True:
        try:
            stranger = anonymous.call(lambda consul: consul.acl.bootstrap(), repeatable=False)["SecretID"]
            break
        except FailedError:  # the servers do not agree yet on how tokens are kept
            assert time.monotonic() < end_s
            time.sleep(0.1)
        except DeadlineError:
            time.sleep(0.1)
    with pytest.raises(FailedError, match=r"reset index: \d+\)") as told:
        cluster.make()
    index = re.search(r"reset index: (\d+)", told.value.message)
    assert index is not None
    (tmp_path / "data/acl-bootstrap-reset").write_text(index[1])
    cluster.make()
    assert cluster.missing() == {}
    cluster.server.client(stranger).call(lambda consul: consul.acl.tokens.list())  # still good: the docs say so


class Guard:
    """The guard's way to Consul; each request in a thread of its own, as its workers are."""

    def __init__(self, server: ConsulServer) -> None:
        self._servers = Servers([{"host": "127.0.0.1", "port": server.port}], server.ca_file, server.token_file)

    def writes(self, key: str = "history/x") -> bool:
        """Whether a write succeeds."""
        with ThreadPoolExecutor(1) as thread:
            try:
                return thread.submit(
                    self._servers.ask, 0, 2.0, lambda consul: consul.kv.put(f"mnha/t/{key}", "{}")
                ).result()
            except FailedError:
                return False


def test_the_guard_loses_one_request_when_its_token_is_replaced(cluster: Cluster) -> None:
    cluster.make()
    server, old = cluster.server, cluster.secrets["guard_token"]
    server.token_file.write_text(old + "\n")
    guard = Guard(server)
    assert guard.writes()
    cluster.secrets["guard_token"] = str(uuid.uuid4())
    server.token_file.write_text(cluster.secrets["guard_token"] + "\n")
    for _ in range(5):
        assert guard.writes(), "the former token is good until the new one is made, for each thread"
        assert not guard.writes("config"), "a right that it lacks does not make it try another token"
    assert set(cluster.missing()) == {f"token mnha-t-guard-{NODE}"}
    cluster.make()
    assert [guard.writes() for _ in range(5)] == [False, True, True, True, True]
    with pytest.raises(ForbiddenError):
        server.client(old).call(lambda consul: consul.acl.tokens.self())


def test_a_token_in_the_file_that_consul_does_not_know_yet_is_left_again(cluster: Cluster) -> None:
    """The guard has turned to the new one a moment too early: Consul lost the old one, and had it made again."""
    cluster.make()
    server, secrets = cluster.server, dict(cluster.secrets)
    server.token_file.write_text(secrets["guard_token"] + "\n")
    guard = Guard(server)
    assert guard.writes()
    server.token_file.write_text(f"{uuid.uuid4()}\n")
    cluster.secrets["guard_token"] = str(uuid.uuid4())
    cluster.make()
    assert not guard.writes()
    cluster.secrets = secrets
    cluster.make()
    assert [guard.writes() for _ in range(4)] == [False, True, True, True]


def test_a_lease_that_a_token_may_not_write_is_no_lost_race_and_one_that_was_written_before_is(
    cluster: Cluster,
) -> None:
    """Consul answers both by 409, and a token that it does not know by 403."""
    cluster.make()
    server, told = cluster.server, list[Any]()
    for role, outcome, why in (
        ("guard", Outcome.GRANTED, ""),
        ("guard", Outcome.REFUSED, ""),
        ("policy", Outcome.UNREACHABLE, "Permission denied"),
        ("none", Outcome.UNREACHABLE, "ACL not found"),
    ):
        server.token_file.write_text(cluster.secrets.get(f"{role}_token", str(uuid.uuid4())))
        store = ConsulStore(server.servers(), "mnha/t/vms/v", told.append, timeout_s=5.0)
        store._cas(0, first(PROFILES["default"]), 0, ticket=1)
        answered = told.pop()
        assert (answered.outcome, why in answered.error) == (outcome, True), answered


def test_each_role_may_do_what_the_table_says_and_no_more(cluster: Cluster) -> None:
    cluster.make()
    tokens = {role: cluster.secrets[f"{role}_token"] for role in consul_acl.ROLES}
    tokens |= {"none": "", "unknown": str(uuid.uuid4())}
    table = consul_rights.everything("t", NODE, "n2", "v")
    ask = asker(cluster.server, tokens)
    found = consul_rights.faults(table, [ask(row) for row in table])
    assert not found, "\n".join(found)


def test_the_agents_own_description_tells_no_secret(cluster: Cluster) -> None:
    cluster.make()
    told = asker(cluster.server, {"policy": cluster.secrets["policy_token"]})(
        consul_rights.Ask("GET", "/v1/agent/self")
    )
    assert '"NodeName"' in told["policy"][1]
    for secret in (cluster.management, *cluster.secrets.values()):
        assert secret not in told["policy"][1]


def asker(server: ConsulServer, tokens: dict[str, str]) -> Callable[[consul_rights.Ask], dict[str, tuple[int, str]]]:
    """Makes a request with each of the tokens."""
    session = requests.Session()
    session.verify, session.trust_env = str(server.ca_file), False

    def ask(row: consul_rights.Ask) -> dict[str, tuple[int, str]]:
        found = {}
        for role, token in tokens.items():
            headers = {"X-Consul-Token": token} if token else {}
            url = f"https://127.0.0.1:{server.port}{row.path}"
            reply = session.request(row.method, url, data=row.body or None, headers=headers, timeout=10)
            found[role] = (reply.status_code, reply.text)
        return found

    return ask
