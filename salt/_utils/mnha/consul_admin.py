"""What states do to a running Consul: policies, tokens, autopilot, and restarts that never cost the quorum.

Each `ensure_*` compares, changes only what differs, and returns what changed as `{what: {"old", "new"}}` (empty:
nothing); with `dry_run` it returns the same and changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consul.std import Consul

from .consul_client import ConsulClient, Entry
from .errors import FailedError, MnhaError, RefusedError

Changes = dict[str, dict[str, Any]]

RESTART_KEY = "actions/consul-restart"
STALE_S = 120.0
POLL_S = 0.5


def health(client: ConsulClient) -> dict[str, Any]:
    """Autopilot's view: is every server healthy, how many may fail, and each server's row."""

    def ask(consul: Consul) -> dict[str, Any]:
        def callback(response: Any) -> dict[str, Any] | None:
            # 429 is this call's way to say "not all are healthy"; the body is as good as with 200.
            return json.loads(response.body) if response.code in (200, 429) else None

        headers = {"X-Consul-Token": consul.token}
        answer = consul.http.get(callback, "/v1/operator/autopilot/health", headers=headers)
        # Anything else: the library's own call turns the status into its exceptions.
        return answer if answer is not None else consul.operator.autopilot.health()

    answer = client.call(ask)
    servers = [
        {
            "node": server["Name"],
            "address": server["Address"],
            "alive": server["SerfStatus"] == "alive",
            "leader": server["Leader"],
            "voter": server["Voter"],
            "healthy": server["Healthy"],
            "version": server["Version"],
        }
        for server in sorted(answer["Servers"] or [], key=lambda server: server["Name"])
    ]
    return {"healthy": answer["Healthy"], "may_fail": answer["FailureTolerance"], "servers": servers}


def ensure_policy(client: ConsulClient, name: str, rules: str, dry_run: bool = False) -> Changes:
    """A policy with exactly these rules."""
    rows = client.call(lambda consul: consul.acl.policy.list()) or []
    found = next((row for row in rows if row["Name"] == name), None)
    if found is None:
        if not dry_run:
            client.call(lambda consul: consul.acl.policy.create(name, rules=rules))
        return {f"policy {name}": {"old": None, "new": rules}}
    present = client.call(lambda consul: consul.acl.policy.get(policy_id=found["ID"]))["Rules"]
    if present == rules:
        return {}
    if not dry_run:
        client.call(lambda consul: consul.acl.policy.update(found["ID"], name, rules=rules))
    return {f"policy {name}": {"old": present, "new": rules}}


def ensure_token(client: ConsulClient, name: str, accessor: str, secret: str, dry_run: bool = False) -> Changes:
    """A token with this secret and the policy of the same name. Changes never show the secret."""
    rows = client.call(lambda consul: consul.acl.tokens.list()) or []
    found = next((row for row in rows if row["AccessorID"] == accessor), None)
    payload = {"AccessorID": accessor, "SecretID": secret, "Description": name, "Policies": [{"Name": name}]}
    if found is not None:
        present = client.call(lambda consul: consul.acl.tokens.get(accessor))
        policies = sorted(row["Name"] for row in present.get("Policies") or [])
        if present["SecretID"] == secret and policies == [name]:
            return {}
        if not dry_run:
            # A token's secret cannot be changed, so it is made anew.
            client.call(lambda consul: consul.acl.tokens.delete(accessor))
    if not dry_run:
        client.call(lambda consul: consul.acl.tokens.create(payload))
    return {f"token {name}": {"old": None if found is None else "other", "new": accessor}}


def ensure_autopilot(client: ConsulClient, settings: dict[str, Any], dry_run: bool = False) -> Changes:
    """Autopilot's settings through the operator API: the configuration file counts only when a cluster is born."""
    present = client.call(lambda consul: consul.operator.autopilot.configuration())
    # A version that does not know a setting leaves it out; then there is nothing to set.
    different = {key: value for key, value in settings.items() if key in present and present[key] != value}
    if not different:
        return {}
    if not dry_run:
        keep = {key: value for key, value in present.items() if not key.endswith("Index")}
        client.call(lambda consul: consul.operator.autopilot.update({**keep, **different}))
    return {f"autopilot {key}": {"old": present[key], "new": value} for key, value in sorted(different.items())}


@dataclass(frozen=True)
class RestartInTurn:
    """Restarts this node's server when the quorum can do without it, one server of the cluster after the other.

    Invariant: `restart` is called only while every server is healthy and this node has the lock in Consul's store; or
    while there is no leader at all, when a restart cannot make it worse.
    """

    client: ConsulClient
    prefix: str
    node: str
    restart: Callable[[], None]
    wait_s: float = 300.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> None:
        """Do it, or raise RefusedError: the other servers did not become healthy in time, and nothing was restarted."""
        end = self.clock() + self.wait_s
        if not self.client.leader():
            self.restart()
            self._await_healthy(end)
            return
        index = self._lock(end)
        try:
            self._await_healthy(end)
            self.restart()
            self._await_healthy(end)
        finally:
            self._unlock(index)

    def _await_healthy(self, end: float) -> None:
        why = ""
        while True:
            try:
                state = health(self.client)
                if state["healthy"] and state["may_fail"] >= 1:
                    return
                down = [server["node"] for server in state["servers"] if not server["healthy"]]
                why = f"not healthy: {', '.join(down) or 'too few servers'}"
            except MnhaError as error:
                why = error.message
            if self.clock() > end:
                raise RefusedError(
                    f"Consul at {self.node} is not restarted, or not healthy since: within {self.wait_s:.0f} s the"
                    f" cluster did not become able to do without one server ({why}); repair the others and apply again"
                )
            self.sleep(POLL_S)

    @property
    def _key(self) -> str:
        return f"{self.prefix}/{RESTART_KEY}"

    def _lock(self, end: float) -> int:
        """Take the lock; one that has not changed for STALE_S belongs to a node that died, and is taken over by CAS."""
        value = {"by": self.node, "at": time.time()}
        seen: Entry | None = None
        since = self.clock()
        while True:
            entry = self.client.get(self._key, consistent=True)
            if entry is None or seen is None or entry.index != seen.index:
                seen, since = entry, self.clock()
            is_free = entry is None or self.clock() - since > STALE_S or entry.value.get("by") == self.node
            if is_free and self.client.cas(self._key, value, entry.index if entry else 0):
                taken = self.client.get(self._key, consistent=True)
                if taken is None or taken.value != value:
                    raise FailedError(f"the lock {self._key} vanished just after it was taken; apply again")
                return taken.index
            if self.clock() > end:
                raise RefusedError(
                    f"{self._key} is held by {entry.value if entry else 'another node'}; apply again later"
                )
            self.sleep(POLL_S)

    def _unlock(self, index: int) -> None:
        """Give it back; if that fails it becomes stale, which costs time but does no harm."""
        with contextlib.suppress(MnhaError):
            self.client.delete(self._key, index)
