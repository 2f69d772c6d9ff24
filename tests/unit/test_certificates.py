"""When certificates end, by their files, as the authority of this project and others make them."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mnha.daemon.adapters.certificates import Certificates
from mnha.host.certificates import end_of
from mnha.master import certificates
from mnha.secrets import store

NOW = datetime.datetime(2026, 3, 1, 12, 30, 15, tzinfo=datetime.UTC)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A node's files as the states write them."""
    store.bootstrap(tmp_path / "secrets", store.Plan("t", "t", {"n1": ["127.0.0.1"]}, False), now=NOW)
    mine = store.for_node(tmp_path / "secrets", "n1")
    libvirt = tmp_path / "libvirt"
    libvirt.mkdir()
    (tmp_path / "ca.pem").write_text(mine["ca"])
    (tmp_path / "node.pem").write_text(mine["certificate"])
    (libvirt / "cacert.pem").write_text(mine["ca"])
    (libvirt / "clientcert.pem").write_text(mine["libvirt_certificate"])
    return tmp_path


def looked_at(node: Path) -> dict[str, dict]:
    looking = Certificates(node / "ca.pem", node / "libvirt")
    assert looking.seen() == {}
    looking._look()
    return looking.seen()


def test_each_certificate_of_a_node_is_told_with_its_end_and_nothing_else_of_it(node: Path) -> None:
    seen = looked_at(node)
    ends = {name: datetime.datetime.fromtimestamp(one["ends_s"], datetime.UTC) for name, one in seen.items()}
    own, authority = (NOW + datetime.timedelta(days=days) for days in (store.NODE_DAYS, store.AUTHORITY_DAYS))
    assert ends == {"authority": authority, "consul": own, "libvirt authority": authority, "libvirt": own}
    assert {tuple(one) for one in seen.values()} == {("file", "ends_s", "why")}


def test_a_file_that_is_missing_or_broken_is_told_and_no_other_suffers(node: Path) -> None:
    (node / "libvirt/clientcert.pem").unlink()
    (node / "node.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    seen = looked_at(node)
    assert seen["libvirt"]["why"] == "No such file or directory"
    assert seen["consul"]["why"].startswith("its certificate can't be read")
    assert seen["authority"]["ends_s"]
    words = certificates.told({"certificates": seen}, time.time())
    assert [(word.name, word.is_fault) for word in words] == [("consul", True), ("libvirt", True)]
    assert "can't be read: No such file or directory; state.apply writes it" in words[1].text


@pytest.mark.parametrize(
    "end", ["2031-05-06T07:08:09", "2049-12-31T23:59:59", "2050-01-01T00:00:00", "2120-01-01T00:00:00"]
)
@pytest.mark.parametrize("kind", ["ec", "a key before it"])
def test_ends_in_both_notations_of_time(tmp_path: Path, end: str, kind: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "n" * 60)])
    wanted = datetime.datetime.fromisoformat(end).replace(tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1 << 150).not_valid_before(NOW).not_valid_after(wanted).sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "one.pem"
    path.write_bytes((private if kind != "ec" else b"") + made.public_bytes(serialization.Encoding.PEM))
    assert end_of(path) == wanted == made.not_valid_after_utc


@pytest.mark.parametrize("text", ["", "nothing", "-----END CERTIFICATE----------BEGIN CERTIFICATE-----"])
def test_what_is_no_certificate_is_no_end(tmp_path: Path, text: str) -> None:
    path = tmp_path / "one.pem"
    path.write_text(text)
    with pytest.raises(ValueError, match="no certificate"):
        end_of(path)


def test_an_authority_that_ends_is_renewed_in_another_way() -> None:
    told = {"authority": {"file": "/etc/mnha/tls/ca.pem", "ends_s": 10.0, "why": ""}}
    (word,) = certificates.told({"certificates": told, "cluster": "t"}, 5.0)
    assert not word.is_fault
    assert "in 0 days: docs/security.md" in word.text
