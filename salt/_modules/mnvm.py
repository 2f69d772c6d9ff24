"""The protected VM: its configuration, its libvirt domain on this node, its health, and its desired state.

Nothing here starts or kills a VM: `start` and `stop` write the desired state to Consul and order the guard.
What is read of libvirt and Consul is read directly.
"""

from __future__ import annotations

import datetime
import functools
import json
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha import config, keys
from mnha.core import choose, placement
from mnha.errors import MnhaError, UnreachableError
from mnha.guest import domain, libvirt_domains
from mnha.master import following, history, placing, view
from mnha.secrets import sealed

log = logging.getLogger(__name__)

__virtualname__ = "mnvm"

KILLED, SHUT_DOWN = "killed", "shut down"
"""How a guard's history tells that it killed the VM, and how a guest ended that was asked to shut down."""
ENDS_S = 1.5
"""So long after a VM is off that is waited for."""


def __virtual__():
    return __virtualname__


def get_config() -> dict[str, Any]:
    """The configuration that is in force on this node: what was applied here last.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.config
    """
    return __salt__["mnha_config.in_force"]().to_mapping()


def status(vm: str | None = None) -> dict[str, Any]:
    """What libvirt and the guard of this node say of the VM: `domain`, `state`, `sentence`, `lease`, `desired`.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.status
    """
    name, _ = _vm(vm)
    guard = (__salt__["guard.status"]().get("vms") or {}).get(name) or {}
    return {"vm": name, "node": __opts__["id"], "domain": _run(lambda: libvirt_domains.state(name)), **guard}


def wanted_xml(vm: str | None = None) -> str:
    """The libvirt domain as the states wrote it down on this node: what the guard starts the VM from.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.wanted_xml
    """
    name, _ = _vm(vm)
    path = Path(config.domain_file(name))
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CommandExecutionError(f"{path}: {error.strerror}; state.apply states.mnvm writes it") from error


def defined_xml(vm: str | None = None) -> str | None:
    """The libvirt domain as it is defined on this node, None if it is not.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.defined_xml
    """
    name, _ = _vm(vm)
    return _run(lambda: libvirt_domains.defined_xml(name))


def define(vm: str | None = None, xml: str | None = None, test: bool = False) -> list[str]:
    """Define the domain as `xml` (default: as the states wrote it down), unless it is so already; what differed.

    A VM that runs keeps its present form until it is started the next time.

    CLI Example:

    .. code-block:: bash

        salt '*' mnvm.define test=True
    """
    name = vm if vm and xml else _vm(vm)[0]  # a VM that is being added is not in force yet
    wanted = xml or wanted_xml(name)

    def work() -> list[str]:
        defined = libvirt_domains.defined_xml(name)
        differences = ["is not defined"] if defined is None else domain.differences(wanted, defined)
        if differences and not test:
            libvirt_domains.define(wanted)
        return differences

    return _run(work)


def undefine(vm: str | None = None) -> bool:
    """Undefine the domain on this node; the image stays. False if it was not defined; refused while it runs
    here.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.undefine
    """
    name, _ = _vm(vm)

    return _run(lambda: libvirt_domains.undefine(name))


def undefine_all(test: bool = False) -> list[str]:
    """Undefine the domains that the states have written down on this node, and remove those files; the images stay.
    Returns the VMs of which something was there. Refused for one that runs here.

    test
        True: only tell it

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.undefine_all test=True
    """
    files = sorted(Path(config.domain_file("any")).parent.glob("*.xml"))
    if not test:
        for file in files:
            _run(functools.partial(libvirt_domains.undefine, file.stem))
            file.unlink()
    return [file.stem for file in files]


def console(vm: str | None = None, lines: int = 40) -> dict[str, Any]:
    """How to get at the VM on this node: its serial console (`command`), its VNC display while it runs here (`display`:
    an address, or a Unix socket that only root and QEMU can open), and the newest `lines` of the console's log.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.console lines=100
    """
    name, _ = _vm(vm)
    path = Path(domain.console_log(name))
    tail = ""
    if path.is_file():
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 200 * int(lines)))
            tail = "\n".join(file.read().decode("utf-8", "replace").splitlines()[-int(lines) :])
    return {
        "command": f"virsh -c {libvirt_domains.URI} console {name}",
        "display": _run(lambda: libvirt_domains.display(name)),
        "log": str(path),
        "tail": tail,
    }


