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
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import salt.version

import mnha
from mnha import __version__
from mnha.errors import (
    ConfigurationError,
    DeadlineError,
    FailedError,
    InputError,
    MnhaError,
    RefusedError,
    UnreachableError,
)
from mnha.master import (
    applying,
    audit,
    following,
    migration,
    passwords,
    progress,
    rehearsal,
    removal,
    report,
    typed,
    verbs,
    wishes,
)
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
ADOPT_WAIT_S = 40.0
PASSWORD_WAIT_S = 25.0
SYNC_S = 120.0
START_WITHIN_S = 90.0
START_PAUSE_S = 3.0
"""At the end of an installation Salt's daemons restart, and the guards look at their nodes for the first time: a start
is tried again meanwhile."""

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
def start(*, cluster: str | None = None, vm: str | None = None, test: bool = False) -> dict[str, Any]:
    """Set the VM's desired state to started and let the best node take it; returns when it runs. The guards obey what
    Consul holds: it goes through any node whose minion answers. It has failed where the VM stands paused.

    test
        True: only tell what it would do

    CLI Example:

    .. code-block:: bash

        salt-run mnha.start
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if test:
            return rehearsal.start(_minions(), nodes, vm)
        with progress.waiting("until the VM runs"):
            return wishes.start(_minions(), nodes, vm, _who()).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def stop(
    *, cluster: str | None = None, vm: str | None = None, wait_s: float = STOP_WAIT_S, test: bool = False
) -> dict[str, Any]:
    """Set the VM's desired state to stopped; returns when it is off and its lease given back. Consul and the guards
    go on.

    test
        True: only tell what it would do

    CLI Example:

    .. code-block:: bash

        salt-run mnha.stop
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if test:
            return rehearsal.stop(_minions(), nodes, vm)
        with progress.waiting(f"until the VM is off, for {wait_s:g} s at most"):
            return wishes.stop(_minions(), nodes, vm, _who(), wait_s).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def migrate(
    node: str | None = None, *, cluster: str | None = None, vm: str | None = None, wait_s: float = 600.0,
    offline: bool = False, test: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Migrate the VM, live, to a node, by its name or address; left out, to the best one. If it can't be, it goes on
    where it is. Tells how far it is on stderr.

    offline
        True: shut it down, and start it there. That works with any CPU, and however busy its memory is
    test
        True: only tell whether it could be, and where it would go

    CLI Example:

    .. code-block:: bash

        salt-run mnha.migrate
        salt-run mnha.migrate node2
        salt-run mnha.migrate 172.20.198.4 test=True
        salt-run mnha.migrate node2 offline=True
    """
    who = _who()

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        if node is not None and not node.strip():
            raise InputError("the node is empty: name one, or leave it out for the best one")
        how = migration.How(wait_s, offline, test, progress.Migration())
        told = progress.waiting(f"until the VM is moved, for {wait_s:g} s at most") if offline else nullcontext()
        with told:
            return migration.migrate(_minions(), nodes, vm, _named(node or "", nodes), who, how).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def migrate_abort(*, cluster: str | None = None, vm: str | None = None, test: bool = False) -> dict[str, Any]:
    """Abort a live migration that is under way: the VM goes on where it is. One that was handed over is not undone.

    test
        True: only tell what would be aborted

    CLI Example:

    .. code-block:: bash

        salt-run mnha.migrate_abort
    """

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        return migration.abort(_minions(), nodes, vm, test=test).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def maintenance(
    node: str, state: str | bool, *, cluster: str | None = None, reason: str = "", force: bool = False,
    test: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """`on`: migrate the VM away, then make the node no candidate (`force`: even if the VM has to stay). `off`: make
    it one again; the VM comes back only if `prefer` names this node before the present one.

    test
        True: only tell what it would do

    CLI Example:

    .. code-block:: bash

        salt-run mnha.maintenance node1 on reason='new memory'
        salt-run mnha.maintenance node1 off
    """
    who = _who()

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        name, how = _named(node, nodes), migration.How(show=progress.Migration())
        if test:
            return rehearsal.maintenance(_minions(), nodes, name, state)
        return migration.maintenance(_minions(), nodes, name, state, who, reason, force, how).to_dict()

    return verbs.run(__opts__, cluster, work)


@_change
def adopt_share(node: str, *, cluster: str | None = None, test: bool = False) -> dict[str, Any]:
    """Make what a node has mounted at `image_folder` the cluster's share, after that was replaced: by its id the nodes
    tell the share from an empty mount point. While a VM runs, only its node may be named.

    test
        True: only tell what it would do

    CLI Example:

    .. code-block:: bash

        salt-run mnha.adopt_share node1
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        verbs.require_node(node, name, nodes)
        if test:
            return rehearsal.adopt_share(takeover.value_of(_minions().one(node, "guard.status")), node)
        found = takeover.value_of(_minions().one(node, "guard.adopt_share", timeout_s=ADOPT_WAIT_S))
        text = f"the share that {node} has mounted is the cluster's, by the id {found['id']}"
        return {"result": True, "comment": text, "node": node, "id": found["id"]}

    return verbs.run(__opts__, cluster, work)


@_change
def accept_disk(*, cluster: str | None = None, vm: str | None = None, test: bool = False) -> dict[str, Any]:
    """Let the VM be started from its image again, though it last wrote to an overlay of it: after that was merged by
    hand, or to give up what it holds. The VM must be off.

    test
        True: only tell what it would do

    CLI Example:

    .. code-block:: bash

        salt-run mnha.accept_disk
    """

    def work(_: str, nodes: list[str]) -> dict[str, Any]:
        minions = _minions()
        node = minions.first(nodes, "consul_ha.quorum", timeout_s=8.0).node
        if test:
            return rehearsal.accept_disk(takeover.value_of(minions.one(node, "guard.status")), vm)
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
    *, cluster: str | None = None, vm: str | None = None, user: str = "root", file: str = "", test: bool = False
) -> dict[str, Any]:
    """Set a user's password in the running guest, by its agent: a new one, made up and shown once on stderr, or that of
    a file. Only if the VM's `allow_reset_root_password` is true.

    user
        whose
    file
        a file that only root can read, with the password as its only line
    test
        True: only tell what it would do

    CLI Example:

    .. code-block:: bash

        salt-run mnha.reset_password
        salt-run mnha.reset_password file=/root/new-password
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        password = passwords.of_file(file) if file else passwords.made_up()
        found, node = _holder(nodes, vm)
        if test:
            conf = _on_demand("master.configuration").in_force(_minions(), nodes).cluster
            _minions().one(node, "test.ping")
            return rehearsal.reset_password(user, found, node, conf.vms[found].allow_reset_root_password)
        key = (Path(__opts__["pki_dir"]) / "minions" / node).read_text(encoding="utf-8")
        order = {"sealed_password": _on_demand("secrets.sealed").seal(password, key), "user": user, "vm": found}
        done = takeover.value_of(_minions().one(node, "mnvm.reset_password", order, timeout_s=PASSWORD_WAIT_S))
        if not file:
            progress.tell(f"the new password of {user} in {done['vm']}, shown this once: {password}")
        text = f"the password of {user} in {done['vm']} ({done['uuid']}) on {node} is a new one"
        return {"result": True, "comment": text, "vm": done["vm"], "uuid": done["uuid"], "node": node}

    return verbs.run(__opts__, cluster, work)


@_change
def ceph_key(file: str, *, cluster: str | None = None, vm: str | None = None, test: bool = False) -> dict[str, Any]:
    """Keep the key of a VM's disk in Ceph on this master; the nodes get it with the next `state.apply`.

    file
        a file that only root can read, with what `ceph auth get client.USER` or `ceph auth get-key client.USER` prints
    test
        True: only tell whether it would be kept

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
        is_new = keys.keep(folder, found, keys.of_file(file, disk.user), test=test)
        new = "would be kept" if test else "is kept"
        text = f"the key of client.{disk.user} for {found} {new if is_new else 'is the one that was there already'}"
        remedy = "; `salt '*' state.apply` gives it to the nodes" if is_new and not test else ""
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
        return _checked_pillars(nodes, are_all=bool(node))

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
        given = _on_demand("master.given_file").read_file(file, applied.cluster.to_mapping(), vm or "")
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
def config_accept(*, cluster: str | None = None, test: bool = False) -> dict[str, Any]:
    """Let the pillar on this master replace what is in force with the next `state.apply`, though other masters have
    changed that since this one was up to date. Tells what will be different.

    test
        True: only tell it

    CLI Example:

    .. code-block:: bash

        salt-run mnha.config_accept
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        changes = _on_demand("master.configuration")
        accept = changes.in_force if test else lambda *who: changes.accept(*who, socket.gethostname())
        applied = accept(_minions(), nodes)
        lines = changes.lines(applied.cluster, _on_demand("config").load(_pillars(nodes)()[0]))
        word = "would be allowed to" if test else "may"
        text = f"the pillar on {socket.gethostname()} {word} replace version {applied.version}: state.apply through it"
        return {"result": True, "comment": text, "differences": lines}

    return verbs.run(__opts__, cluster, work)


@typed.verb
def version(*, cluster: str | None = None) -> dict[str, Any]:
    """This project's version and commit here, its version in each node's guard, and Salt's.

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
        build = mnha.on_demand("master.build").of_tree(Path(__file__).resolve().parents[1])
        return {"result": True, "comment": f"mnha {__version__}", "mnha": __version__, "build": build,
                "guards": guards, "salt": salt.version.__version__}  # fmt: skip

    return verbs.run(__opts__, cluster, work)


