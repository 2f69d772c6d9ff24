"""What an operator types: `salt-run mnha.VERB cluster=NAME`.

Every verb returns what `mnha.master.verbs` says, shown by the outputter `mnha`; `--out=json` gives the data. A verb
that failed has a `retcode` beside it and a non-zero exit code. The cluster may be left out where the master has one
only. What reactor and orchestrations run is in `mnha_policy`.

A master need not reach Consul: what concerns it goes through a minion of the cluster. Status and history are read from
Consul directly where this machine is a node.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import salt.version

import mnha
from mnha import __version__
from mnha.errors import ConfigurationError, FailedError, InputError, MnhaError, UnreachableError
from mnha.master import audit, following, migration, passwords, progress, report, typed, verbs, wishes
from mnha.master import failover as takeover
from mnha.master import history as recorded
from mnha.master import minions as ask
from mnha.master.inventory import Inventory

log = logging.getLogger(__name__)

STATUS_WAIT_S = 4.0
"""The most that a status waits; `report.heard_enough` mostly ends it sooner."""
LOST_WAIT_S = 2.0
"""The most that it waits for why a minion can't report."""
OWN_RECORDS_S = 2.0
"""The most that a status waits for Consul's records, where this machine can read them."""
STOP_WAIT_S = 180.0
CHECK_PASS = "config file check pass"
"""The old suite's words."""
ADOPT_WAIT_S = 40.0
PASSWORD_WAIT_S = 25.0

_change = typed.change(lambda *told: _audit(*told))  # noqa: PLW0108 (it stands below)
"""A verb that changes something: the history tells who typed it, and what came of it."""


@typed.verb
def status(*, cluster: str | None = None, wait_s: float = STATUS_WAIT_S) -> dict[str, Any]:
    """How the cluster is: VMs, nodes, guards, Consul. Exit code 0: healthy; 1: degraded, or a VM is not as desired; 2:
    not known, or no quorum.

    Ends as soon as all nodes have answered, or the rest is silent for as long again as the answers took; a
    holder that has just renewed is waited for. On a node it reads Consul itself, and needs neither master nor minions.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.status
        salt-run mnha.status cluster=example --out=json
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        return _status(name, nodes, wait_s)[0]

    return verbs.run(__opts__, cluster, work)


@typed.verb
def status_conf(*, cluster: str | None = None, wait_s: float = STATUS_WAIT_S) -> dict[str, Any]:
    """As `mnha.status`, and the configuration in force, in the old suite's form, of each VM.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.status_conf
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        found, applied = _status(name, nodes, wait_s)
        return {**found, "configuration": _on_demand("master.configuration").shown(applied) if applied else {}}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def history(*, cluster: str | None = None, limit: int = 20) -> dict[str, Any]:
    """The cluster's newest events: who took over when, why, and how long it took. On a node it reads Consul itself.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.history limit=50
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        events = _own_history(name, limit)
        if events is None:
            events = _minions().first(nodes, "guard.history", {"limit": limit}).value
        return {"result": True, "comment": verbs.count(len(events), "event"), "history": events}

    return verbs.run(__opts__, cluster, work)


@_change
def start(*, cluster: str | None = None, vm: str | None = None) -> dict[str, Any]:
    """Set the VM's desired state to started and let the best node take it; returns when it runs. The guards obey what
    Consul holds: it goes through any node whose minion answers. It has failed where the VM stands paused.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.start
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        with progress.waiting("until the VM runs"):
            return wishes.start(_minions(), nodes, vm, _who()).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def stop(*, cluster: str | None = None, vm: str | None = None, wait_s: float = STOP_WAIT_S) -> dict[str, Any]:
    """Set the VM's desired state to stopped; returns when it is off and its lease given back. Consul and the guards
    go on.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.stop
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        with progress.waiting(f"until the VM is off, for {wait_s:g} s at most"):
            return wishes.stop(_minions(), nodes, vm, _who(), wait_s).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def migrate(
    node: str = "", *, cluster: str | None = None, vm: str | None = None, wait_s: float = 600.0
) -> dict[str, Any]:
    """Migrate the VM, live, to a node, by its name or address, or to the best one. If it can't be, it goes on where it
    is.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.migrate
        salt-run mnha.migrate node2
        salt-run mnha.migrate 172.20.198.4
    """
    who = _who()

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        with progress.waiting(f"until the VM is migrated, for {wait_s:g} s at most"):
            return migration.migrate(_minions(), nodes, vm, _named(node, nodes), who, wait_s).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def maintenance(
    node: str, state: str | bool, *, cluster: str | None = None, reason: str = "", force: bool = False
) -> dict[str, Any]:
    """`on`: migrate the VM away, then make the node no candidate (`force`: even if the VM has to stay). `off`: make
    it one again; the VM comes back only if `prefer` names this node before the present one.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.maintenance node1 on reason='new memory'
        salt-run mnha.maintenance node1 off
    """
    who = _who()

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        with progress.waiting(f"for what {node} holds to be migrated"):
            return migration.maintenance(_minions(), nodes, _named(node, nodes), state, who, reason, force).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def adopt_share(node: str, *, cluster: str | None = None) -> dict[str, Any]:
    """Make what a node has mounted at `image_folder` the cluster's share, after that was replaced: by its id the nodes
    tell the share from an empty mount point. While a VM runs, only its node may be named.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.adopt_share node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        verbs.require_node(node, name, nodes)
        found = takeover.value_of(_minions().one(node, "guard.adopt_share", timeout_s=ADOPT_WAIT_S))
        text = f"the share that {node} has mounted is the cluster's, by the id {found['id']}"
        return {"result": True, "comment": text, "node": node, "id": found["id"]}

    return verbs.run(__opts__, cluster, work)


