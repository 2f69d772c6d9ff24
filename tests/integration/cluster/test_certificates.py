"""A certificate that ends soon is told in time, with what to type; the VM does not notice."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mnha.daemon.adapters.certificates import LOOK_S
from mnha.host.libvirtd import CERTIFICATE_FILE, PKI_FOLDER
from tests.support.scene import Scene, eventually

FILE = f"{PKI_FOLDER}/{CERTIFICATE_FILE}"
SLACK_S = 20.0


def ending_in(days: float) -> str:
    """A certificate that nobody uses here, for libvirt has read its own when it began."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "test")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=100)).not_valid_after(now + datetime.timedelta(days=days))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def kept(scene: Scene) -> Iterator[Scene]:
    """A candidate's certificate for libvirt is put back in the end."""
    node = scene.others[0]
    before = scene.cluster.file(node, FILE).read_text()
    yield scene
    scene.cluster.write_file(node, FILE, before, mode=0o600)


@pytest.mark.nightly
def test_a_certificate_that_ends_is_told_before_and_after(kept: Scene) -> None:
    scene, node = kept, kept.others[0]

    def told(days: float, words: str) -> tuple[int, str]:
        scene.cluster.write_file(node, FILE, ending_in(days), mode=0o600)

        def answer() -> tuple[int, str] | None:
            code, status, _ = scene.salt_run(scene.holder, "status")
            return next(((code, text) for text in status["warnings"] if FILE in text and words in text), None)

        return eventually(answer, LOOK_S + SLACK_S, f"{words} is told")  # type: ignore[no-any-return]

    code, text = told(10.5, "in 10 days")
    assert code == 0, text
    assert text.startswith(f"{node}: libvirt's certificate")
    assert "renew_certificates=True`, then `salt '*' state.apply`" in text
    code, text = told(-1.0, "ended on")
    assert code == 1, text
    scene.await_renewals()