@_change
def bootstrap(
    cluster: str, *, renew_certificates: bool = False, renew_tokens: bool = False, test: bool = False
) -> dict[str, Any]:
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
    test
        True: only tell which would be made

    CLI Example:

    .. code-block:: bash

        salt-run mnha.bootstrap cluster=example
    """

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        conf = Inventory(__opts__).configuration(name)
        return _secrets(conf, renew_certificates=renew_certificates, renew_tokens=renew_tokens, test=test)

    return verbs.run_for(cluster, [], work)


@_change
def install(file: str = "", *, cluster: str | None = None, vm: str | None = None, test: bool = False) -> dict[str, Any]:
    """Put the product on all nodes of a cluster, as the pillar has it, and let its VMs run: checks the pillar and the
    nodes, makes what is missing of the secrets, applies all states, starts. May be repeated at any time.

    Every node's minion must answer, and image and bridges must be there, with a link, where the states don't make
    them. Otherwise all faults are told, and nothing is done.

    file
        the old suite's configuration file, for a cluster that is not installed yet: what it says is written into the
        pillar on this master. Without a cluster in the pillar it is told what the pillar has to have besides.
    vm
        only this one is started
    test
        True: check everything, and tell what would be done

    CLI Example:

    .. code-block:: bash

        salt-run mnha.install test=True
        salt-run mnha.install /root/zsha.json
    """
    who = _who()

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        if not (checked := _checked_pillars(nodes))["result"]:
            return checked
        return _installed(Inventory(__opts__).configuration(name), file, vm, who, test)

    if file and not _is_master_of_any():
        return verbs.run_for("mnha", [], lambda name, nodes: _without_pillar(file))
    return verbs.run(__opts__, cluster, work)


@_change
def uninstall(
    *, cluster: str | None = None, yes_i_really_really_mean_it: bool = False, test: bool = False
) -> dict[str, Any]:
    """Remove the product from all nodes of a cluster that answer: guard, fencer, zsha, Consul with all its records, and
    the VMs' definitions. No image is touched. Without the word it tells what would go from which node, and fails.

    Refused while a VM runs or is to run. Repeated it goes on with what was away. `mnha.install` builds all anew.

    yes_i_really_really_mean_it
        True: do it
    test
        True: only tell what would go

    CLI Example:

    .. code-block:: bash

        salt-run mnha.uninstall
        salt-run mnha.uninstall yes_i_really_really_mean_it=True
    """
    who = _who()

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        minions, in_earnest = _minions(), yes_i_really_really_mean_it and not test
        there = removal.marked(minions, nodes)
        why_not = removal.obstacle(_status(name, nodes, STATUS_WAIT_S)[0], there)
        if in_earnest and why_not:
            raise RefusedError(f"nothing was removed: {why_not}")
        if in_earnest:
            audit.to_journal(f"mnha.uninstall of cluster {name} by {who}, from {', '.join(there) or 'no node'}")
        with progress.waiting("until all nodes are through"):
            done = removal.remove(minions, nodes, list(there), progress.tell, test=not in_earnest)
        told = {"removed": done.lines, "faults": done.faults}
        if in_earnest:
            return {"result": not done.faults, "comment": removal.sentence(done, name), **told}
        return {"result": test, "comment": removal.warning(done, name, why_not), **told}

    return verbs.run(__opts__, cluster, work)


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


def _secrets(
    conf: Any, *, renew_certificates: bool = False, renew_tokens: bool = False, test: bool = False
) -> dict[str, Any]:
    """Make a cluster's secrets, or tell which would be made."""
    secrets = _on_demand("secrets.store")
    plan = secrets.Plan(
        cluster=conf.name,
        datacenter=conf.name,
        nodes={name: (node.storage, node.management) for name, node in conf.nodes.items()},
        masters_on_nodes=conf.salt.masters_on_nodes,
        salt_master_key=Path(__opts__["pki_dir"]) / "master.pem",
    )
    folder = secrets.folder(__opts__) / conf.name
    if test:
        missing = secrets.to_make(folder, plan, renew_certificates, renew_tokens=renew_tokens)
        text = f"{verbs.count(len(missing), 'secret')} would be made in {folder}"
        return {"result": True, "comment": text, "folder": str(folder), "created": missing}
    made = secrets.bootstrap(folder, plan, renew_certificates, renew_tokens=renew_tokens)
    text = f"{verbs.count(len(made.created), 'secret')} made in {folder}; {len(made.kept)} are as they were"
    return {"result": True, "comment": text, "folder": str(folder), "created": made.created, "kept": len(made.kept),
            "warnings": made.warnings}  # fmt: skip