@_change
def accept_disk(*, cluster: str | None = None, vm: str | None = None) -> dict[str, Any]:
    """Let the VM be started from its image again, though it last wrote to an overlay of it: after that was merged by
    hand, or to give up what it holds. The VM must be off.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.accept_disk
    """

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        node = minions.first(nodes, "consul_ha.quorum", timeout_s=8.0).node
        found = takeover.value_of(minions.one(node, "guard.accept_disk", {"vm": vm}, timeout_s=ADOPT_WAIT_S))
        return {"result": True, "comment": found["message"], "vm": found["vm"]}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def console(*, cluster: str | None = None, vm: str | None = None, lines: int = 40) -> dict[str, Any]:
    """How to get at the VM's consoles, on the node that runs it: the serial one by a command, the display by VNC; and
    what the serial console showed last.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.console
        salt-run mnha.console lines=200
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        found, node = _holder(nodes, vm)
        told = takeover.value_of(_minions().one(node, "mnvm.console", {"vm": found, "lines": lines}))
        text = f"{found} is on {node}: `ssh -t {node} {told['command']}`; display {told['display'] or 'none'}"
        return {"result": True, "comment": text, "vm": found, "node": node, "console": told}

    return verbs.run(__opts__, cluster, work)


@_change
def reset_password(
    *, cluster: str | None = None, vm: str | None = None, user: str = "root", file: str = ""
) -> dict[str, Any]:
    """Set a user's password in the running guest, by its agent: a new one, made up and shown once on stderr, or that of
    a file. Only if the VM's `allow_reset_root_password` is true.

    user
        whose
    file
        a file that only root can read, with the password as its only line

    CLI Example:

    .. code-block:: bash

        salt-run mnha.reset_password
        salt-run mnha.reset_password file=/root/new-password
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        password = passwords.of_file(file) if file else passwords.made_up()
        found, node = _holder(nodes, vm)
        key = (Path(__opts__["pki_dir"]) / "minions" / node).read_text(encoding="utf-8")
        order = {"sealed_password": _on_demand("secrets.sealed").seal(password, key), "user": user, "vm": found}
        done = takeover.value_of(_minions().one(node, "mnvm.reset_password", order, timeout_s=PASSWORD_WAIT_S))
        if not file:
            progress.tell(f"the new password of {user} in {done['vm']}, shown this once: {password}")
        text = f"the password of {user} in {done['vm']} ({done['uuid']}) on {node} is a new one"
        return {"result": True, "comment": text, "vm": done["vm"], "uuid": done["uuid"], "node": node}

    return verbs.run(__opts__, cluster, work)


