"""This node's guard: what it says, and what it is ordered.

Everything goes through its unix socket; only the guard writes the lease and starts the VM, and only guard and
fencer kill it. The one exception is :func:`create_lease`, which writes the record that does not exist yet.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha import keys
from mnha.consul import client as consul_client
from mnha.consul import http as consul_http
from mnha.core import lease
from mnha.core.timing import Timings
from mnha.daemon import client as guard_client
from mnha.errors import DeadlineError, FailedError, MnhaError, RefusedError
from mnha.fencer import main as fencer
from mnha.fencer.slices import KernelSlices
from mnha.master import certificates, checks, following, unreadable
from mnha.master import history as recorded

log = logging.getLogger(__name__)

__virtualname__ = "guard"

TOKEN_FILE = Path("/etc/mnha/tokens/guard")
ABORT_S = 20.0
"""How long a migration that took too long may take to be aborted, and its outcome to be known."""
MIGRATION_S = 2.0
ADOPT_S = 30.0
"""How long a share may take to be written to."""
SLACK_S = 5.0
"""How much longer than the guard's own time limit its answer is waited for."""


def __virtual__():
    return __virtualname__


def status(timeout_s: float = 2.0) -> dict[str, Any]:
    """Everything the guard knows: lease, VM, checks, Consul, watchdog (docs/architecture.md has the keys).

    CLI Example:

    .. code-block:: bash

        salt node1 guard.status
    """
    return _run(lambda: _request("status", timeout_s=float(timeout_s)))


def vms_here() -> list[str]:
    """The VMs that are alive on this node, by the kernel's word, whether its guard answers or not; none on a host that
    has no fencer yet.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.vms_here
    """
    return sorted(processes_here())


def processes_here() -> dict[str, list[int]]:
    """The processes of the VMs that are alive on this node, by VM, as :func:`vms_here` knows them.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.processes_here
    """
    file = Path(__opts__.get("mnha_fencer_file") or fencer.CONFIG)
    if not file.exists():
        return {}
    try:
        slices = KernelSlices(Path(fencer.load(file)["slices"]))
        return {vm: slices.pids(vm) for vm in slices.names() if not slices.is_empty(vm)}
    except (OSError, MnhaError) as error:
        raise CommandExecutionError(f"which VMs run on {__opts__['id']} is not known: {error}") from error


def takeover(epoch: int, vm: str | None = None, wait_s: float = 30.0, reason: str = "") -> dict[str, Any]:
    """Order the take-over of the lease of `epoch`; it is done when this guard itself sees that lease expired or
    free.

    Returns in any case, with `result`: `ok` (the VM runs here), `refused` (and who has it), `failed` (could not
    start, lease given back), `timeout`, `unreachable` or `invalid`, and a `message`. Everything but `ok` has a
    non-zero return code. `timeline` has the moments of this node's CLOCK_BOOTTIME.

    CLI Example:

    .. code-block:: bash

        salt node2 guard.takeover 7 reason='node1 is lost'
    """
    arrived_s = _boottime_s()
    answer: dict[str, Any] = {"node": __opts__["id"], "epoch": int(epoch)}
    try:
        result = _request(
            "takeover", timeout_s=float(wait_s) + SLACK_S, vm=vm, epoch=int(epoch), wait_s=float(wait_s), reason=reason
        )
    except MnhaError as error:
        __context__["retcode"] = 1
        return {**answer, "result": error.kind, "message": error.message, "timeline": {"arrived_s": arrived_s}}
    timeline = {"arrived_s": arrived_s, **(result.get("timeline") or {})}
    return {
        **answer,
        **result,
        "result": "ok",
        "message": result.get("message", "the VM runs here"),
        "timeline": timeline,
    }


def stop(vm: str | None = None, wait_s: float = 180.0) -> dict[str, Any]:
    """Shut the VM down here and give the lease back, if it is held here. Set `desired` first: see mnvm.stop.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.stop
    """
    return _order("stop", vm, wait_s)


def release(vm: str | None = None, wait_s: float = 180.0, reason: str = "ordered") -> dict[str, Any]:
    """Shut the VM down here and give the lease back, for another node to take. `ended` says how its guest ended.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.release reason='storage path lost'
    """
    return _order("release", vm, wait_s, reason=reason)


