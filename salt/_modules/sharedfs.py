"""Shared file systems of this host (NFS, GlusterFS, CephFS, OCFS2 and others), mounted by units of systemd.

Nothing here is kept waiting by a file server that is gone: what is mounted is read from the kernel's table, what is in
there is looked at by a process of its own, for some seconds.
"""

from __future__ import annotations

import difflib
import subprocess
import time
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import mounting, mounts, share

__virtualname__ = "sharedfs"
UNITS = Path("/etc/systemd/system")
BEFORE = ("mnha-guard.service", "libvirtd.service")
COMMAND_S = mounting.START_S + 15.0
LONG_S = 15
"""A lease time of NFSv4 from which on it is told what it costs."""


def __virtual__():
    return __virtualname__


def list_() -> dict[str, dict[str, Any]]:
    """The shared file systems that are mounted here, by folder: source, type and options.

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.list
    """
    found = [one for line in mounts.table() if (one := mounts.parse(line)) and _is_shared(one)]
    return {mounts.plain(one.point): _shown(one) for one in found}


__func_alias__ = {"list_": "list"}


def status(folder: str) -> dict[str, Any]:
    """How a mount is: `mounted`, `answers` and within which time (`latency_s`), `source`, `type`, `options`, `locks`
    (whether they hold between nodes), `lease_time_s` (for how long an NFSv4 server keeps a dead node's locks), and
    `told`: what is wrong, and what it means for a failover, a sentence each. Returns within some seconds in any case.

    folder
        where it is mounted

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.status /opt/smp/mngt
    """
    mount = mounts.at(folder, mounts.table())
    if mount is None:
        return {"mounted": False, "told": [f"nothing is mounted at {folder}"]}
    told = [f"{folder}: {fault}" for fault in mount.faults]
    began_s, wrong = time.monotonic(), ""
    try:
        if found := share.look(folder)["folder"]:
            wrong = f"{folder} {found}"
    except OSError as error:  # TimeoutError is one
        wrong = str(error)
    latency_s = time.monotonic() - began_s
    lease_s = mounts.lease_time_s(folder, mounts.STATISTICS.read_text(encoding="utf-8", errors="replace"))
    if lease_s is not None and lease_s > LONG_S:
        told.append(
            f"{folder}: the file server keeps a dead node's locks for {lease_s} s, and no other node can start its VM "
            f"before: set lease-time and grace-time below [nfsd] in the server's /etc/nfs.conf, 10 for instance"
        )
    return {
        "mounted": True,
        "answers": not wrong,
        "latency_s": round(latency_s, 3) if not wrong else None,
        **_shown(mount),
        "locks": not mount.faults and not mount.is_local,
        "lease_time_s": lease_s,
        "told": ([wrong] if wrong else []) + told,
    }


