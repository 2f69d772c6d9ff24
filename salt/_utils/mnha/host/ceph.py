"""What Ceph's own programs are told on a node, and the key of a client of Ceph. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from ..errors import InputError

HEAD = "# Managed by Salt (states.storage): changes are lost at the next state.apply.\n"
ANSWER_S = 5
"""What is asked of a Ceph that does not answer fails after so many seconds. QEMU waits for ever, as a guest has to."""
KEY_BYTES = 28
"""Of a cephx key: its kind and length, when it was made, and 16 bytes of secret."""


def configuration(monitors: Sequence[str], keyring: str) -> str:
    """The configuration file of the guard's own questions to Ceph. QEMU does not read it.

    :param keyring: where the key lies.
    """
    return HEAD + (
        "[global]\n"
        f"mon host = {','.join(monitors)}\n"
        f"keyring = {keyring}\n"
        f"client mount timeout = {ANSWER_S}\n"
        f"rados mon op timeout = {ANSWER_S}\n"
        f"rados osd op timeout = {ANSWER_S}\n"
        "rbd cache = false\n"
        "rbd blocklist on break lock = false\n"  # done before, for longer
        "log file =\n"
        "admin socket =\n"
    )


def keyring(user: str, key: str) -> str:
    """The file with a client's key."""
    return f"[client.{user}]\nkey = {key}\n"


def key_of(text: str, user: str) -> str:
    """The key in a text: of that client in a keyring (`ceph auth get client.USER`), or alone (`ceph auth get-key`).

    :raises InputError: there is none; the message never shows the text.
    """
    sections = dict(re.findall(r"^\s*\[([^\]\n]+)\]([^\[]*)", text, re.MULTILINE))
    if sections:
        lines = re.findall(r"^\s*key\s*=\s*(\S+)\s*$", sections.get(f"client.{user}", ""), re.MULTILINE)
        if not lines:
            raise InputError(f"it has no key of client.{user}: write `ceph auth get client.{user}` into it")
        return checked(lines[0])
    return checked(text.strip())


def checked(key: str) -> str:
    """A cephx key, as it is.

    :raises InputError: it is none.
    """
    try:
        found = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if len(found) != KEY_BYTES or found[:2] != b"\1\0":
        raise InputError("it holds no cephx key: write what `ceph auth get-key client.USER` prints into it")
    return key