@_change
def ceph_key(file: str, *, cluster: str | None = None, vm: str | None = None) -> dict[str, Any]:
    """Keep the key of a VM's disk in Ceph on this master; the nodes get it with the next `state.apply`.

    file
        a file that only root can read, with what `ceph auth get client.USER` or `ceph auth get-key client.USER` prints

    CLI Example:

    .. code-block:: bash

        salt-run mnha.ceph_key /root/ceph.client.libvirt.keyring
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        conf, keys = Inventory(__opts__).configuration(name), _on_demand("secrets.ceph")
        found = vm or next((one for one, wanted in conf.vms.items() if wanted.rbd), next(iter(conf.vms)))
        if not (disk := conf.require_vm(found).rbd):
            raise InputError(f"the disk of {found} is not in Ceph: it has no `rbd` in the pillar")
        folder = _on_demand("secrets.store").folder(__opts__) / conf.name
        is_new = keys.keep(folder, found, keys.of_file(file, disk.user))
        text = f"the key of client.{disk.user} for {found} is {'kept' if is_new else 'the one that was there already'}"
        remedy = "; `salt '*' state.apply` gives it to the nodes" if is_new else ""
        return {"result": True, "comment": text + remedy, "vm": found}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def check_config(
    file: str = "", *, cluster: str | None = None, node: str | None = None, vm: str | None = None
) -> dict[str, Any]:
    """Check a configuration file, or the pillar of a cluster's nodes (or of one minion): all faults at once, nothing is
    changed. The file is the old suite's JSON, or a pillar.

    `corrections` has what was read otherwise than it stands in the file, `doubts` what is allowed, and may turn out
    badly.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.check_config
        salt-run mnha.check_config node=node1
        salt-run mnha.check_config /root/zsha.json
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if file:
            return _checked_file(file, name, vm or "")
        faults: dict[str, list[str]] = {}
        inventory = Inventory(__opts__)
        doubts: dict[str, list[str]] = {}
        config = _on_demand("config")
        for one in (queue := list(nodes)):
            pillar = inventory.compile_pillar(one)
            if broken := inventory.render_faults(pillar):
                faults[one] = broken
                continue
            try:
                found = config.load(pillar)
                found.require_node(one)
                if not node:  # those that the pillar adds are not in force yet
                    queue += [other for other in found.nodes if other not in queue]
                grains = inventory.grains(one)
                sizes = (int(grains.get(key) or 0) for key in ("mem_total", "num_cpus"))
                if lines := [str(doubt) for doubt in config.doubts(found, *sizes)]:
                    doubts[one] = lines
            except ConfigurationError as error:
                faults[one] = [str(fault) for fault in error.faults] or [error.message]
            except InputError as error:
                faults[one] = [error.message]
        alike = {text for lines in faults.values() for text in lines}
        text = f"{verbs.count(len(alike), 'fault')} in the pillar of {', '.join(faults)}" if faults else CHECK_PASS
        if doubts:
            text += f"; {verbs.count(len({text for lines in doubts.values() for text in lines}), 'doubt')}"
        return {"result": not faults, "comment": text, "faults": faults, "doubts": doubts}

    if node or (file and not cluster and not _is_master_of_any()):
        return verbs.run_for(node or "mnha", [node] if node else [], work)
    return verbs.run(__opts__, cluster, work)


@typed.verb
def config_sample(kind: str = "FileConf", *, file: str = "") -> dict[str, Any]:
    """Write a sample of the old suite's configuration file: FileConf, or CephConf.

    file
        where; left out: /tmp/sample.KIND.config.json

    CLI Example:

    .. code-block:: bash

        salt-run mnha.config_sample FileConf
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        place = file or f"/tmp/sample.{kind}.config.json"
        _on_demand("master.configuration").write_file(place, _on_demand("oldsuite.sample").text(kind))
        return {"result": True, "comment": f"output config json file to {place}", "file": place}

    return verbs.run_for("mnha", [], work)


@typed.verb
def export_config(
    file: str = "", *, cluster: str | None = None, form: str = "json", vm: str | None = None
) -> dict[str, Any]:
    """Write the configuration in force to a file: `form=json`, the old suite's, or `form=pillar`.

    file
        where, on this master; left out: /tmp/current.config.json (or .sls)

    CLI Example:

    .. code-block:: bash

        salt-run mnha.export_config
        salt-run mnha.export_config /root/cluster.sls form=pillar
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        changes = _on_demand("master.configuration")
        applied = changes.in_force(_minions(), nodes)
        place = file or f"/tmp/current.config.{'sls' if form == 'pillar' else 'json'}"
        text = changes.exported(applied.cluster, form, vm or "")
        changes.write_file(place, text)
        return {"result": True, "comment": f"output config {form} file to {place}", "file": place, "text": text,
                "version": applied.version}  # fmt: skip

    return verbs.run(__opts__, cluster, work)