def migrate(target: str, vm: str | None = None, wait_s: float = 600.0, reason: str = "ordered") -> dict[str, Any]:
    """Migrate the VM, live, from here to `target`, and the lease with it. Fails if it stays here. `mnha.migrate`
    chooses a target. `migration` has libvirt's figures.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.migrate node2
    """
    return _order("migrate", vm, wait_s, ABORT_S, target=target, reason=reason)


def migration(vm: str | None = None) -> dict[str, Any]:
    """How far the last live migration away from here is, or how it ended: `migration`, None if there was none.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.migration
    """
    return _run(lambda: _request("migration", timeout_s=MIGRATION_S, vm=vm))


def migrate_abort(vm: str | None = None) -> dict[str, Any]:
    """Abort a live migration away from here: the VM goes on here. Fails, and says why, if there is none to be aborted.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.migrate_abort
    """
    return _run(lambda: _request("migrate_abort", timeout_s=ABORT_S + SLACK_S, vm=vm))


def reset(
    vm: str | None = None, wait_s: float = 60.0, reason: str = "ordered", vm_pid: int | None = None, hung: bool = False
) -> dict[str, Any]:
    """Kill the VM and start it again in place; with `vm_pid` only if it still is this process (`vm_pid` of the status),
    with `hung` only if its guest hangs and `on_hung` is `reset`.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.reset reason='the guest hangs'
    """
    return _order("reset", vm, wait_s, reason=reason, vm_pid=vm_pid, hung=hung)


def fit(vm: str | None = None) -> dict[str, Any]:
    """Why this node could not have the VM at this very moment (`why`; empty: it could), and what speaks only against
    one that would go on here (`live`). A migration's target is asked before anything is ordered.

    CLI Example:

    .. code-block:: bash

        salt node2 guard.fit
    """
    return _run(lambda: _request("fit", timeout_s=SLACK_S, vm=vm))


def adopt_share() -> dict[str, Any]:
    """Make what is mounted at `image_folder` here the cluster's share: see `mnha.adopt_share`.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.adopt_share
    """
    return _run(lambda: _request("adopt_share", timeout_s=ADOPT_S))


def accept_disk(vm: str | None = None) -> dict[str, Any]:
    """Let the VM, which must be off, be started from its image, whatever it last wrote to: see `mnha.accept_disk`.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.accept_disk
    """
    return _run(lambda: _request("accept_disk", timeout_s=ADOPT_S, vm=vm))


def history(limit: int = 20) -> list[dict[str, Any]]:
    """The cluster's newest events, the newest last, as the nearest server knows them: no quorum is needed.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.history limit=50
    """
    found = __salt__["consul_ha.snapshot"]([keys.HISTORY])
    return recorded.newest(recorded.readable(found["keys"], found["faults"]), int(limit))


def create_lease(vm: str | None = None, test: bool = False) -> dict[str, Any]:
    """Create the VM's lease record and its desired state, if they do not exist. What exists is never touched, but for a
    lease that can't be read. In the place of such a one, or of one that somebody has deleted, it is created such that
    nobody takes it for a minute, the longest for which its holder may still run the VM, and with an epoch above all
    that it had. The desired state is `stopped`; in the place of one that somebody has deleted while a node holds the
    lease it is `started`, or the VM would be shut down.

    Returns `{"lease": created?, "desired": "started", "stopped" or False}`.

    CLI Example:

    .. code-block:: bash

        salt node1 guard.create_lease mnvm
    """
    conf = __salt__["mnha_config.guard"]()
    name = _vm_name(conf, vm)
    existing = __salt__["consul_ha.kv_list"](f"{keys.vm(name)}/")
    run = "started" if following.holder_of(existing.get(keys.lease(name)) or {}) else "stopped"
    created = {"lease": not existing.get(keys.lease(name)), "desired": keys.desired(name) not in existing and run}
    if test:
        return created
    if created["lease"]:  # before the desired state: where a record of the VM is left, somebody has deleted the lease
        created["lease"] = _run(lambda: _create_lease(conf, name, again=bool(existing)))
    if created["desired"]:
        wish = {"run": run, "by": f"installation on {conf['node']}", "at": time.time()}
        created["desired"] = __salt__["consul_ha.kv_cas"](keys.desired(name), wish, 0) and run
    return created


