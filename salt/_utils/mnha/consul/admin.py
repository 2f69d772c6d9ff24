"""What states do to a running Consul: policies, tokens, autopilot, and restarts that never cost the quorum.

Each `ensure_*` compares, changes only what differs, and returns what changed as `{what: {"old", "new"}}` (empty:
nothing); with `dry_run` it returns the same and changes nothing.

Policies and tokens are changed with the management token, which only masters have. Nodes see by their own tokens that
nothing is to be changed (`missing_token`), and ask a master only if something is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import FailedError, MnhaError, RefusedError
from ..keys import action
from . import acl, voters
from .client import ConsulClient
from .http import ForbiddenError

Changes = dict[str, dict[str, Any]]

RESTART_KEY = action("consul-restart")
STALE_S = 60.0
TOUCH_S = 10.0
STEADY_S = 5.0
"""More than two of autopilot's intervals, and as long as its stabilisation time."""
LEADERLESS_S = 45.0
POLL_S = 0.5
BOOTSTRAP_S = 10.0
"""How long a management token that Consul does not know may still become known: another node may be making it, and a
cluster that was just born takes no token before its servers agree on how tokens are kept."""
MANAGEMENT_POLICY = "00000000-0000-0000-0000-000000000001"
"""Consul's own policy that allows everything."""


def health(client: ConsulClient) -> dict[str, Any]:
    """Autopilot's view; see :func:`mnha.consul.voters.health`."""
    return client.call(voters.health)  # type: ignore[no-any-return]


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


def ensure_token(client: ConsulClient, name: str, accessor: str, secret: str, rules: str) -> Changes:
    """A token with this secret and the policy `name`, which must have these rules. Changes never show the secret."""
    rows = client.call(lambda consul: consul.acl.tokens.list()) or []
    found = next((row for row in rows if row["AccessorID"] == accessor), None)
    text = acl.description(name, rules)
    payload = {"AccessorID": accessor, "SecretID": secret, "Description": text, "Policies": [{"Name": name}]}
    changes: Changes = {f"token {name}": {"old": found and found["Description"], "new": text}}
    if found is None:
        client.call(lambda consul: consul.acl.tokens.create(payload))
        return changes
    present = client.call(lambda consul: consul.acl.tokens.get(accessor))
    if present["SecretID"] != secret:
        # A token's secret cannot be changed, so it is made anew.
        client.call(lambda consul: consul.acl.tokens.delete(accessor))
        client.call(lambda consul: consul.acl.tokens.create(payload))
        return changes
    if _is_as_wanted(present, name, accessor, text):
        return {}
    client.call(lambda consul: consul.acl.tokens.update(payload, accessor))
    return changes


def missing_token(client: ConsulClient, name: str, accessor: str, rules: str) -> Changes:
    """What is to be changed for `client`'s own token to be that of policy `name` with these rules; changes nothing.

    It takes no right to ask: a token may read itself, and its description tells the policy's rules by their digest.
    """
    text = acl.description(name, rules)
    try:
        own = client.call(lambda consul: consul.acl.tokens.self())
    except ForbiddenError:
        return {f"token {name}": {"old": None, "new": text}}
    if _is_as_wanted(own, name, accessor, text):
        return {}
    return {f"token {name}": {"old": own["Description"], "new": text}}


def _is_as_wanted(token: dict[str, Any], name: str, accessor: str, description: str) -> bool:
    policies = [row["Name"] for row in token.get("Policies") or []]
    return token["AccessorID"] == accessor and token["Description"] == description and policies == [name]


def ensure_management(client: ConsulClient, anonymous: ConsulClient, cluster: str, secret: str) -> Changes:
    """Consul knows the management token `secret`, which `client` bears; `anonymous` bears none.

    A cluster that was just born knows no token. Then anybody may have its first one made, once, and Consul 1.8 invents
    that by itself: ours is made with it, and it is deleted. Until then whoever reaches the API could be faster; the
    error below would tell.

    :raises FailedError: Consul knows tokens, but not this one, and has not come to know it within BOOTSTRAP_S.
    """
    end = time.monotonic() + BOOTSTRAP_S
    while True:
        try:
            if _is_known(client):
                return {}
            first = anonymous.call(lambda consul: consul.acl.bootstrap(), repeatable=False)
            return _make_management(client, cluster, secret, first)
        except MnhaError as error:
            if time.monotonic() > end:
                raise FailedError(
                    f"Consul of {cluster} does not know the management token of this master's secrets, and takes no"
                    f" first one: {error.message}. docs/security.md, Consul's first token, tells what to do"
                ) from error
            time.sleep(POLL_S)


def _make_management(client: ConsulClient, cluster: str, secret: str, first: dict[str, Any]) -> Changes:
    """Make the management token with Consul's own `first` one, and delete that."""
    name, accessor = f"mnha-{cluster}-management", acl.accessor_id(cluster, "management")
    policies = [{"ID": MANAGEMENT_POLICY}]
    payload = {"AccessorID": accessor, "SecretID": secret, "Description": name, "Policies": policies}
    client.call(lambda consul: consul.acl.tokens.create(payload, token=first["SecretID"]))
    client.call(lambda consul: consul.acl.tokens.delete(first["AccessorID"]))
    return {f"token {name}": {"old": None, "new": accessor}}


