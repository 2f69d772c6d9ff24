"""``mnha-guard --check``: is this node ready to run its VMs, and if not, what is to be done? Looks, changes
nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import libvirt

from .. import keys
from ..core.timing import Timings
from ..errors import FailedError, MnhaError
from ..fencer.slices import KernelSlices
from ..fencer.watchdog import MARK, check_mode, objection
from ..guest import disk
from ..host.jobs import load_state
from . import checks
from .adapters import consul_disk, fencer, probe
from .adapters.consul import Servers
from .adapters.libvirt import URI
from .adapters.rbd import Rbd
from .adapters.share import Rules, fitness, id_of
from .checks import CHECKS, Of, Sight
from .memory import Memory

CONSUL_TIMEOUT_S = 3.0
MACHINED = "systemd-machined.service"


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing looked at; `text` says what is the case, or what to do."""

    name: str
    ok: bool
    text: str


def check(config: dict[str, Any]) -> list[Finding]:
    """Look at everything the guard needs.

    :param config: the guard's configuration, as read from its file.
    """
    findings = [_finding("timings", lambda: _timings(config)), _finding("placement", _placement)]
    consul = config["consul"]
    servers = Servers(consul["servers"], Path(consul["ca"]), Path(consul["token_file"]))
    for number in range(len(consul["servers"])):
        findings.append(_finding(f"consul {servers.name(number)}", lambda n=number: _consul(servers, n)))  # type: ignore[misc]
    for vm in config["vms"]:
        key = keys.full(config["cluster"], keys.lease(vm["name"]))
        findings.append(_finding(f"{vm['name']}: lease", lambda k=key: _lease(servers, k)))  # type: ignore[misc]
    return findings + _checks(config, servers)


def report(findings: list[Finding], *, as_json: bool) -> int:
    """Print the findings; return the exit status: 0 if all is well."""
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            print(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<{width}}  {finding.text}")
    return 0 if all(finding.ok for finding in findings) else 1


def _finding(name: str, look: Callable[[], str]) -> Finding:
    """The finding of `look`, which returns what is the case or raises what is wrong."""
    found = _seen(look)
    return Finding(name, found.ok, found.why)


def _checks(config: dict[str, Any], servers: Servers) -> list[Finding]:
    """All that a running guard checks: first what concerns the node, then what concerns each VM."""
    grounds = _grounds(config, servers)
    libvirt_answers, fences, watchdog = (
        _seen(_libvirt),
        _seen(lambda: _fencer(config)),
        _seen(lambda: _watchdog(config)),
    )
    memory = Memory(config, {})
    consul_writes = consul_disk.look_once(probe.CONSUL_DATA, config["timings"]["lease_s"])
    of_vms: dict[str, probe.Check] = {}
    all_results = []
    for vm in config["vms"]:
        storage, mount, image = grounds[vm["name"]]
        running = not _seen(lambda name=vm["name"]: _empty(config, name)).ok  # type: ignore[misc]
        overlaid = _seen(lambda vm=vm: _disk(config, servers, vm))  # type: ignore[misc]
        lack = memory.lack(vm["name"])
        results = checks.look(
            Sight(
                vm,
                storage=storage,
                mount=mount,
                image=image,
                overlay=overlaid,
                libvirt=libvirt_answers,
                fencer=fences,
                watchdog=watchdog,
                disk=consul_writes,
                running=running,
                lack=lack,
            )
        )
        all_results.append(results)
        of_vms |= {f"{vm['name']}: {name}": one for name, one in results.items() if CHECKS[name].of is Of.VM}
    of_node = {name: _worst(results[name] for results in all_results)
               for name in CHECKS if CHECKS[name].of is not Of.VM}  # fmt: skip
    return [Finding(name, one.ok, one.why or "fine") for name, one in {**of_node, **of_vms}.items()]


def _worst(results: Iterable[probe.Check]) -> probe.Check:
    """The first that fails, as a running guard tells it; if none does, the first."""
    return min(results, key=lambda one: one.ok)


def _grounds(config: dict[str, Any], servers: Servers) -> dict[str, tuple[probe.Check, probe.Check, probe.Check]]:
    """VM -> its storage, how that is mounted, its image: of all in the folder by one look."""
    found = {}
    for vm in config["vms"]:
        if rbd := Rbd.of(vm):
            seen = rbd.look(Path(), f"{config['node']}-{vm['name']}-check", [Path(vm["image"])])
            storage, image = seen.by_whom(rbd.is_of_vm)
            found[vm["name"]] = storage, rbd.mount(seen), image
    if in_files := [vm for vm in config["vms"] if not vm.get("ceph")]:
        seen = _ground(config, servers, [Path(vm["image"]) for vm in in_files])
        mount = fitness(seen.mount, Path(config["image_folder"]), Rules.of(config)) if seen.mount else probe.Check(True)
        found |= {vm["name"]: (seen.storage, mount, one) for vm, one in zip(in_files, seen.images, strict=True)}
    return found