def cpu(vm: str | None = None) -> dict[str, str] | None:
    """What another host's CPU must be able to do so that the VM, which runs here, can go on there; None: any can.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.cpu
    """
    name, _ = _vm(vm)
    return _run(lambda: libvirt_domains.wanted_cpu(name))


def cpu_objection(wanted: dict[str, str]) -> str:
    """Why this node's CPU can't do what `mnvm.cpu` says on the VM's node; empty: it can, or libvirt does not say.

    CLI Example:

    .. code-block:: bash

        salt node2 mnvm.cpu_objection '{cpu: …, arch: x86_64, kind: kvm}'
    """
    return _run(lambda: libvirt_domains.cpu_objection(wanted))


def health(vm: str | None = None) -> dict[str, Any]:
    """Whether the guest answers: its agent, then its TCP port, as far as they are configured. Run it on the
    holder.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.health
    """
    name, cluster = _vm(vm)
    wanted = cluster.vms[name].health
    found: dict[str, Any] = {"vm": name, "domain": _run(lambda: libvirt_domains.state(name)), "healthy": False}
    if found["domain"] != "running":
        return {**found, "why": f"the VM is {found['domain']} on {__opts__['id']}"}
    if wanted.agent:
        found["agent"] = _agent_answers(name)
    if wanted.tcp_port:
        found["tcp"] = _port_answers(cluster, name)
    failed = [f"{way}: {found[way]['why']}" for way in ("agent", "tcp") if way in found and not found[way]["ok"]]
    return {**found, "healthy": not failed, "why": "; ".join(failed)}


def reset_password(sealed_password: str, user: str = "root", vm: str | None = None) -> dict[str, Any]:
    """Have the guest agent set a user's password in the VM that runs here; `vm`, `uuid`. Refused unless the
    configuration in force says `allow_reset_root_password`.

    sealed_password
        sealed for this minion's key, as `mnha.reset_password` does

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.reset_password SEALED user=root
    """
    name, cluster = _vm(vm)
    if not cluster.vms[name].allow_reset_root_password:
        raise CommandExecutionError(
            f"no password is reset in {name}: set mnha:cluster:vms:{name}:allow_reset_root_password to true, and apply"
        )
    key = (Path(__opts__["pki_dir"]) / "minion.pem").read_text(encoding="utf-8")
    password = _run(lambda: sealed.unseal(sealed_password, key))
    return {"vm": name, "uuid": _run(lambda: libvirt_domains.set_password(name, user, password))}


def set_desired(run: str, vm: str | None = None, by: str = "") -> dict[str, Any]:
    """Write the desired state, `started` or `stopped`, and return the plan for the VM; nothing is ordered. `ends` has
    what was known before of how it ended, for `mnvm.follow`.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.set_desired started
    """
    name, _ = _vm(vm)
    if run not in ("started", "stopped"):
        raise CommandExecutionError(f"desired is 'started' or 'stopped', not {run!r}")
    record = {"run": run, "by": by or f"mnvm.set_desired on {__opts__['id']}", "at": time.time()}
    if not __salt__["consul_ha.kv_list"](f"{keys.vm(name)}/").get(keys.lease(name)):
        raise CommandExecutionError(
            f"{name} has no lease in Consul that can be read: `salt '*' state.apply states.guard` creates it;"
            " mnha.status tells more"
        )
    ends = [list(one) for one in _ends(name)] if run == "stopped" else []
    __salt__["consul_ha.kv_put"](keys.desired(name), record)
    return {**_plan(name), "ends": ends}


