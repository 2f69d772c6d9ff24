"""A short secret on its way from a master to one node, closed to everybody else on the way.

What a master orders ends up in its job cache, on its event bus and, while it runs, in a file on the node. So the secret
is encrypted to the node's Salt key (RSA-OAEP), whose public half the master has accepted: only that minion can open it.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ..errors import FailedError

_PADDING = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=b"mnha")


def seal(secret: str, public_key: str) -> str:
    """`secret` (at most some hundred bytes) for the owner of a key, as text.

    :param public_key: PEM.
    """
    key = serialization.load_pem_public_key(public_key.encode())
    if not isinstance(key, rsa.RSAPublicKey):
        raise FailedError("the minion's key is no RSA key, and nothing can be sealed with another")
    return base64.b64encode(key.encrypt(secret.encode(), _PADDING)).decode()


def unseal(sealed: str, private_key: str) -> str:
    """The secret again.

    :param private_key: PEM.
    :raises FailedError: it was not sealed for this key, or is damaged.
    """
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise FailedError("this minion's key is no RSA key, and nothing can be unsealed with another")
    try:
        return key.decrypt(base64.b64decode(sealed, validate=True), _PADDING).decode()
    except (ValueError, binascii.Error) as error:
        raise FailedError("what the master sent is not sealed for this minion's key") from error
