"""What systemd is told (sd_notify(3)), and what it keeps for the next process of this service (its file descriptor
store).
"""

from __future__ import annotations

import contextlib
import os
import socket

FIRST_FD = 3


def notify(text: str, *fds: int) -> None:
    """Tell systemd, and hand over `fds`; nothing happens outside of it, nor where it does not take more: a hanging
    PID 1 holds nobody up, and neither does one that is not there.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
            channel.setblocking(False)
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            socket.send_fds(channel, [text.encode()], list(fds))


def keep(name: str, fd: int | None) -> None:
    """Have systemd keep a copy of `fd` for the next process, whatever becomes of this one; None: no longer.

    The unit's ``FileDescriptorStoreMax=`` allows for it. It is no error if systemd can't be told: the copy is a net
    below others.
    """
    with contextlib.suppress(OSError):
        if fd is None:
            notify(f"FDSTOREREMOVE=1\nFDNAME={name}")
        else:
            notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", fd)


def kept(name: str) -> int | None:
    """The file descriptor of that name from systemd's store; None when there is none. It is not passed on to children,
    and can't be asked for twice.
    """
    fd = _listed(name)
    if fd is not None:
        os.set_inheritable(fd, False)
    return fd


def _listed(name: str) -> int | None:
    """The file descriptor of that name in sd_listen_fds(3)'s variables, which are removed."""
    pid, count, names = (os.environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or name not in names.split(":")[: int(count)]:
        return None
    return FIRST_FD + names.split(":").index(name)