def start(vm: str | None = None, wait_s: float = 60) -> dict[str, Any]:
    """Set desired to started and let this node take it, if nobody has it. For a node of Salt's choice:
    `mnha.start`.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.start
    """
    planned = set_desired("started", vm, by=f"mnvm.start on {__opts__['id']}")
    name, lease = planned["vm"], planned["lease"]
    if following.holder_of(lease):
        seen = follow(name, "running", wait_s)
        holder, lease = seen["holder"], seen["lease"]
        if seen["outcome"] == "running":
            return {"result": "ok", "message": f"{name} runs on {holder}", "plan": planned}
        if seen["outcome"] in ("timeout", "overruled"):
            __context__["retcode"] = 1
            overruled = seen["outcome"] == "overruled"
            why = (
                "another wish came after this one"
                if overruled
                else f"{holder} has the lease; the VM does not run there"
            )
            return {"result": "refused" if overruled else "timeout", "message": why, "plan": planned}
    return __salt__["guard.takeover"](lease["epoch"], vm=name, wait_s=wait_s, reason="mnvm.start")


def stop(vm: str | None = None, wait_s: float = 180) -> dict[str, Any]:
    """Set desired to stopped, and wait until it is off here.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.stop
    """
    planned = set_desired("stopped", vm, by=f"mnvm.stop on {__opts__['id']}")
    return __salt__["guard.stop"](vm=planned["vm"], wait_s=wait_s)


def follow(
    vm: str | None = None, wanted: str = "running", wait_s: float = 60, ends: list[Any] | None = None
) -> dict[str, Any]:
    """Wait until the VM is `running` or `off`, wherever, by what the guards write into Consul; no minion of theirs is
    needed. `outcome` says which it is, or what is in its way: `free`, `overdue`, `expired`, `overruled` (by another
    wish), `timeout`. Where `off` is wanted, `killed` says why it was killed meanwhile, and `ended` how a guest ended
    that was asked to shut down; empty if it was not, or if that is not known.

    ends
        of `mnvm.set_desired`: what was known before the wish; left out: what is known now. A guest may be off by now

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.follow wanted=off wait_s=180
    """
    name, _ = _vm(vm)

    def read() -> following.Look:
        try:
            entry = __salt__["consul_ha.kv_get"](keys.lease(name))
            lease = (entry or {}).get("value") or {}
            holder = following.holder_of(lease)
            record = __salt__["consul_ha.kv_get"](keys.node(holder)) if holder else None
            desired = __salt__["consul_ha.kv_get"](keys.desired(name))
        except CommandExecutionError as error:
            raise UnreachableError(str(error)) from error
        return following.Look(lease, (record or {}).get("value") or {}, (desired or {}).get("value") or {})

    before = {(key, count) for key, count in (_ends(name) if ends is None else ends)} if wanted == "off" else set()
    found = _run(lambda: following.follow(read, name, wanted, float(wait_s)))
    if wanted != "off":
        return found
    end_s, newest = time.monotonic() + (ENDS_S if found["outcome"] == "off" else 0.0), {}
    while True:
        newest = {event: text for key, (event, text) in sorted(_ends(name).items()) if key not in before}
        if SHUT_DOWN in newest or time.monotonic() > end_s:
            break
        time.sleep(following.POLL_S)  # a guard writes its history beside its lease
    killed = newest.get(KILLED, "").partition(": ")[2]
    return {**found, "killed": killed, "ended": newest.get(SHUT_DOWN, "")}


def _ends(vm: str) -> dict[tuple[str, int], tuple[str, str]]:
    """How the VM was killed, or its guest shut down, by the history: by key, and how often by then; nothing if it can't
    be read.
    """
    try:
        entries = __salt__["consul_ha.kv_list"](keys.HISTORY)
    except CommandExecutionError:
        return {}
    return {
        (key, int(one.get("count", 1))): (str(one["event"]), str(one.get("text", "")))
        for key, one in entries.items()
        if one and one.get("event") in (KILLED, SHUT_DOWN) and one.get("vm") == vm
    }


