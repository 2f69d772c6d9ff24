"""What the guards of the other nodes say of themselves: their records in Consul, asked for when they matter."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ... import keys
from ...errors import MnhaError
from ..checks import MOUNT, STORAGE
from .consul import Servers, rows_of

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0


class OtherNodes:
    """The records ``nodes/<node>`` of the other nodes.

    :param prefix: the cluster's key prefix.
    :param node: this node, which is none of them.
    :param alive: tells of each other node whether Consul sees it alive: the record of a dead node is an old one.
    """

    def __init__(
        self, servers: Servers, prefix: str, node: str, alive: Callable[[], Mapping[str, Mapping[str, Any]]]
    ) -> None:
        self._servers, self._folder, self._node, self._alive = servers, f"{prefix}/{keys.NODES}", node, alive

    def with_storage(self, vm: str = "") -> str:
        """The nodes, for people, that are alive and whose guards find their storage well; empty if none is known.

        :param vm: that of this VM, where it has one of its own.

        Waits for Consul's answer, :data:`TIMEOUT_S` at the most.
        """
        alive = {node for node, seen in self._alive().items() if seen["alive"]}
        rows = self._rows()
        return ", ".join(sorted(alive & (with_image(vm, rows) if vm else with_storage(rows)) - {self._node}))

    def failing(self, check: str) -> set[str]:
        """The nodes whose guards say that a check of theirs fails; waits like :meth:`with_storage`."""
        return {node for node, ok in said_of(check, self._rows()).items() if ok is False}

    def _rows(self) -> list[dict[str, Any]]:
        """All nodes' records in the nearest server's own copy; none if they can't be read."""
        try:
            answer = self._servers.read(
                self._servers.pick(),
                TIMEOUT_S,
                lambda consul: consul.kv.get(self._folder, recurse=True, consistency="stale"),
            )
            return rows_of(answer.value, self._folder)
        except MnhaError as error:
            log.warning("the records of the other nodes can't be read: %s", error.message)
            return []


def with_storage(rows: list[dict[str, Any]]) -> set[str]:
    """Of Consul's rows of the nodes' records, those nodes whose storage is well, and mounted such that a VM may be
    started from it. What can't be read is not well.
    """
    mounted = said_of(MOUNT, rows)  # an older guard does not tell
    return {node for node, ok in said_of(STORAGE, rows).items() if ok is True and mounted.get(node, True) is True}


def with_image(vm: str, rows: list[dict[str, Any]]) -> set[str]:
    """Of Consul's rows of the nodes' records, those nodes that reach this VM's image. What can't be read is not
    well.
    """
    found = set()
    for row in rows:
        with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):
            record = json.loads(row["Value"] or b"")
            if record["guard"]["vms"][vm]["checks"]["image"]["ok"] is True:
                found.add(str(record["node"]))
    return found


def said_of(check: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Node -> what its record in Consul's rows says of a check; those that can't be read are left out."""
    found = {}
    for row in rows:
        try:
            record = json.loads(row["Value"] or b"")
            found[str(record["node"])] = record["checks"][check]["ok"]
        except (KeyError, TypeError, ValueError, RecursionError):
            continue
    return found
