"""The cluster's configuration as states and modules of this minion see it.

Every SLS starts with `{% set conf = salt['mnha_config.get']() %}`. A wrong pillar makes that call fail, so the run ends
while it is still being rendered: all faults are listed, nothing is applied.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

import mnha

mnha.forget_if_changed()

from mnha import config, keys  # noqa: E402
from mnha.errors import MnhaError  # noqa: E402
from mnha.host import libvirtd as libvirt_config  # noqa: E402

log = logging.getLogger(__name__)

__virtualname__ = "mnha_config"
_CACHE = "mnha_config.cluster"
_TOLD = "mnha_config.told"
_APPLIED = keys.CONFIG


def __virtual__():
    return __virtualname__


def get() -> dict[str, Any]:
    """The validated configuration: `cluster` (all keys, defaults included, None where nothing is), `node` (this
    minion), `own` (its entry of `nodes`), `peers` (the other nodes' names).

    Fails with every fault of the pillar at once; a second call in the same run only refers to the first.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.get
    """
    checked = cluster()
    node = __opts__["id"]
    mapping = checked.model_dump(mode="json")
    return {
        "cluster": mapping,
        "node": node,
        "own": mapping["nodes"][node],
        "peers": [name for name in mapping["nodes"] if name != node],
    }


def cluster() -> config.ClusterConfig:
    """The checked configuration itself, for other modules; `get` is what templates and the command line use.

    Kept as long as the pillar stays equal, for a run asks for it some twenty times.

    CLI Example:

    .. code-block:: bash

        salt-call --local mnha_config.cluster
    """
    raw = (__pillar__.get("mnha") or {}).get("cluster")
    cached = __context__.get(_CACHE)
    if cached is not None and cached[0] == raw:
        return cached[1]
    try:
        checked = config.load({"mnha": {"cluster": raw}})
        checked.require_node(__opts__["id"])
    except MnhaError as error:
        if __context__.get(_TOLD) == error.message:
            raise CommandExecutionError("the pillar is wrong, see above") from error
        __context__[_TOLD] = error.message
        text = f"the pillar of {__opts__['id']} is wrong, nothing was applied: {error.message}"
        raise CommandExecutionError(text) from error
    __context__[_CACHE] = (raw, checked)
    return checked


def guard() -> dict[str, Any]:
    """What stands in the guard's configuration file on this node.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.guard
    """
    return config.guard_config(cluster(), __opts__["id"])


def fencer() -> dict[str, Any]:
    """What stands in the fencer's configuration file on this node.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.fencer
    """
    return config.fencer_config(cluster())


def libvirtd() -> dict[str, str]:
    """What stands in libvirtd.conf on this node so that VMs can be migrated, values as they stand there.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.libvirtd
    """
    return libvirt_config.daemon_settings(cluster().name, __opts__["id"], list(cluster().nodes))


def record(test: bool = False) -> dict[str, Any]:
    """Keep the configuration in Consul as the applied one, so that status can tell when the pillar has moved on.

    Its version grows with each change. Returns what changed; nothing if it is the same as before. Of several nodes that
    do this at once one writes.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.record test=True
    """
    wanted = cluster()
    entry = __salt__["consul_ha.kv_get"](_APPLIED, consistent=True)
    old = _applied(entry)
    if old is not None and old.cluster == wanted:
        return {}
    version = 1 if old is None else old.version + 1
    changes = {"version": {"old": None if old is None else old.version, "new": version}}
    if test:
        return changes
    value = json.loads(config.applied_to_json(config.Applied(version, wanted)))
    if __salt__["consul_ha.kv_cas"](_APPLIED, value, 0 if entry is None else entry["index"]):
        return changes
    winner = _applied(__salt__["consul_ha.kv_get"](_APPLIED, consistent=True))
    if winner is None or winner.cluster != wanted:
        raise CommandExecutionError(
            "another node has recorded another configuration just now: do the masters have the same pillar?"
        )
    return {}


def refresh(test: bool = False) -> dict[str, Any]:
    """Let this minion's daemon take the pillar that is being applied. Returns what changed; nothing if it has it.

    A run of states has the pillar anew, but the daemon goes on with the one of its start. Modules that a master asks
    later would then know nothing of what was applied.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.refresh test=True
    """
    told = Path(__opts__["cachedir"]) / "mnha-pillar"
    old = told.read_text(encoding="ascii") if told.is_file() else None
    new = hashlib.sha256(json.dumps(cluster().to_mapping(), sort_keys=True).encode()).hexdigest()[:16]
    if old == new:
        return {}
    if not test:
        __salt__["saltutil.refresh_pillar"](wait=True)
        told.write_text(new, encoding="ascii")
    return {"pillar": {"old": old, "new": new}}


def problems() -> list[str]:
    """What is wrong with this minion's pillar, one sentence each; empty if nothing is.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.problems
    """
    try:
        config.load({"mnha": {"cluster": (__pillar__.get("mnha") or {}).get("cluster")}}).require_node(__opts__["id"])
    except MnhaError as error:
        faults = getattr(error, "faults", ())
        return [str(fault) for fault in faults] or [error.message]
    return []


def secrets() -> dict[str, Any]:
    """This node's secrets from the pillar; fails with the remedy if the master has none for it.

    Not meant for the command line: what it returns ends up in the master's job cache.

    CLI Example:

    .. code-block:: bash

        salt-call --local mnha_config.secrets
    """
    found = __pillar__.get("mnha_secrets")
    if not found:
        name = cluster().name
        raise CommandExecutionError(
            f"the pillar of {__opts__['id']} holds no secrets: run `salt-run mnha.bootstrap cluster={name}` on the"
            " master, and see that its configuration has `ext_pillar: [{mnha_secrets: {}}]`"
        )
    return found


def _applied(entry: dict[str, Any] | None) -> config.Applied | None:
    """The recorded configuration; one that this version cannot read counts as another one."""
    if entry is None:
        return None
    try:
        return config.load_json(json.dumps(entry["value"]))
    except MnhaError as error:
        log.warning("the recorded configuration is not readable, it is written anew: %s", error)
        return None