@_change
def import_config(
    file: str, *, cluster: str | None = None, vm: str | None = None, test: bool = False
) -> dict[str, Any]:
    """Change the cluster to what a file says, the old suite's JSON or a pillar: the pillar on this master is changed
    where it stands, and applied to all nodes. Tells what changes, and when each change takes effect.

    test
        True: only tell it

    CLI Example:

    .. code-block:: bash

        salt-run mnha.import_config /tmp/current.config.json test=True
        salt-run mnha.import_config /tmp/current.config.json
    """
    who = _who()

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        changes = _on_demand("master.configuration")
        applied = changes.in_force(_minions(), nodes)
        given = changes.read_file(file, applied.cluster.to_mapping(), vm or "")
        changes.require_in_force(applied, _pillars(nodes))
        told = {"corrections": list(given.corrections)}
        return told | _changed(given.cluster, nodes, f"{who}, from {file}", test)

    return verbs.run(__opts__, cluster, work)


@typed.verb
def config_history(*, cluster: str | None = None, limit: int = 20) -> dict[str, Any]:
    """The versions of the configuration: when, by whom, and what changed.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.config_history
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        rows = _on_demand("master.configuration").told(_minions(), nodes)
        return {"result": True, "comment": verbs.count(len(rows), "version"), "versions": rows[-limit:]}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def config_diff(old: int | None = None, new: int | None = None, *, cluster: str | None = None) -> dict[str, Any]:
    """What differs between two versions of the configuration; without the second, between one and the pillar on this
    master; without both, between what is in force and that pillar.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.config_diff
        salt-run mnha.config_diff 3 5
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        changes = _on_demand("master.configuration")
        kept = changes.versions(_minions(), nodes)
        first = changes.require_version(kept, old or max(kept))
        second = changes.require_version(kept, new).cluster if new else _on_demand("config").load(_pillars(nodes)()[0])
        lines = changes.lines(first.cluster, second)
        names = f"version {first.version} and {f'version {new}' if new else 'the pillar on this master'}"
        places = verbs.count(sum(map(len, lines.values())), "place")
        text = f"{names} {f'differ in {places}' if lines else 'are the same'}"
        return {"result": True, "comment": text, "differences": lines}

    return verbs.run(__opts__, cluster, work)


@_change
def config_rollback(version: int, *, cluster: str | None = None, test: bool = False) -> dict[str, Any]:
    """Put an earlier version of the configuration in force: it is written into the pillar on this master, and applied
    to all nodes. The version that is in force already is written into a pillar that differs from it.

    test
        True: only tell what would change

    CLI Example:

    .. code-block:: bash

        salt-run mnha.config_rollback 4 test=True
        salt-run mnha.config_rollback 4
    """
    who = _who()

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        changes = _on_demand("master.configuration")
        kept = changes.versions(_minions(), nodes)
        wanted = changes.require_version(kept, version).cluster
        return _changed(wanted, nodes, f"{who}, back to version {version}", test)

    return verbs.run(__opts__, cluster, work)


@_change
def config_accept(*, cluster: str | None = None) -> dict[str, Any]:
    """Let the pillar on this master replace what is in force with the next `state.apply`, though other masters have
    changed that since this one was up to date. Tells what will be different.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.config_accept
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        changes = _on_demand("master.configuration")
        applied = changes.accept(_minions(), nodes, socket.gethostname())
        lines = changes.lines(applied.cluster, _on_demand("config").load(_pillars(nodes)()[0]))
        text = f"the pillar on {socket.gethostname()} may replace version {applied.version}: state.apply through it"
        return {"result": True, "comment": text, "differences": lines}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def version(*, cluster: str | None = None) -> dict[str, Any]:
    """This project's version here and in each node's guard, and Salt's.

    CLI Example:

    .. code-block:: bash

        salt-run mnha.version
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        replies = _minions().each(nodes, "guard.status", timeout_s=3.0)
        guards = {
            node: (replies[node].value["guard"]["version"] if replies[node].ok else str(replies[node].value))
            if node in replies
            else "no answer"
            for node in nodes
        }
        return {"result": True, "comment": f"mnha {__version__}", "mnha": __version__, "guards": guards,
                "salt": salt.version.__version__}  # fmt: skip

    return verbs.run(__opts__, cluster, work)