def _is_known(client: ConsulClient) -> bool:
    """Whether Consul knows the token that `client` bears."""
    try:
        client.call(lambda consul: consul.acl.tokens.self())
    except ForbiddenError:
        return False
    return True


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


@dataclass
class RestartInTurn:
    """Restarts this node's server when the quorum can do without it, one server of the cluster after the other.

    Invariant: `restart` is called only by the node that has the lock in Consul's store, and only after every server has
    been a healthy voter for STEADY_S without a break; or when there has been no leader for LEADERLESS_S, for then a
    restart cannot make it worse. A moment without a leader is not enough: so looks the restart of another server.
    """

    client: ConsulClient
    prefix: str
    node: str
    restart: Callable[[], None]
    wait_s: float = 300.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _index: int | None = None
    """The lock's index while this node has it."""

    def run(self) -> None:
        """Do it, or raise RefusedError: it did not become this node's turn, or the others healthy, within `wait_s`."""
        end = self.clock() + self.wait_s
        if not self._take_lock(end):
            self.restart()
            self._await_healthy(self.clock() + self.wait_s)
            return
        try:
            self._await_healthy(end)
            self.restart()
            self._await_healthy(self.clock() + self.wait_s)
        finally:
            self._release_lock()

    @property
    def _key(self) -> str:
        return f"{self.prefix}/{RESTART_KEY}"

    @property
    def _value(self) -> dict[str, Any]:
        return {"by": self.node}

    def _take_lock(self, end: float) -> bool:
        """Take the lock; False if there has been no leader for LEADERLESS_S.

        A lock that has not changed for STALE_S belongs to a node that died (a living one touches it), and is taken over
        by compare-and-set.
        """
        seen, since = -1, self.clock()
        leader_s = self.clock()
        why = ""
        while True:
            try:
                entry = self.client.get(self._key, consistent=True)
                leader_s, index = self.clock(), entry.index if entry else 0
                if index != seen:
                    seen, since = index, self.clock()
                is_free = entry is None or entry.value in (self._value, None) or self.clock() - since > STALE_S
                if is_free and self.client.cas(self._key, self._value, index):
                    self._note_index()
                    return True
                why = f"{entry.value.get('by')} is restarting its server" if entry else "another was faster"
            except ForbiddenError:
                raise
            except MnhaError as error:
                why = error.message
                if self.clock() - leader_s > LEADERLESS_S:
                    return False
            if self.clock() > end:
                raise RefusedError(
                    f"Consul at {self.node} is not restarted: it was not its turn within {self.wait_s:.0f} s ({why});"
                    " apply again later"
                )
            self.sleep(POLL_S)

    def _note_index(self) -> None:
        entry = self.client.get(self._key, consistent=True)
        if entry is None or entry.value != self._value:
            raise FailedError(f"the lock {self._key} was taken away just after it was got; apply again")
        self._index = entry.index

    def _touch(self) -> None:
        """Show the others that this node lives. A failure is no harm: they see the same leaderless cluster."""
        with contextlib.suppress(MnhaError):
            if self._index is not None and self.client.cas(self._key, self._value, self._index):
                self._note_index()

    def _release_lock(self) -> None:
        """Give it back; if that fails it becomes stale, which costs time but does no harm."""
        with contextlib.suppress(MnhaError):
            entry = self.client.get(self._key, consistent=True)
            if entry is not None and entry.value == self._value:
                self.client.delete(self._key, entry.index)
        self._index = None

    def _await_healthy(self, end: float) -> None:
        """Wait until all servers have been healthy voters, under one leader, for STEADY_S without a break.

        Autopilot looks every two seconds only, so its first answers after a restart are those of before.
        """
        steady_since, leader, touched, why = self.clock(), "", self.clock(), ""
        while True:
            try:
                state = health(self.client)
                now_leader = next((server["node"] for server in state["servers"] if server["leader"]), "")
                down = [server["node"] for server in state["servers"] if not server["healthy"]]
                margin = voters.Margin.of(state["servers"], len(self.client.servers))
                is_well = state["healthy"] and margin.is_full and margin.may_fail >= 1 and bool(now_leader)
                few = f"of {margin.servers} servers only {', '.join(margin.voters) or 'none'} vote"
                why = "" if is_well else f"not healthy: {', '.join(down)}" if down else few
                if not is_well or now_leader != leader or not self.client.leader(self.client.servers[0]):
                    steady_since, leader = self.clock(), now_leader
            except MnhaError as error:
                steady_since, why = self.clock(), error.message
            if self.clock() - steady_since >= STEADY_S:
                return
            if self.clock() > end:
                raise RefusedError(
                    f"Consul at {self.node} is not restarted, or not healthy since: within {self.wait_s:.0f} s the"
                    f" cluster did not become able to do without one server ({why}); repair the others and apply again"
                )
            if self.clock() - touched > TOUCH_S:
                self._touch()
                touched = self.clock()
            self.sleep(POLL_S)