def check() -> list[dict[str, Any]]:
    """What this node needs to run its VMs, each `{"what", "ok", "why"}`; a non-zero return code if something is
    wrong.

    CLI Example:

    .. code-block:: bash

        salt '*' guard.check
    """
    try:
        found = _request("status", timeout_s=2.0)
    except MnhaError as error:
        rows = [{"what": "guard", "ok": False, "why": error.message}]
    else:
        consul, watchdog = found.get("consul") or {}, found.get("watchdog") or {}
        rows = [
            {"what": "guard", "ok": True, "why": ""},
            {"what": "consul", "ok": bool(consul.get("reachable")), "why": consul.get("error", "")},
            {
                "what": "watchdog",
                "ok": watchdog.get("mode") != "required" or bool(watchdog.get("device")),
                "why": watchdog.get("why", ""),
            },
        ]
        rows += [
            {"what": f"guard: {name}", "ok": False, "why": why} for name, why in (found.get("faults") or {}).items()
        ]
        rows += [
            {"what": f"certificate: {word.name}", "ok": not word.is_fault, "why": word.text}
            for word in certificates.told(found, time.time())
        ]
        for name, one in sorted(checks.of_status(found).items()):
            rows.append({"what": name, "ok": bool(one.get("ok")), "why": one.get("why", "")})
    if not all(row["ok"] for row in rows):
        __context__["retcode"] = 1
    return rows


def _create_lease(conf: dict[str, Any], vm: str, again: bool) -> bool:
    """Write a first record with the guard's own token: nobody else's may write a lease; over one that can't be read,
    too. False: there is one already.

    One that is created again goes on above the epochs of the one that was deleted, which nobody can be asked for: each
    of them has cost Consul a write, so none was above the index of its newest one. If epochs began anew, what still
    names an old one would be taken for the new one's: the masters' claims of failovers, the VM's fencing token.
    """
    token = consul_http.read_token(TOKEN_FILE)
    servers = conf["consul"]["servers"]
    client = consul_client.ConsulClient(
        [server["host"] for server in servers], token, token_name=f"the token in {TOKEN_FILE}", port=servers[0]["port"]
    )
    key, timings = keys.full(conf["cluster"], keys.lease(vm)), Timings.from_dict(conf["timings"])
    there = client.get(key)
    if there and not unreadable.lease_fault(there.value):
        return False
    if there and unreadable.is_newer(there.value):
        raise FailedError(f"the lease of {vm} in Consul is of another version, and is left alone: upgrade this node")
    is_first = not again and there is None
    record = lease.first(timings) if is_first else replace(lease.created_again(timings), epoch=client.index(key))
    return client.cas(key, json.loads(record.to_json()), there.index if there else 0)


def _vm_name(conf: dict[str, Any], vm: str | None) -> str:
    """The VM meant; it may be left out where there is one only."""
    names = [one["name"] for one in conf["vms"]]
    if vm is None and len(names) == 1:
        return names[0]
    if vm in names:
        return vm
    raise CommandExecutionError(f"cluster {conf['cluster']} has no VM {vm!r}; its VMs are {', '.join(names)}")


def _order(op: str, vm: str | None, wait_s: float, more_s: float = 0.0, /, **fields: Any) -> dict[str, Any]:
    """An order whose failure is the function's failure; `more_s`: what may come on top of the guard's time limit."""
    timeout_s = float(wait_s) + more_s + SLACK_S
    return _run(lambda: _request(op, timeout_s=timeout_s, vm=vm, wait_s=float(wait_s), **fields))


def _request(op: str, timeout_s: float, **fields: Any) -> dict[str, Any]:
    """One request to the socket of this node (`mnha_guard_socket` of the minion configuration overrides its
    path).
    """
    path = __opts__.get("mnha_guard_socket") or guard_client.SOCKET
    return guard_client.request(op, path=path, timeout_s=timeout_s, **fields)


def _boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _run(ask: Callable[[], Any]) -> Any:
    """Turn this project's errors into the one that Salt shows without a stack trace."""
    try:
        return ask()
    except (RefusedError, DeadlineError) as error:
        raise CommandExecutionError(f"{error.kind}: {error.message}") from error
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error
