"""Who may do what in Consul: one policy a role and node, in Consul's rule language.

| role | who | may write | may read |
|---|---|---|---|
| agent | the node's Consul agent | its own node and agent record | nodes, services |
| guard | the node's guard | leases, last_start, disk, share, history, `nodes/<node>` | the cluster's keys, nodes |
| policy | Salt there | desired, actions, maintenance, config, masters, versions, history | the same, agents, operator |

So Salt cannot write a lease and a guard cannot write an operator's intent, even by mistake. No role may read or write
a policy, a token or a snapshot. Consul knows no right to write a key without that to delete it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import Any

from ..errors import ConfigurationError
from ..keys import (
    ACTIONS,
    CONFIG,
    HISTORY,
    MAINTENANCE,
    MASTERS,
    SHARE,
    VERSIONS,
    desired,
    disk,
    folder,
    last_start,
    lease,
)
from ..keys import node as node_key

ROLES = ("agent", "guard", "policy")
_NAMESPACE = uuid.UUID("5d0a1c7e-6c53-4d54-9a0e-9d2b6a3f7e10")


def policy_name(cluster: str, role: str, node: str) -> str:
    """Name of the policy of `role` on `node`."""
    if role not in ROLES:
        raise ConfigurationError(f"{role!r} is not a role; use one of {', '.join(ROLES)}")
    return f"mnha-{cluster}-{role}-{node}"


def accessor_id(cluster: str, role: str, node: str = "") -> str:
    """A token's public name: derived, so that each run finds the token that an earlier one made.

    :param node: none for `management`, the token of the whole cluster.
    """
    name = policy_name(cluster, role, node) if node else f"mnha-{cluster}-{role}"
    return str(uuid.uuid5(_NAMESPACE, name))


def description(name: str, text: str) -> str:
    """What a token of policy `name` is described with: name and digest of the policy's rules.

    A token may read its own description, so its bearer sees whether it stands for these very rules, though it may not
    read policies.
    """
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def rules(cluster: str, role: str, node: str, vms: Sequence[str]) -> str:
    """The rules of `role` on `node`, as JSON (which Consul reads like HCL)."""
    make = {"agent": _agent, "guard": _guard, "policy": _policy}
    if role not in make:
        raise ConfigurationError(f"{role!r} is not a role; use one of {', '.join(ROLES)}")
    return json.dumps(make[role](folder(cluster), node, vms), sort_keys=True)


def _agent(prefix: str, node: str, vms: Sequence[str]) -> dict[str, Any]:
    return {
        "node": {node: {"policy": "write"}},
        "agent": {node: {"policy": "write"}},
        "node_prefix": {"": {"policy": "read"}},
        "service_prefix": {"": {"policy": "read"}},
    }


def _guard(prefix: str, node: str, vms: Sequence[str]) -> dict[str, Any]:
    writes = [f"{prefix}/{node_key(node)}", f"{prefix}/{SHARE}"]
    for vm in vms:
        writes += [f"{prefix}/{lease(vm)}", f"{prefix}/{last_start(vm)}", f"{prefix}/{disk(vm)}"]
    return {
        "key": {key: {"policy": "write"} for key in writes},
        "key_prefix": {f"{prefix}/": {"policy": "read"}, f"{prefix}/{HISTORY}": {"policy": "write"}},
        "node_prefix": {"": {"policy": "read"}},
    }


def _policy(prefix: str, node: str, vms: Sequence[str]) -> dict[str, Any]:
    writes = [f"{prefix}/{CONFIG}", *(f"{prefix}/{desired(vm)}" for vm in vms)]
    folders = [f"{prefix}/{name}" for name in (ACTIONS, MAINTENANCE, HISTORY, MASTERS, VERSIONS)]
    return {
        "key": {key: {"policy": "write"} for key in writes},
        "key_prefix": {f"{prefix}/": {"policy": "read"}, **{name: {"policy": "write"} for name in folders}},
        "node_prefix": {"": {"policy": "read"}},
        "service_prefix": {"": {"policy": "read"}},
        "agent_prefix": {"": {"policy": "read"}},
        "operator": "read",
    }