def _without_pillar(file: str) -> dict[str, Any]:
    """What has to stand in the pillar before a cluster can be installed from the old suite's file."""
    installing = _on_demand("master.installing")
    try:
        given = _on_demand("master.given_file").read_file(file, None)
    except ConfigurationError as error:
        lines = [str(fault) for fault in error.faults] or [error.message]
        return {"result": False, "comment": f"{verbs.count(len(lines), 'fault')} in {file}", "faults": {file: lines}}
    lines = [str(fault) for fault in installing.lacking(given.cluster)]
    text = (
        f"{file} is right, but a cluster needs more than it says, and no pillar has that: write the pillar below into "
        "a file of the pillar tree with what is marked there, assign it to the nodes in top.sls, accept their minions "
        "(`salt-key -A`), and try again"
    )
    return {"result": False, "comment": text, "corrections": list(given.corrections), "faults": {file: lines},
            "pillar": installing.pillar(given.cluster)}  # fmt: skip


def _installed(conf: Any, file: str, vm: str | None, who: str, test: bool) -> dict[str, Any]:
    """A cluster as it is installed, or what would be done for it.

    :raises RefusedError: there is one already, and a file is given.
    """
    changes, minions, nodes = _on_demand("master.configuration"), _minions(), list(conf.nodes)
    installing = _on_demand("master.installing")
    change, files, told = None, {}, {}
    if file:
        if there := [node for node, is_there in removal.marked(minions, nodes).items() if is_there]:
            raise RefusedError(
                f"{conf.name} is installed on {', '.join(there)}: `salt-run mnha.import_config {file}` changes it"
            )
        given = _on_demand("master.given_file").read_file(file, conf.to_mapping(), vm or "")
        files = _on_demand("master.pillar_tree").files_of(__opts__, nodes)
        change = changes.plan(given.cluster, _pillars(nodes), files, is_there=False)
        conf, nodes = given.cluster, list(given.cluster.nodes)
        told = {"corrections": list(given.corrections), "differences": change.told()}
    progress.tell(f"looking whether all is there on {', '.join(nodes)}")
    if found := installing.faults(minions, nodes, conf):
        text = f"{verbs.count(installing.alike(found), 'fault')} on {', '.join(found)}: nothing was done"
        return {"result": False, "comment": text, **told, "faults": found}
    vms = [vm] if vm else list(conf.vms)
    if test:
        made = _secrets(conf, test=True)["comment"]
        text = f"{made}, all states applied to {', '.join(nodes)}, and {', '.join(vms)} started"
        return {"result": True, "comment": text, **told}
    if change:
        changes.write(change, _pillars(nodes), files)
    progress.tell(_secrets(conf)["comment"])
    minions.each(nodes, "saltutil.sync_all", timeout_s=SYNC_S)
    for title, given_to in (
        ("what the modules need", {"mods": "states.salt.packages"}),
        ("everything", {"pillar": {"mnha_changed_by": f"{who}, by mnha.install"}}),
    ):
        progress.tell(f"{title} is being applied to {', '.join(nodes)}")
        if found := applying.faults(nodes, applying.run(minions, nodes, given_to, progress.tell)):
            text = f"{conf.name} is not wholly installed, and nothing was started: see what failed, and repeat it"
            return {"result": False, "comment": text, **told, "faults": found}
    started = [_started_at_last(nodes, name, who) for name in vms]
    text = "; ".join([f"{conf.name} is installed on {', '.join(nodes)}", *(one["comment"] for one in started)])
    return {**(started[0] if started else {}), "result": all(one["result"] for one in started), "comment": text, **told}