def plan_failover(
    vm: str, epoch: int, seq: int = 0, attempt: int = 0, by: str = "", index: int | None = None
) -> dict[str, Any]:
    """First step of a failover, on the node that reported it: is it needed, may this master do it, who takes
    over?

    Returns `needed` (False with `why` if the lease has moved on), `claimed` (False with `by` if another master
    works on it), `order` (candidates, best first), `rejected` (node -> why) and `sentence`.

    CLI Example:

    .. code-block:: bash

        salt node2 mnvm.plan_failover mnvm 7 1234 1
    """
    name, _ = _vm(vm)
    entry = __salt__["consul_ha.kv_get"](keys.lease(name))
    lease = (entry or {}).get("value") or {}
    if not lease:
        return {"needed": False, "why": f"{name} has no lease in Consul: mnha.status tells the remedy"}
    if lease.get("epoch") != int(epoch):
        return {
            "needed": False,
            "why": f"the lease has epoch {lease.get('epoch')} by now, held by {lease.get('holder')}",
        }
    if lease.get("phase") != "released" and index is not None and entry["index"] != int(index):
        return {"needed": False, "why": f"{lease.get('holder')} has renewed the lease of epoch {epoch}"}
    action = f"failover-{name}-{int(epoch):06d}-{int(seq):010d}-"  # sorts by time
    former = __salt__["consul_ha.kv_get"](keys.action(f"{action}{int(attempt) - 1}"))
    if former and not (former["value"] or {}).get("done"):
        # Its master is at it, or has died: then the attempt after this one finds nothing in its way.
        return {"needed": True, "claimed": False, "by": (former["value"] or {}).get("by")}
    claim = __salt__["consul_ha.claim"](f"{action}{attempt}", by=by)
    if not claim["claimed"]:
        return {"needed": True, "claimed": False, "by": claim["by"]}
    return {"needed": True, "claimed": True, "action": f"{action}{attempt}", **_plan(name)}


def plan(vm: str | None = None, alone: bool = False) -> dict[str, Any]:
    """Who could run the VM now, best first, why the others could not, and the lease. The VMs that nobody has, and those
    of its holder, are placed in one go with it: `together` has each with its node, "" if there is none.

    alone
        it leaves its holder alone, as in a migration

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.plan
    """
    name, _ = _vm(vm)
    return _plan(name, alone=alone)


def record(event: str, text: str, vm: str | None = None, action: str | None = None, **data: Any) -> str:
    """Write an event into the cluster's history, and prune that; returns its key. One that repeats another (the same
    event, VM, epoch and `reason`) is counted there. With `action`, the claim of that name is marked as done.

    CLI Example:

    .. code-block:: bash

        salt node1 mnvm.record note 'power supply replaced'
    """
    now = datetime.datetime.now(datetime.UTC)
    node = __opts__["id"]
    more = {key: value for key, value in data.items() if not key.startswith("__")}
    value = {"at": now.isoformat(timespec="milliseconds"), "node": node, "vm": vm, "event": event, "text": text, **more}
    key = keys.history(f"{now:%Y%m%dT%H%M%S.%f}Z-{node}-salt")
    key = _count_again(value) or _write(key, value)
    if action:
        __salt__["consul_ha.kv_put"](keys.action(action), {"by": data.get("master"), "done": True})
        __salt__["consul_ha.kv_prune"](keys.ACTIONS)
    return key


def _write(key: str, value: dict[str, Any]) -> str:
    """A new entry of the history; its key."""
    __salt__["consul_ha.kv_put"](key, value)
    __salt__["consul_ha.kv_prune"](keys.HISTORY)
    return key


def _count_again(value: dict[str, Any]) -> str:
    """Count an entry that repeats a former one there; the key of that, empty if there is none."""
    return history.count_again(
        value,
        entries=lambda: {key: one for key, one in __salt__["consul_ha.kv_list"](keys.HISTORY).items() if one},
        get=__salt__["consul_ha.kv_get"],
        cas=__salt__["consul_ha.kv_cas"],
    )


def report() -> dict[str, Any]:
    """All that `mnha.status` shows of this node and, as this node sees it, of the cluster. Never fails: see
    `errors`; what is known of the cluster may be old if they have `consul`.

    CLI Example:

    .. code-block:: bash

        salt '*' mnvm.report
    """
    found: dict[str, Any] = {"node": __opts__["id"], "errors": {}}

    def add(name: str, ask: Callable[[], Any]) -> None:
        try:
            found[name] = ask()
        except CommandExecutionError as error:
            found[name] = None
            found["errors"][name] = str(error)

    add("config", get_config)
    found["unapplied"] = _unapplied()
    add("guard", lambda: __salt__["guard.status"](timeout_s=0.5))
    consul = (found["guard"] or {}).get("consul") or {}
    if found["config"] is not None:
        add("consul", lambda: __salt__["consul_ha.snapshot"](list(view.SHOWN)))
    if known := found.pop("consul", None):
        found |= view.view_of(known["keys"], known["members"], known.get("servers") or (), known.get("faults"))
    if (known and not known["leader"]) or (consul and not (consul.get("reachable") and consul.get("known_leader"))):
        why = consul.get("error") or "no leader is known"
        found["errors"].setdefault("consul", f"no quorum of Consul in reach: {why}")
    return found