@typed.verb
def bootstrap(cluster: str, *, renew_certificates: bool = False, renew_tokens: bool = False) -> dict[str, Any]:
    """Make a cluster's secrets on this master: authority, certificates, Consul's keys and tokens, Salt's shared
    key.

    What exists already stays as it is, so it may be run again at any time: after a node was added, or to hear
    which certificates end soon. Nodes get their secrets with the next `state.apply`.

    cluster
        the cluster's name in the pillar
    renew_certificates
        make the nodes' certificates and keys anew, after a change of address or before they end
    renew_tokens
        make the Consul tokens of all roles of all nodes anew, after somebody may have read one

    CLI Example:

    .. code-block:: bash

        salt-run mnha.bootstrap cluster=example
    """
    secrets = _on_demand("secrets.store")
    conf = Inventory(__opts__).configuration(cluster)
    plan = secrets.Plan(
        cluster=conf.name,
        datacenter=conf.name,
        nodes={name: (node.storage, node.management) for name, node in conf.nodes.items()},
        masters_on_nodes=conf.salt.masters_on_nodes,
        salt_master_key=Path(__opts__["pki_dir"]) / "master.pem",
    )
    folder = secrets.folder(__opts__) / conf.name
    made = secrets.bootstrap(folder, plan, renew_certificates, renew_tokens=renew_tokens)
    result: dict[str, Any] = {"folder": str(folder), "created": made.created}
    return {**result, "kept": len(made.kept), "warnings": made.warnings}


# ---- how the verbs work


def _on_demand(name: str) -> Any:
    """A part of the library that needs packages beside Salt's.

    :raises FailedError: Salt's Python on this master has lost them, as after an upgrade.
    """
    try:
        return mnha.on_demand(name)
    except ImportError as error:
        remedy = "`salt-call state.apply states.salt.packages` repairs it"
        raise FailedError(f"Salt's own Python on this master can't load mnha.{name} ({error}): {remedy}") from error


def _holder(nodes: list[str], vm: str | None) -> tuple[str, str]:
    """The VM that is meant, and who holds its lease.

    :raises FailedError: nobody does.
    """
    plan = _minions().first(nodes, "mnvm.plan", {"vm": vm}, timeout_s=8.0).value
    if not (node := following.holder_of(plan["lease"])):
        raise FailedError(f"{plan['vm']} runs nowhere: `salt-run mnha.start` starts it")
    return plan["vm"], node


def _named(word: str, nodes: list[str]) -> str:
    """The node that is meant by its name or one of its addresses.

    :raises InputError: an address is none of theirs.
    """
    if word in nodes or not word.replace(".", "").isdigit():
        return word
    changes = _on_demand("master.configuration")
    return str(changes.node_at(changes.in_force(_minions(), nodes).cluster, word))


def _checked_file(file: str, cluster: str, vm: str) -> dict[str, Any]:
    """What is wrong with a configuration file, read as what would change the cluster if there is one."""
    changes, base = _on_demand("master.configuration"), None
    inventory = Inventory(__opts__)
    if _is_master_of_any():
        base = inventory.configuration(cluster).to_mapping()
    try:
        given = changes.read_file(file, base, vm)
    except ConfigurationError as error:
        lines = [str(fault) for fault in error.faults] or [error.message]
        return {"result": False, "comment": f"{verbs.count(len(lines), 'fault')} in {file}", "faults": {file: lines}}
    doubts = [str(doubt) for doubt in _on_demand("config").doubts(given.cluster)]
    return {"result": True, "comment": CHECK_PASS, "corrections": list(given.corrections),
            "doubts": {file: doubts} if doubts else {}}  # fmt: skip


def _is_master_of_any() -> bool:
    """Whether this master knows a cluster: before one is installed a file can be checked by itself."""
    try:
        Inventory(__opts__).nodes(None)
    except InputError as error:
        return "several" in error.message
    return True


