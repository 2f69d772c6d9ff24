"""A node's Consul policies and tokens, and autopilot's settings: what is missing, and how it comes to be.

Only masters have the management token, and a master need not reach Consul. So a node finds out with its own tokens
what is missing (`Roles.missing`), asks for it by an event (`asked`), and a master that has the same in mind for this
node (`Roles.digest`) has it done on that very node (`Roles.make`), with the management token handed along.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import FailedError, MnhaError, RefusedError
from . import acl, admin
from . import server_config as consul_config
from .admin import Changes
from .client import ConsulClient

WAIT_S = 90.0
ASK_EVERY_S = 15.0
"""A master is asked again after so long: the first event may have met one that was just being restarted."""
POLL_S = 0.5


@dataclass(frozen=True)
class Roles:
    """The roles of `node`; `vms` are the cluster's, `servers` how many nodes it has."""

    cluster: str
    node: str
    vms: Sequence[str]
    servers: int

    def missing(self, client: ConsulClient, role: str) -> Changes:
        """What is to be changed for `client`'s token to be that of `role`; changes nothing."""
        return admin.missing_token(client, *self._of(role))

    def missing_settings(self, client: ConsulClient) -> Changes:
        """What is to be changed of autopilot's settings; `client` bears the token of role policy."""
        return admin.ensure_autopilot(client, self._settings, dry_run=True)

    def make(
        self,
        client: ConsulClient,
        anonymous: ConsulClient,
        management_token: str,
        secrets: Mapping[str, str],
        wanted: str | None = None,
    ) -> Changes:
        """Make everything as it should be.

        :param client: bears the management token; `anonymous` bears none.
        :param secrets: `<role>_token` -> the token, for each role.
        :param wanted: the digest of what is wanted, if anybody asked.
        :raises RefusedError: something else is wanted.
        """
        if wanted not in (None, self.digest(secrets)):
            raise RefusedError(
                f"{self.node} wants other secrets or policies than this master has; another one has them"
            )
        changes = admin.ensure_management(client, anonymous, self.cluster, management_token)
        for role in acl.ROLES:
            name, accessor, rules = self._of(role)
            changes |= admin.ensure_policy(client, name, rules)
            changes |= admin.ensure_token(client, name, accessor, secrets[f"{role}_token"], rules)
        return changes | admin.ensure_autopilot(client, self._settings)

    def digest(self, secrets: Mapping[str, str]) -> str:
        """What `make` would make with these secrets, in short: two masters agree on a node if they have the same.

        Masters do not always have the same secrets and pillar: they get them when the states are applied there. One
        that has others than the run of states that asks would make what that run would have to undo.
        """
        wanted = [(*self._of(role), secrets[f"{role}_token"]) for role in acl.ROLES]
        return hashlib.sha256(json.dumps([wanted, self._settings], sort_keys=True).encode()).hexdigest()

    def _of(self, role: str) -> tuple[str, str, str]:
        """Policy's name, token's accessor, rules."""
        return (
            acl.policy_name(self.cluster, role, self.node),
            acl.accessor_id(self.cluster, role, self.node),
            acl.rules(self.cluster, role, self.node, self.vms),
        )

    @property
    def _settings(self) -> dict[str, object]:
        return consul_config.autopilot_settings(self.servers)


def asked(
    missing: Callable[[], Changes],
    ask: Callable[[], object],
    dry_run: bool = False,
    wait_s: float = WAIT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Changes:
    """What was `missing`, now that nothing is any more: a master is asked for it as often as it takes.

    With `dry_run` nobody is asked. Errors are waited for, too: other nodes may be restarting their servers.

    :raises FailedError: something still is missing after `wait_s`.
    """
    end, asked_s = clock() + wait_s, float("-inf")
    changes: Changes = {}
    while True:
        try:
            left = missing()
            changes = changes or left
            if not left or dry_run:
                return changes
            why = f"no master has made {', '.join(left)}"
            if clock() - asked_s > ASK_EVERY_S:
                asked_s = clock()
                ask()
        except MnhaError as error:
            why = error.message
        if clock() > end:
            raise FailedError(f"{why} (waited for {wait_s:.0f} s)")
        sleep(POLL_S)
