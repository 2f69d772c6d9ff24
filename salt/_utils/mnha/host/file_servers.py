"""Whether a mount that failed may succeed later by itself: its server is silent, or its device is not there yet. A
server that answers, and a program of this host, have refused; they will do so again.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path

from . import mounting

PORTS = {"nfs": 2049, "glusterfs": 24007, "cifs": 445, "ceph": 3300}
"""Where a server of such a file system listens."""
LIMIT_S = 5.0


def is_silent(wanted: mounting.Wanted) -> bool:
    """Whether nobody is there who could have refused the mount. A name that nobody knows is refused, one that can't be
    asked for is not. Of types whose servers are not known only a device counts.
    """
    kind = mounting.type_of(wanted.kind)
    if kind not in PORTS:
        return is_device(wanted.source) and not Path(wanted.source).exists()
    hosts = servers(kind, wanted.source)
    port = port_of(wanted.options) or PORTS[kind]
    return bool(hosts) and all(_is_silent(host, port) for host in hosts)


def is_device(source: str) -> bool:
    """Whether a device of this host is mounted, by its path."""
    return source.startswith("/dev/")


def servers(kind: str, source: str) -> list[str]:
    """The servers that a source names."""
    if kind == "cifs":
        return [source.removeprefix("//").partition("/")[0]]
    if bracketed := re.match(r"\[([^\]]+)\]:", source):
        return [bracketed[1]]
    if kind == "ceph":
        monitors = source.partition(":/")[0] if ":/" in source else ""
        return [one.partition(":")[0] for one in monitors.split(",") if one]
    return [one for one in source.partition(":")[0].split(",") if one and "/" not in one]


def port_of(options: Iterable[str]) -> int:
    """The port that options name; 0: none."""
    named = dict(option.partition("=")[::2] for option in options)
    return int(named["port"]) if named.get("port", "").isdigit() else 0


def _is_silent(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), LIMIT_S).close()
    except socket.gaierror as error:
        return error.errno != socket.EAI_NONAME
    except (OSError, OverflowError):
        return True
    return False
