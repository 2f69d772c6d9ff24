"""Secrets: made once, never overwritten, each node sees its own only."""

from __future__ import annotations

import base64
import datetime
import json
import stat
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mnha.errors import ConfigurationError, FailedError
from mnha.host import libvirtd
from mnha.secrets import store

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
NODES = {f"node{n}": (f"192.168.93.{n + 2}", f"172.20.198.{n + 2}") for n in (1, 2, 3)}


def plan(**changes) -> store.Plan:
    values = {"cluster": "c1", "datacenter": "c1", "nodes": NODES, "masters_on_nodes": True, **changes}
    return store.Plan(**values)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets" / "c1"
    store.bootstrap(folder, plan(), now=NOW)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_bootstrap_changes_nothing(home: Path) -> None:
    before = contents(home)
    report = store.bootstrap(home, plan(), now=NOW)
    assert report.created == []
    assert sorted(report.kept) == sorted(before)
    assert report.warnings == []
    assert contents(home) == before


def test_an_added_node_gets_secrets_and_the_others_keep_theirs(home: Path) -> None:
    before = contents(home)
    more = {**NODES, "node4": ("192.168.93.6", "172.20.198.6"), "node5": ("192.168.93.7", "172.20.198.7")}
    report = store.bootstrap(home, plan(nodes=more), now=NOW)
    assert {name.split("/")[1] for name in report.created} == {"node4", "node5"}
    assert {name: text for name, text in contents(home).items() if name in before} == before


@pytest.mark.parametrize("renew", [{}, {"renew_certificates": True}, {"renew_tokens": True}])
def test_what_would_be_made_is_what_is_made(tmp_path: Path, renew: dict[str, bool]) -> None:
    folder = tmp_path / "c1"
    for wanted in (plan(), plan(nodes={**NODES, "node4": ("10.0.0.1", "10.1.0.1")}), plan(masters_on_nodes=False)):
        before = contents(folder)
        told = store.to_make(folder, wanted, **renew)
        assert contents(folder) == before
        assert told == sorted(store.bootstrap(folder, wanted, now=NOW, **renew).created)


