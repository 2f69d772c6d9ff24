"""The guards' sockets as this machine reaches them: through the root of each node's first process in /proc."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from lab.cluster import Cluster
from lab.settings import VM_NAME, LabError

GUARD_SOCKET = "run/mnha/guard.sock"
TIMEOUT_S = 20.0


@contextlib.contextmanager
def stream(
    cluster: Cluster,
    node: str,
    request: dict[str, Any],
    timeout_s: float = TIMEOUT_S,
    opened: Callable[[socket.socket], None] = lambda channel: None,
) -> Iterator[IO[str]]:
    """The answers of a node's guard to one request, a line each.

    :param opened: takes the connection; who shuts it down ends the lines.
    :raises OSError: there is no guard.
    """
    path = Path("/proc") / str(cluster.node(node).init_pid()) / "root" / GUARD_SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(timeout_s)
        channel.connect(str(path))
        opened(channel)
        channel.sendall(json.dumps({"v": 1, **request}).encode() + b"\n")
        with channel.makefile("r", encoding="utf-8") as lines:
            yield lines


def ask(cluster: Cluster, node: str, op: str, timeout_s: float = TIMEOUT_S, **arguments: Any) -> dict[str, Any]:
    """One request to a node's guard; the whole answer, errors included.

    :raises LabError: it does not answer.
    """
    try:
        with stream(cluster, node, {"op": op, **arguments}, timeout_s) as lines:
            return json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise LabError(f"the guard of {node} does not answer: {error}") from error


def vm_status(cluster: Cluster, node: str, vm: str = VM_NAME) -> dict[str, Any]:
    """What a node's guard says of a VM.

    :raises LabError: it does not answer.
    """
    answer = ask(cluster, node, "status")
    if not answer["ok"]:
        raise LabError(f"the guard of {node}: {answer['error']['message']}")
    return answer["result"]["vms"][vm]


def runners(cluster: Cluster, vm: str = VM_NAME) -> list[str]:
    """The nodes whose guards say that the VM runs on them."""
    found = []
    for node in cluster.names:
        with contextlib.suppress(LabError):
            status = vm_status(cluster, node, vm)
            if status["state"] == "running" and status["vm"] == "running":
                found.append(node)
    return found


def wait_until_running(cluster: Cluster, timeout_s: float = 60.0, but: str = "", vm: str = VM_NAME) -> str:
    """Wait until some node (other than `but`) runs the VM; returns the node.

    :raises LabError: none does in time.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        found = [node for node in runners(cluster, vm) if node != but]
        if found:
            return found[0]
        time.sleep(0.2)
    raise LabError(f"no node runs {vm} within {timeout_s:g} s: `salt-run mnha.status` on a node says why")
