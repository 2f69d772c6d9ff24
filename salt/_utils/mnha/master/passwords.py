"""A new password for the guest: made up, or read from a file; never one that is well known.

It is no argument of any verb, and no verb returns it: both end up in the job cache of the masters and on their event
bus.
"""

from __future__ import annotations

import os
import secrets
import stat

from ..errors import InputError

LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without those that look like others: l, I, O, 0 and 1."""
LENGTH = 16
"""93 bits."""
SHORTEST, LONGEST = 8, 128


def made_up() -> str:
    """A password that nobody knows yet."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


def of_file(path: str) -> str:
    """The password in a file: its only line.

    :raises InputError: it can't be read, others can read it too, or it holds no password.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            text = handle.read(LONGEST + 2)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    if mode & 0o077:
        raise InputError(
            f"{path} can be read by others (mode {mode:04o}): `chmod 600 {path}`, and think of another one"
        )
    password = text.removesuffix("\n").removesuffix("\r")
    if not SHORTEST <= len(password) <= LONGEST or not password.isprintable():
        raise InputError(f"{path} holds no password: write one line of {SHORTEST} to {LONGEST} letters into it")
    return password