def mounted(
    folder: str, source: str, kind: str = "nfs4", options: list[str] | None = None, test: bool = False,
    force: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Have a shared file system mounted, now and at each boot; returns what changed, empty if nothing. What is mounted
    and agrees in meaning is not touched. What does not is mounted anew, but not under a VM that runs here.

    folder
        where
    source
        what: `nfs1:/export/mngt`, `/dev/mapper/shared`, …
    kind
        the file system's type, as `mount` takes it
    options
        more options, or others than the defaults of NFS (vers=4.2,hard,noatime)
    test
        tell what would change
    force
        mount it anew though a VM runs here

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.mounted /opt/smp/mngt nfs1:/export/mngt test=True
    """
    wanted = mounting.Wanted(folder, source, kind, mounting.with_defaults(kind, options or []))
    live = mounts.at(folder, mounts.table())
    unlike = mounting.differences(wanted, live) if live else []
    unit = _unit_of(folder)
    files = {UNITS / unit: mounting.unit(wanted, BEFORE), UNITS / f"{mounting.AGAIN}.service": mounting.again()}
    old = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in files}
    changes: dict[str, Any] = {
        str(path): {"diff": _diff(old[path], text)} for path, text in files.items() if old[path] != text
    }
    if live is None:
        changes["mounted"] = {"old": None, "new": source}
    elif unlike:
        changes["mounted"] = {"old": live.source, "new": source, "why": unlike}
    is_enabled = _systemctl("is-enabled", unit, check=False) == "enabled"
    if not is_enabled:
        changes["enabled"] = {"old": False, "new": True}
    if unlike and not force:
        _require_no_vm(f"{folder} is not mounted anew", f"({'; '.join(unlike)})", "; or `force=True`")
    if test or not changes:
        return changes
    for path, text in files.items():
        if old[path] != text:
            path.write_text(text, encoding="utf-8")
    _systemctl("daemon-reload")
    if not is_enabled:
        _systemctl("enable", unit)
    if unlike:
        _systemctl("stop", unit, why=f"{folder} can't be unmounted, is it in use? `fuser -vm {folder}` tells by whom")
    if live is None or unlike:
        _systemctl("start", unit, why=f"{source} can't be mounted at {folder}; it is tried again every 10 s")
    return changes


def unmounted(folder: str, test: bool = False) -> dict[str, Any]:
    """Have a shared file system mounted no more, neither now nor at boot; returns what changed, empty if nothing. Not
    while a VM runs here.

    folder
        where
    test
        tell what would change

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.unmounted /opt/smp/ps
    """
    live, unit = mounts.at(folder, mounts.table()), _unit_of(folder)
    path = UNITS / unit
    changes: dict[str, Any] = {}
    if live is not None:
        changes["mounted"] = {"old": live.source, "new": None}
    if path.exists():
        changes[str(path)] = {"diff": _diff(path.read_text(encoding="utf-8"), "")}
    if live is not None:
        _require_no_vm(f"{folder} is not unmounted")
    if test or not changes:
        return changes
    if path.exists():
        _systemctl("disable", unit)
    if live is not None:
        _systemctl("stop", unit, why=f"{folder} can't be unmounted, is it in use? `fuser -vm {folder}` tells by whom")
    path.unlink(missing_ok=True)
    _systemctl("daemon-reload")
    return changes


def _is_shared(mount: mounts.Mount) -> bool:
    """Whether a mount is of another machine, or a device that several can have."""
    return mount.kind in mounts.NFS or mount.kind in ("fuse.glusterfs", "ceph", "ocfs2", "gfs2", "cifs", "lustre")


def _shown(mount: mounts.Mount) -> dict[str, Any]:
    return {"source": mount.source, "type": mount.kind, "options": sorted(mount.options)}


def _require_no_vm(what: str, why: str = "", way: str = "") -> None:
    """That no protected VM runs here; a guard that is not there yet guards none."""
    if vms := __salt__["guard.vms_here"]():
        raise CommandExecutionError(
            f"{what} while {', '.join(vms)} runs here{why and f' {why}'}: "
            f"`salt-run mnha.maintenance {__opts__['id']} on` moves it away{way}"
        )


def _unit_of(folder: str) -> str:
    return _run(["systemd-escape", "--path", "--suffix=mount", folder])


def _systemctl(verb: str, *units: str, check: bool = True, why: str = "") -> str:
    try:
        return _run(["systemctl", verb, *units], check=check)
    except CommandExecutionError as error:
        if not why:
            raise
        journal = _run(["journalctl", "--quiet", "--output=cat", "--lines=3", *(f"--unit={one}" for one in units)],
                       check=False)  # fmt: skip
        said = "; ".join(line.strip() for line in journal.splitlines() if line.strip())
        raise CommandExecutionError(f"{why}: {said or error}") from error


def _run(words: list[str], *, check: bool = True) -> str:
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{' '.join(words)}: {error}") from error
    if check and done.returncode:
        raise CommandExecutionError(f"{' '.join(words)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout.strip()


def _diff(old: str, new: str) -> str:
    return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), n=1))