def _started_at_last(nodes: list[str], vm: str, who: str) -> dict[str, Any]:
    """A start, once Salt's daemons are there again, and the guards know their nodes."""
    end_s = time.monotonic() + START_WITHIN_S
    with progress.waiting(f"until {vm} runs"):
        while True:
            try:
                result = wishes.start(_minions(), nodes, vm, who)
                if result.ok or time.monotonic() > end_s:
                    return result.to_dict()
            except (UnreachableError, DeadlineError, FailedError):
                if time.monotonic() > end_s:
                    raise
            time.sleep(START_PAUSE_S)


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


def _checked_pillars(nodes: list[str], *, are_all: bool = False) -> dict[str, Any]:
    """What is wrong with the pillars of nodes, and of those that these add, but where they `are_all`."""
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
            if not are_all:  # those that the pillar adds are not in force yet
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
    well = _on_demand("master.given_file").CHECK_PASS
    text = f"{verbs.count(len(alike), 'fault')} in the pillar of {', '.join(faults)}" if faults else well
    if doubts:
        text += f"; {verbs.count(len({text for lines in doubts.values() for text in lines}), 'doubt')}"
    return {"result": not faults, "comment": text, "faults": faults, "doubts": doubts}


def _checked_file(file: str, cluster: str, vm: str) -> dict[str, Any]:
    """What is wrong with a configuration file, read as what would change the cluster if there is one."""
    base = Inventory(__opts__).configuration(cluster).to_mapping() if _is_master_of_any() else None
    found: dict[str, Any] = _on_demand("master.given_file").check(file, base, vm)
    return found


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