def _changed(wanted: Any, nodes: list[str], who: str, test: bool) -> dict[str, Any]:
    """The cluster as it is `wanted`, or what would be changed."""
    changes, pillars = _on_demand("master.configuration"), _pillars(nodes)
    files = _on_demand("master.pillar_tree").files_of(__opts__, nodes)
    plan = changes.plan(wanted, pillars, files)
    told = {"differences": plan.told(), "files": sorted(map(str, plan.files))}
    if test or not plan.found:
        text = "this would be changed, on all nodes" if plan.found else "nothing changes"
        return {"result": True, "comment": text, **told}
    version, faults = changes.carry_out(plan, _minions(), nodes, pillars, files, who, progress.tell)
    well = [node for node in nodes if node not in faults]
    text = f"version {version} is in force, applied on {', '.join(well) or 'no node'}"
    if faults:
        text += f"; not all went well on {', '.join(faults)}: `salt-run mnha.status` tells what is behind"
    return {"result": not faults, "comment": text, "version": version, "faults": faults, **told}


def _pillars(nodes: list[str]) -> Any:
    """Compiles the nodes' pillars on this master, as they are at that time.

    :raises ConfigurationError: one does not render.
    """

    def compiled() -> list[Any]:
        inventory = Inventory(__opts__)
        found = [inventory.compile_pillar(node) for node in nodes]
        for node, pillar in zip(nodes, found, strict=True):
            if broken := inventory.render_faults(pillar):
                raise ConfigurationError(f"the pillar of {node} does not render on this master: {broken[0]}")
        return found

    return compiled


def _minions() -> ask.Minions:
    return ask.Minions(__opts__["conf_file"])


def _status(name: str, nodes: list[str], wait_s: float) -> tuple[dict[str, Any], Any]:
    """How a cluster is, and Consul's record of the configuration in force; None if that is not known."""
    began_s, why_silent, replies = time.monotonic(), "", {}
    records = _own_records(name)
    reading = _on_demand("master.records").Reading(records) if records else None
    try:
        replies = _minions().each(nodes, "mnvm.report", timeout_s=wait_s, enough=report.heard_enough)
    except UnreachableError as error:
        why_silent = error.message
    waited_s = time.monotonic() - began_s
    if lame := report.without_report(replies):
        with contextlib.suppress(UnreachableError):
            replies = report.explained(replies, _minions().each(lame, report.LOST, timeout_s=LOST_WAIT_S))
    view, renewed_s = reading.result(OWN_RECORDS_S, with_renewals=not replies) if reading else (None, {})
    found = report.status(
        nodes, replies, now_s=time.time(), waited_s=waited_s, records=view, renewed_s=renewed_s,
        why_silent=why_silent, own=socket.gethostname(),
        compare=lambda recorded, given: _compared(nodes[0], recorded, given),
    )  # fmt: skip
    return found, found.pop("applied")


def _own_records(cluster: str) -> Any:
    """Consul's records if this machine is a node of the cluster; None if not (`mnha_policy_token` of a master's
    configuration overrides the token's path).
    """
    guard_file = Inventory(__opts__).guard_file
    if not guard_file.is_file():
        return None
    try:
        records = _on_demand("master.records")
    except FailedError as error:
        log.info("the minions are asked, for this node can't read Consul: %s", error.message)
        return None
    return records.of_this_node(cluster, guard_file, Path(__opts__.get("mnha_policy_token", records.POLICY_TOKEN_FILE)))


def _compared(node: str, recorded: Any, given: Mapping[str, Any]) -> list[str]:
    """What this master's pillar for a node wants, compiled now, beside what is in force."""
    try:
        return _on_demand("master.wanted").notes(Inventory(__opts__).compile_pillar(node), recorded, given)
    except FailedError as error:
        return [error.message]


def _own_history(cluster: str, limit: int) -> Any:
    """The newest events as this machine reads them; None if it can't."""
    records = _own_records(cluster)
    try:
        return recorded.newest(records.history(), limit) if records else None
    except MnhaError as error:
        log.info("the minions are asked, for this node can't read the history: %s", error.message)
        return None


def _who() -> str:
    """Who types, behind `sudo` and `ssh`."""
    return audit.who(getpass.getuser(), __opts__["id"], os.environ)


def _audit(name: str, given: Mapping[str, Any], returned: Mapping[str, Any]) -> None:
    """Have the history tell of a verb."""
    if given.get("test"):
        return
    for cluster, part in returned["data"].items():
        if not isinstance(part, Mapping):
            continue
        with contextlib.suppress(MnhaError):
            _, nodes = Inventory(__opts__).nodes(cluster)
            audit.write(_minions(), nodes, audit.entry(name, given, part, _who()))