def _unapplied() -> str:
    """What the guard here was given that is not of the configuration in force: a run of states has broken off."""
    try:
        given = json.loads(Path(config.GUARD_FILE).read_text(encoding="utf-8"))
        wanted = config.guard_config(__salt__["mnha_config.in_force"](), __opts__["id"])
    except (OSError, ValueError, CommandExecutionError):
        return ""
    differing = [key for key, value in json.loads(json.dumps(wanted)).items() if given.get(key) != value]
    return f"its guard has other {', '.join(differing)} than were applied: state.apply ends it" if differing else ""


def _plan(vm: str, *, alone: bool = False) -> dict[str, Any]:
    """Who could run the VM now, and its lease."""
    _, cluster = _vm(vm)
    ask = __salt__["consul_ha.kv_list"]
    values, records = ask(keys.VMS), ask(keys.NODES)
    maintenance = {key: one or {} for key, one in ask(keys.MAINTENANCE).items()}
    alive = {row["node"]: row["status"] == "alive" for row in __salt__["consul_ha.members"]()}
    nodes = [
        choose.Node(name, records.get(keys.node(name)), alive.get(name), maintenance.get(keys.maintenance(name)))
        for name in cluster.nodes
    ]
    choices = placement.place_all(placing.cluster_of(cluster.to_mapping(), values, nodes), vm, alone=alone)
    choice = choices[vm]
    return {
        "vm": vm,
        "cluster": cluster.name,
        "lease": values.get(keys.lease(vm)) or {},
        "desired": (values.get(keys.desired(vm)) or {}).get("run"),
        "order": list(choice.order),
        "rejected": dict(choice.rejected),
        "alive": [node for node, is_alive in alive.items() if is_alive],
        "prefer": list(cluster.vms[vm].prefer),
        "sentence": choice.sentence,
        "together": {name: next(iter(one.order), "") for name, one in choices.items()},
    }


def _vm(vm: str | None) -> tuple[str, config.ClusterConfig]:
    """The VM meant (it may be left out where there is one only), and the configuration in force."""
    cluster = config.load_mapping(get_config())
    if vm is None and len(cluster.vms) == 1:
        return next(iter(cluster.vms)), cluster
    if vm is None:
        raise CommandExecutionError(f"cluster {cluster.name} has several VMs, name one of {', '.join(cluster.vms)}")
    _run(lambda: cluster.require_vm(vm))
    return vm, cluster


def _agent_answers(name: str) -> dict[str, Any]:
    """Whether the QEMU guest agent answers a ping."""
    try:
        libvirt_domains.ping_agent(name)
    except MnhaError as error:
        return {"ok": False, "why": error.message}
    return {"ok": True, "why": ""}


def _port_answers(cluster: config.ClusterConfig, name: str) -> dict[str, Any]:
    """Whether the guest's TCP port accepts a connection."""
    vm = cluster.vms[name]
    address = next((one.address for one in vm.networks if one.management and one.address), None)
    if address is None:
        return {"ok": False, "why": "no network of it is `management` with an address"}
    host, port = config.value_at(address, __opts__["id"]), vm.health.tcp_port
    try:
        with socket.create_connection((host, port), timeout=vm.health.timeout_s):
            return {"ok": True, "why": ""}
    except OSError as error:
        return {"ok": False, "why": f"{host}:{port} does not answer: {error}"}


def _run(ask: Callable[[], Any]) -> Any:
    """Turn this project's errors into the one that Salt shows without a stack trace."""
    try:
        return ask()
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error


__func_alias__ = {"get_config": "config"}
