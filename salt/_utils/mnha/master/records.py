"""Consul's records, read by a master that is itself a node of the cluster: no minion and no other master is needed.

Such a machine has what it takes: the guard's configuration names the servers, and root may read the token of Salt's
modules. With that this only reads.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import keys
from ..consul.client import POLICY_TOKEN_FILE, ConsulClient
from ..consul.http import read_token
from ..errors import ConfigurationError, MnhaError
from . import history, unreadable, view

REQUEST_S = 0.5
"""Of each request: a server that is asked for what it knows answers within milliseconds."""
RENEWALS_S = 1.6
"""So long at the most the leases are watched for a renewal; with the default timings one comes each second."""
POLL_S = 0.2


class NodeRecords:
    """What this node can read.

    :param client: with the token of Salt's modules.
    :param cluster: its name.
    """

    def __init__(self, client: ConsulClient, cluster: str) -> None:
        self._client, self._prefix = client, f"{keys.folder(cluster)}/"

    def view(self) -> dict[str, Any]:
        """As :func:`mnha.master.view.view_of`, with `errors`; `consul` among them if it may be old.

        :raises MnhaError: no server answers, or it forbids it.
        """
        found = self._client.snapshot([self._prefix + below for below in view.SHOWN])
        values, faults = unreadable.sorted_out(found.entries, self._prefix)
        errors = {} if found.leader else {"consul": "no quorum of Consul in reach: no leader is known"}
        return {**view.view_of(values, found.members, found.servers, faults), "errors": errors}

    def history(self) -> dict[str, Any]:
        """All entries by key, as the nearest server knows them: without a quorum they are read most of all.

        :raises MnhaError: no server answers.
        """
        values, faults = unreadable.sorted_out(
            self._client.snapshot([self._prefix + keys.HISTORY]).entries, self._prefix
        )
        return history.readable(values, faults)

    def renewed_s(self, leases: Mapping[str, Any]) -> dict[str, float]:
        """VM -> how long ago, at the most, its lease was renewed; without those that nobody renewed while it looked.

        :param leases: `vms/<vm>/lease` -> the record as it was read first; those held by nobody don't matter.
        """
        first = {key: lease for key, lease in leases.items() if lease and lease.get("phase") != "released"}
        found: dict[str, float] = {}
        end_s = time.monotonic() + RENEWALS_S
        while len(found) < len(first) and time.monotonic() < end_s:
            before_s = time.monotonic()
            time.sleep(POLL_S)
            now, _ = unreadable.sorted_out(self._client.list(self._prefix + keys.VMS), self._prefix)
            for key, lease in first.items():
                if now.get(key) != lease:
                    found.setdefault(key, before_s)
        return {key.split("/")[1]: time.monotonic() - at_s for key, at_s in found.items()}


def of_this_node(cluster: str, guard_file: Path, token_file: Path = POLICY_TOKEN_FILE) -> NodeRecords | None:
    """The records if this machine is a node of `cluster`, else None.

    :param guard_file: the guard's configuration, where there is one.
    """
    try:
        conf = json.loads(guard_file.read_text(encoding="utf-8"))
        if conf["cluster"] != cluster:
            return None
        servers, token = conf["consul"]["servers"], read_token(token_file)
        client = ConsulClient(
            [server["host"] for server in servers], token, f"the token in {token_file}", Path(conf["consul"]["ca"]),
            servers[0]["port"], REQUEST_S,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, ConfigurationError):
        return None
    return NodeRecords(client, cluster)


class Reading:
    """A status' part of it, in a thread of its own, while minions are asked."""

    def __init__(self, records: NodeRecords) -> None:
        self._records = records
        self._view: dict[str, Any] | None = None
        self._renewed_s: dict[str, float] = {}
        self._began_s = time.monotonic()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self._view = self._records.view()
            leases = {key: value for key, value in self._view["vms"].items() if keys.vm_of_lease(key)}
            found = self._records.renewed_s(leases)
            done_s = time.monotonic()
            self._renewed_s = {vm: age_s - done_s for vm, age_s in found.items()}
        except MnhaError as error:
            self._view = self._view or {"errors": {"consul": error.message}}

    def result(self, limit_s: float, with_renewals: bool) -> tuple[dict[str, Any] | None, dict[str, float]]:
        """The view, None if there is none in time, and VM -> seconds since the last renewal that was seen.

        :param limit_s: since the beginning.
        :param with_renewals: wait for them too; without, only the view is waited for.
        """
        while self._thread.is_alive() and time.monotonic() < self._began_s + limit_s:
            if self._view is not None and not with_renewals:
                break
            self._thread.join(0.02)
        now_s = time.monotonic()
        return self._view, {vm: now_s + offset_s for vm, offset_s in self._renewed_s.items()}
