"""The cluster's configuration: the one that is wanted, by the pillar, and the one in force, by what the states wrote.

What states want is read from the pillar, which a run of states has anew. Every SLS starts with
`{% set conf = salt['mnha_config.get']() %}`. A wrong pillar makes that call fail, so the run ends while it is still
being rendered: all faults are listed, nothing is applied.

What a master asks of a node is answered by :func:`in_force`. The pillar in the memory of a minion's daemon is as old as
the daemon, one for each master, and none of them need be what was applied.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

import mnha

mnha.forget_if_changed()

from mnha import config, keys  # noqa: E402
from mnha.config import claims, difference, shared_mounts  # noqa: E402
from mnha.errors import MnhaError  # noqa: E402
from mnha.guest import domain as guest_domain  # noqa: E402
from mnha.guest import kvm  # noqa: E402
from mnha.guest import seed as guest_seed  # noqa: E402
from mnha.host import chrony as time_config  # noqa: E402
from mnha.host import libvirtd as libvirt_config  # noqa: E402

log = logging.getLogger(__name__)

__virtualname__ = "mnha_config"
CLUSTER_FILE = "/etc/mnha/cluster.json"
"""What is in force on this node (`mnha_cluster_file` of the minion configuration overrides the path)."""
_CACHE = "mnha_config.cluster"
_CACHE_IN_FORCE = "mnha_config.in_force"
_TOLD = "mnha_config.told"
_APPLIED = keys.CONFIG
RECORD_TRIES = 5
VERSIONS_KEPT = 200
"""Some 3 KiB each."""


def __virtual__():
    return __virtualname__


def get() -> dict[str, Any]:
    """The validated configuration of the pillar: `cluster` (all keys, defaults included, None where nothing is),
    `node` (this minion), `own` (its entry of `nodes`), `peers` (the other nodes' names).

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
    """The checked configuration of the pillar itself, for states; `get` is what templates and the command line use.

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


def mounts() -> list[dict[str, Any]]:
    """The shared file systems that this node is to mount: folder, source, kind and options of each.

    CLI Example:

    .. code-block:: bash

        salt-call --local mnha_config.mounts
    """
    found = shared_mounts.wanted(cluster().mounts, __opts__["id"])
    return [{**dataclasses.asdict(one), "options": list(one.options)} for one in found]


def in_force() -> config.ClusterConfig:
    """The configuration that was applied here last: what Consul and guard of this node run with, for other modules.

    Before anything was applied it is the pillar's. `mnvm.config` is for the command line.

    CLI Example:

    .. code-block:: bash

        salt-call --local mnha_config.in_force
    """
    path = Path(__opts__.get("mnha_cluster_file") or CLUSTER_FILE)
    try:
        found = path.stat()
    except FileNotFoundError:
        return cluster()
    state = (found.st_ino, found.st_mtime_ns, found.st_size)
    cached = __context__.get(_CACHE_IN_FORCE)
    if cached is not None and cached[0] == state:
        return cached[1]
    try:
        checked = config.load(json.loads(path.read_text(encoding="utf-8")))
        checked.require_node(__opts__["id"])
    except (OSError, ValueError, MnhaError) as error:
        why = error.message if isinstance(error, MnhaError) else str(error)
        raise CommandExecutionError(f"{path} can't be used: {why}; state.apply states.guard writes it anew") from error
    __context__[_CACHE_IN_FORCE] = (state, checked)
    return checked


def file() -> dict[str, Any]:
    """What stands in the file of the configuration in force on this node.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.file
    """
    return cluster().to_pillar()


def domain(vm: str) -> str:
    """The libvirt domain of a VM, as it stands in its file on this node.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.domain mnvm
    """
    wanted = cluster()
    try:
        auto = wanted.require_vm(vm).domain_type == "auto"
        return guest_domain.render(wanted, vm, __opts__["id"], kvm_works=auto and kvm.works())
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error


def seed(vm: str) -> dict[str, str] | None:
    """What the seed of a VM's guest holds on this node, by file; None if its guest is not configured.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.seed mnvm
    """
    try:
        return guest_seed.files(cluster(), vm, __opts__["id"])
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error


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


def chrony() -> str:
    """What stands in chrony's configuration file on this node.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.chrony
    """
    found = cluster()
    names = {name: (name, node.management, node.storage) for name, node in found.nodes.items()}
    return time_config.text(found.chrony_servers, __opts__["id"], names)


def record(test: bool = False) -> dict[str, Any]:
    """Keep the configuration in Consul as the one in force, and remember that this run's master has it.

    Its version grows with each change, and every version is kept (`mnha.config_history`). Returns `version`, old and
    new, if it changed; `refused`, why the pillar may not replace what is in force (:mod:`mnha.config.claims`); else
    nothing. Of several nodes that do this at once one writes; of two masters with different pillars one is refused.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.record test=True
    """
    wanted, master = cluster(), str(__pillar__.get("mnha_given_by") or "")
    if "consul_ha.kv_get" not in __salt__:
        raise CommandExecutionError("this node can't ask Consul: its module consul_ha is not loaded")
    for _ in range(RECORD_TRIES):
        entry = __salt__["consul_ha.kv_get"](_APPLIED, consistent=True)
        old, known = _applied(entry), _masters()
        if old is not None and old.cluster == wanted:
            if not test:
                _remember(old, master, known)
            return {}
        if old is not None and (text := claims.refusal(wanted, old, master, known)):
            if __salt__["consul_ha.kv_get"](_APPLIED, consistent=True) == entry:
                return {"refused": text}
            continue  # another node of the same run may have done it between the two questions
        new = config.Applied(1 if old is None else old.version + 1, wanted, _by(master), time.time())
        changes = {"version": {"old": None if old is None else old.version, "new": new.version}}
        if test:
            return changes
        if old is not None:
            _keep(old)
        value = json.loads(config.applied_to_json(new))
        if __salt__["consul_ha.kv_cas"](_APPLIED, value, 0 if entry is None else entry["index"]):
            _remember(new, master, known)
            _note(old, new)
            return changes
    raise CommandExecutionError("others changed the configuration in force again and again meanwhile: apply once more")


def follows(test: bool = False) -> dict[str, Any]:
    """Remember that this node's own master has the pillar of this run, if that is the one in force. Returns what
    changed.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_config.follows test=True
    """
    applied = _applied(__salt__["consul_ha.kv_get"](_APPLIED))
    node, known = __opts__["id"], _masters()
    if applied is None or applied.cluster != cluster() or known.get(node) == applied.version:
        return {}
    if not test:
        _remember(applied, node, known)
    return {node: {"old": known.get(node), "new": applied.version}}


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


def _by(master: str) -> str:
    """Who changes the configuration by a run of states."""
    if who := __pillar__.get("mnha_changed_by"):
        return str(who)
    return f"state.apply through master {master}" if master else f"salt-call --local on {__opts__['id']}"


def _note(old: config.Applied | None, new: config.Applied) -> None:
    """Tell the history of a new version."""
    changes = f": {difference.changes(old.cluster, new.cluster)}" if old else ""
    text = f"version {new.version} of the configuration is in force, by {new.by}{changes}"
    try:
        __salt__["mnvm.record"]("configuration", text)
    except (CommandExecutionError, KeyError) as error:  # a node that is being installed has not all modules
        log.info("the history does not tell of version %s: %s", new.version, error)


def _masters() -> dict[str, int]:
    """Master -> the version that its pillar was in force as last."""
    found = __salt__["consul_ha.kv_list"](keys.MASTERS)
    return {key.removeprefix(keys.MASTERS): value["version"] for key, value in found.items() if "version" in value}


def _remember(applied: config.Applied, master: str, known: dict[str, int]) -> None:
    """Keep what is applied as a version, and that `master` has it."""
    if known.get(master) == applied.version:
        return
    _keep(applied)
    if master:
        __salt__["consul_ha.kv_put"](keys.master(master), {"version": applied.version})


def _keep(applied: config.Applied) -> None:
    """Keep what is applied among the versions, if it is not there yet."""
    value = json.loads(config.applied_to_json(applied))
    if __salt__["consul_ha.kv_cas"](keys.version(applied.version), value, 0):
        __salt__["consul_ha.kv_prune"](keys.VERSIONS, VERSIONS_KEPT)


def _applied(entry: dict[str, Any] | None) -> config.Applied | None:
    """The recorded configuration; one that this version cannot read counts as another one."""
    if entry is None:
        return None
    try:
        return config.load_json(json.dumps(entry["value"]))
    except MnhaError as error:
        log.warning("the recorded configuration is not readable, it is written anew: %s", error)
        return None