def _ground(config: dict[str, Any], servers: Servers, paths: list[Path]) -> probe.Ground:
    """The folder with the images, if it is the cluster's share."""
    folder = Path(config["image_folder"])
    try:
        row = _row(servers, keys.full(config["cluster"], keys.SHARE))
    except MnhaError as error:
        return probe.Ground.foreign(f"which share is the cluster's is not known: {error.message}", len(paths))
    wanted, declared = id_of(json.loads(row["Value"] or b"") if row else None), Rules.of(config).declared
    return probe.ground(folder, f"{config['node']}-check", paths, folder, wanted, may_be_root=declared)


def _disk(config: dict[str, Any], servers: Servers, vm: dict[str, Any]) -> str:
    """A start would go on where the VM last wrote to."""
    row = _row(servers, keys.full(config["cluster"], keys.disk(vm["name"])))
    if why := disk.objection(json.loads(row["Value"] or b"") if row else None, vm["name"], vm["image"]):
        raise FailedError(why)
    return ""


def _seen(look: Callable[[], str]) -> probe.Check:
    """What `look` returns or raises, as a check."""
    try:
        return probe.Check(True, look())
    except MnhaError as error:
        return probe.Check(False, error.message)
    except Exception as error:  # the other looks are of use all the same
        return probe.Check(False, f"this look has ended in a way nobody expected: {error!r}")


def _timings(config: dict[str, Any]) -> str:
    """The timings satisfy their inequalities."""
    timings = Timings.from_dict(config["timings"])
    return f"a VM without renewals is killed after {timings.deadline_s:g} s, taken over after {timings.lease_s:g} s"


def _placement() -> str:
    """libvirt can have QEMU put into its slice."""
    return placed_by(load_state(MACHINED))


def placed_by(state: str) -> str:
    """Who puts QEMU into its slice, by what systemd says of machined's unit (:func:`mnha.host.jobs.load_state`).

    :raises FailedError: nobody, so that no VM starts.
    """
    if state == "loaded":
        return f"libvirt puts a VM into its slice by {MACHINED}"
    if not state:
        raise FailedError(f"systemd does not say whether it has {MACHINED}, by which libvirt puts a VM into its slice")
    remedy = f"run `systemctl unmask {MACHINED}`" if state == "masked" else "apply states.hypervisor"
    raise FailedError(
        f"{MACHINED} is {state}: without it libvirt can't put a VM into its slice, and none starts; {remedy}"
    )


def _fencer(config: dict[str, Any]) -> str:
    """The fencer answers."""
    fencer.ask(Path(config["fencer"]["socket"]), "status")
    return "answers"


def _empty(config: dict[str, Any], vm: str) -> str:
    """The VM does not run here."""
    try:
        if KernelSlices(Path(config["fencer"]["slices"])).is_empty(vm):
            return "off"
    except OSError as error:
        raise FailedError(f"whether {vm} runs can't be known: {error}") from error
    raise FailedError("runs")


def _watchdog(config: dict[str, Any]) -> str:
    """The watchdog can be used if it is required. It is not opened: that would start it. While it counts for
    a VM, the fencer has it.
    """
    mode, device = check_mode(config["watchdog"]), config.get("watchdog_device", "/dev/watchdog")
    if mode == "off":
        return "off by configuration"
    if (Path(config["fencer"]["socket"]).parent / MARK).exists():
        return f"{device} counts for a VM on this node"
    why = objection(Path(device))
    if why and mode == "required":
        raise FailedError(why)
    return f"{why}; a VM that can't be killed is not covered" if why else f"{device} can be used"


def _libvirt() -> str:
    """libvirtd answers."""
    try:
        connection = libvirt.open(URI)
    except libvirt.libvirtError as error:
        raise FailedError(f"libvirtd does not answer at {URI}: {error}; apply states.hypervisor") from error
    version = connection.getLibVersion()
    connection.close()
    return f"libvirt {version // 1000000}.{version // 1000 % 1000}.{version % 1000} answers"


def _consul(servers: Servers, number: int) -> str:
    """This server answers and knows a leader."""
    leader = servers.ask(number, CONSUL_TIMEOUT_S, lambda consul: consul.status.leader())
    if not leader:
        raise FailedError("has no leader: fewer than half of the servers see each other")
    return f"leader is {leader}"


def _lease(servers: Servers, key: str) -> str:
    """The lease record exists and may be read with the guard's token."""
    row = _row(servers, key)
    if row is None:
        raise FailedError(f"{key} does not exist: run guard.create_lease, or apply states.guard")
    record = json.loads(row["Value"] or b"")
    return f"epoch {record['epoch']}, {record['phase']} by {record['holder'] or 'nobody'}"


def _row(servers: Servers, key: str) -> dict[str, Any] | None:
    """A record's row of Consul, as the nearest server has it that answers; None: there is none.

    :raises FailedError: none answers.
    """
    failures = []
    for number in range(len(servers)):
        try:
            row: dict[str, Any] | None = servers.read(number, CONSUL_TIMEOUT_S, lambda consul: consul.kv.get(key)).value
        except MnhaError as error:
            failures.append(error.message)
            continue
        return row
    raise FailedError("; ".join(failures))
