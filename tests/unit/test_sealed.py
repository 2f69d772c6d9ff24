"""A sealed secret: opened by the one it is for, by nobody else, and never the same twice."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mnha.errors import FailedError
from mnha.secrets.sealed import seal, unseal

TOKEN = "5b9d1c9e-1d4e-4a53-9f7e-6d6e766d0001"
PKCS8 = serialization.PrivateFormat.PKCS8


def pair(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, form: serialization.PublicFormat) -> tuple[str, str]:
    private = key.private_bytes(serialization.Encoding.PEM, PKCS8, serialization.NoEncryption())
    return private.decode(), key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("form", [serialization.PublicFormat.SubjectPublicKeyInfo, serialization.PublicFormat.PKCS1])
def test_the_one_it_is_for_opens_it(key: rsa.RSAPrivateKey, form: serialization.PublicFormat) -> None:
    private, public = pair(key, form)
    sealed = seal(TOKEN, public)
    assert TOKEN.encode() not in base64.b64decode(sealed, validate=True)
    assert unseal(sealed, private) == TOKEN
    assert seal(TOKEN, public) != sealed


def test_nobody_else_opens_it(key: rsa.RSAPrivateKey) -> None:
    _, public = pair(key, serialization.PublicFormat.SubjectPublicKeyInfo)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, _ = pair(other, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(FailedError, match="not sealed for this minion"):
        unseal(seal(TOKEN, public), private)


@pytest.mark.parametrize("damaged", ["", "nonsense", TOKEN, "AAAA"])
def test_what_is_damaged_is_told(key: rsa.RSAPrivateKey, damaged: str) -> None:
    private, _ = pair(key, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(FailedError, match="not sealed for this minion"):
        unseal(damaged, private)


def test_another_kind_of_key_is_refused() -> None:
    private, public = pair(ec.generate_private_key(ec.SECP256R1()), serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(FailedError, match="no RSA key"):
        seal(TOKEN, public)
    with pytest.raises(FailedError, match="no RSA key"):
        unseal("AAAA", private)