def test_only_root_may_read_anything(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_nothing_temporary_is_left(home: Path) -> None:
    assert list(home.rglob(".*")) == []


def test_tokens_are_distinct_uuids_and_the_gossip_key_has_32_bytes(home: Path) -> None:
    tokens = [path.read_text().strip() for path in home.rglob("*-token")]
    assert len(tokens) == 1 + 3 * len(NODES)
    assert len({uuid.UUID(token) for token in tokens}) == len(tokens)
    assert len(base64.b64decode((home / "gossip.key").read_text())) == 32


def test_a_node_sees_its_own_secrets_and_no_other(home: Path) -> None:
    seen = store.for_node(home, "node1")
    others = {name: text for name, text in contents(home).items() if not name.startswith("nodes/node1/")}
    given = {value.strip().encode() for value in seen.values()}
    assert {name for name, text in others.items() if text.strip() in given} == {"ca.pem", "gossip.key"}
    assert seen["guard_token"] == (home / "nodes/node1/guard-token").read_text().strip()


def test_a_master_gets_the_whole_tree(home: Path) -> None:
    assert store.tree(home) == {name: text.decode() for name, text in contents(home).items()}


def test_certificate_names_what_consul_and_its_clients_ask_for(home: Path) -> None:
    certificate = x509.load_pem_x509_certificate((home / "nodes/node2/node.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"server.c1.consul", "localhost", "node2"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", *NODES["node2"]} <= {str(ip) for ip in names.get_values_for_type(x509.IPAddress)}
    authority = x509.load_pem_x509_certificate((home / "ca.pem").read_bytes())
    certificate.verify_directly_issued_by(authority)
    key = serialization.load_pem_private_key((home / "nodes/node2/node-key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == certificate.public_key()


def test_libvirts_certificate_passes_for_no_consul_server_and_consuls_for_no_libvirt(home: Path) -> None:
    found = {
        use: x509.load_pem_x509_certificate((home / f"nodes/node2/{use}.pem").read_bytes())
        for use in ("node", "libvirt")
    }
    names = found["libvirt"].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node2"]
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == set(NODES["node2"])
    allowed = libvirtd.daemon_settings("c1", "node1", list(NODES))["tls_allowed_dn_list"]
    subjects = {use: certificate.subject.rfc4514_string() for use, certificate in found.items()}
    assert subjects["libvirt"] in json.loads(allowed)
    assert subjects["node"] not in json.loads(allowed)
    assert found["libvirt"].public_key() != found["node"].public_key()


def test_a_clock_that_is_an_hour_behind_accepts_the_certificate(home: Path) -> None:
    certificate = x509.load_pem_x509_certificate((home / "nodes/node1/node.pem").read_bytes())
    assert certificate.not_valid_before_utc <= NOW - datetime.timedelta(hours=1)


def test_a_changed_address_is_reported_and_renewed_on_request_only(home: Path) -> None:
    moved = plan(nodes={**NODES, "node1": ("192.168.93.99", "172.20.198.3")})
    before = contents(home)
    report = store.bootstrap(home, moved, now=NOW)
    assert [text.split(" does not")[0] for text in report.warnings] == [
        "the certificate of node1",
        "the libvirt certificate of node1",
    ]
    assert all("192.168.93.99" in text for text in report.warnings)
    assert contents(home) == before
    store.bootstrap(home, moved, renew_certificates=True, now=NOW)
    assert store.bootstrap(home, moved, now=NOW).warnings == []
    after = contents(home)
    assert {name for name in before if after[name] != before[name]} == {
        f"nodes/{node}/{name}"
        for node in NODES
        for name in ("node.pem", "node-key.pem", "libvirt.pem", "libvirt-key.pem")
    }


def test_tokens_are_made_anew_on_request_only_and_the_management_token_never(home: Path) -> None:
    before = contents(home)
    report = store.bootstrap(home, plan(), now=NOW, renew_tokens=True)
    after = contents(home)
    renewed = {f"nodes/{node}/{role}-token" for node in NODES for role in ("agent", "guard", "policy")}
    assert {name for name in before if after[name] != before[name]} == renewed == set(report.created)


def test_a_certificate_that_ends_soon_is_reported(home: Path) -> None:
    late = NOW + datetime.timedelta(days=store.NODE_DAYS - 10)
    warnings = store.bootstrap(home, plan(), now=late).warnings
    assert len(warnings) == 2 * len(NODES)
    assert all("ends in 10 days" in warning for warning in warnings)


def test_an_interrupted_renewal_is_reported(home: Path) -> None:
    (home / "nodes/node1/node-key.pem").write_bytes((home / "nodes/node2/node-key.pem").read_bytes())
    assert any("does not belong to its key" in warning for warning in store.bootstrap(home, plan(), now=NOW).warnings)


def test_a_lost_authority_key_is_never_replaced(home: Path) -> None:
    (home / "ca-key.pem").unlink()
    with pytest.raises(FailedError, match="restore it from another master"):
        store.bootstrap(home, plan(), now=NOW)


def test_the_running_masters_key_becomes_the_shared_one(tmp_path: Path) -> None:
    own = tmp_path / "master.pem"
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    own.write_bytes(pem)
    report = store.bootstrap(tmp_path / "c1", plan(salt_master_key=own), now=NOW)
    assert (tmp_path / "c1/salt/master.pem").read_bytes() == pem
    assert report.warnings == []
    public = serialization.load_pem_public_key((tmp_path / "c1/salt/master.pub").read_bytes())
    assert public == key.public_key()


def test_a_master_whose_key_is_another_is_told(home: Path, tmp_path: Path) -> None:
    own = tmp_path / "master.pem"
    own.write_text("another key")
    assert any("is not the shared key" in text for text in store.bootstrap(home, plan(salt_master_key=own)).warnings)


def test_no_salt_key_where_masters_are_elsewhere(tmp_path: Path) -> None:
    store.bootstrap(tmp_path / "c1", plan(masters_on_nodes=False), now=NOW)
    assert not (tmp_path / "c1/salt").exists()


def test_missing_secrets_name_the_remedy(home: Path) -> None:
    with pytest.raises(FailedError, match="salt-run mnha.bootstrap cluster=c1"):
        store.for_node(home, "node9")
    (home / "nodes/node1/guard-token").unlink()
    with pytest.raises(FailedError, match=r"nodes/node1/guard-token"):
        store.for_node(home, "node1")


@pytest.mark.parametrize("name", ["../etc", "a/b", "", ".hidden"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        plan(cluster=name)
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        plan(nodes={name: ("192.168.93.3", "172.20.198.3")})
