"""The keys of Ceph's clients in a cluster's store: `ceph/<vm>.key`, given by an operator, never made here.

Ceph makes them, and may replace them. So, unlike what :mod:`.store` makes once, a newer one takes an older one's place.
Each node gets all of them: each may run each VM.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import FailedError, InputError
from ..host import ceph

LONGEST = 4096


def of_file(path: str, user: str) -> str:
    """The key of client `user` in an operator's file.

    :raises InputError: it can't be read, others can read it too, or it holds no key of that client.
    """
    try:
        with open(path, encoding="ascii") as handle:
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            text = handle.read(LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    if mode & 0o077:
        raise InputError(f"{path} can be read by others (mode {mode:04o}): `chmod 600 {path}`, and give Ceph a new key")
    try:
        return ceph.key_of(text, user)
    except InputError as error:
        raise InputError(f"{path}: {error.message}") from None


def keep(folder: Path, vm: str, key: str, *, test: bool = False) -> bool:
    """Keep a VM's key in the store of its cluster; False: it was there already.

    :param folder: that of the cluster, which `mnha.bootstrap` has made.
    :param test: only tell, and write nothing.
    :raises FailedError: it can't be written.
    """
    path = folder / "ceph" / f"{vm}.key"
    if not folder.is_dir():
        raise FailedError(f"{folder} is missing: run `salt-run mnha.bootstrap {folder.name}` before")
    if keys(folder).get(vm) == key:
        return False
    if test:
        return True
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as handle:
            handle.write(f"{key}\n")
            handle.flush()
            os.fsync(fd)
        new.replace(path)
    except OSError as error:
        raise FailedError(f"{path} can't be written: {error.strerror}") from error
    return True


def keys(folder: Path) -> dict[str, str]:
    """VM -> its key, of a cluster's store; none that can't be read."""
    found = {}
    for path in sorted((folder / "ceph").glob("*.key")):
        try:
            found[path.stem] = ceph.checked(path.read_text(encoding="ascii").strip())
        except (OSError, UnicodeDecodeError, InputError):
            continue
    return found
