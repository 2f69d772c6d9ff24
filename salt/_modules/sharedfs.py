"""Shared file systems of this host (NFS, GlusterFS, CephFS, OCFS2 and others), mounted by units of systemd.

Nothing here is kept waiting by a file server that is gone: what is mounted is read from the kernel's table, what is in
there is looked at by a process of its own, for some seconds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from salt.exceptions import CommandExecutionError

from mnha.errors import Fault
from mnha.host import file_servers, mounting, mounts, open_files, share
from mnha.host import mount_arguments as arguments

__virtualname__ = "sharedfs"
UNITS = Path("/etc/systemd/system")
AGAIN_UNIT = UNITS / f"{mounting.AGAIN}.service"
KINDS = Path("/proc/filesystems")
HELPERS = ("/sbin", "/usr/sbin")
BEFORE = ("mnha-guard.service", "libvirtd.service")
COMMAND_S = mounting.START_S + 15.0
SAID_LINES, SAID_LETTERS = 4, 500
"""So much of what a mount program said is told."""
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
    """How a mount is: `mounted`, `at` which folder (of a folder that lies in a share that is mounted above), `answers`
    and within which time (`latency_s`), `source`, `type`, `options`, `locks` (whether they hold between nodes),
    `lease_time_s` (for how long an NFSv4 server keeps a dead node's locks), and `told`: what is wrong, and what it
    means for a failover, a sentence each. Returns within some seconds in any case. Non-zero return code: it is not
    mounted, or does not answer.

    folder
        where it is mounted, or a folder in it

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.status /opt/smp/mngt
    """
    _refuse(arguments.of_path(folder))
    folder = arguments.plain_path(folder)
    mount = _carrier(folder)
    if isinstance(mount, str):
        __context__["retcode"] = 1
        return {"mounted": False, "told": [mount]}
    point = mounts.plain(mount.point)
    told = [f"{point}: {fault}" for fault in mount.faults]
    began_s, wrong = time.monotonic(), ""
    try:
        if found := share.look(folder)["folder"]:
            wrong = f"{folder} {found}"
    except OSError as error:  # TimeoutError is one
        wrong = str(error)
    latency_s = time.monotonic() - began_s
    lease_s = mounts.lease_time_s(point, mounts.STATISTICS.read_text(encoding="utf-8", errors="replace"))
    if lease_s is not None and lease_s > LONG_S:
        told.append(
            f"{point}: the file server keeps a dead node's locks for {lease_s} s, and no other node can start its VM "
            f"before: set lease-time and grace-time below [nfsd] in the server's /etc/nfs.conf, 10 for instance"
        )
    if wrong:
        __context__["retcode"] = 1
    return {
        "mounted": True,
        "at": point,
        "answers": not wrong,
        "latency_s": round(latency_s, 3) if not wrong else None,
        **_shown(mount),
        "locks": not mount.faults and not mount.is_local,
        "lease_time_s": lease_s,
        "told": ([wrong] if wrong else []) + told,
    }


def mounted(
    folder: str, source: str, kind: str = "nfs4", options: list[str] | str | None = None, test: bool = False,
    force: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Have a shared file system mounted, now and at each boot; returns what changed, empty if nothing. What is mounted
    and agrees in meaning is not touched. What does not is mounted anew, but not under a VM that runs here. While one
    runs, nothing is mounted at, in or above the folder with the images. What the pillar's check refuses is refused.

    A mount that is refused leaves the units as they were. One whose server is silent is tried again every 10 s.

    folder
        where
    source
        what: `nfs1:/export/mngt`, `/dev/mapper/shared`, …
    kind
        the file system's type, as `mount` takes it
    options
        more options, or others than the defaults of NFS (vers=4.2,hard,noatime): a list, or a text with commas between
    test
        tell what would change
    force
        mount it, or mount it anew, though a VM runs here

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.mounted /opt/smp/mngt nfs1:/export/mngt test=True
    """
    wanted = _asked(folder, source, kind, options)
    plan = _plan(wanted)
    if plan.unlike and not force:
        _require_no_vm(f"{wanted.folder} is not mounted anew", f"({'; '.join(plan.unlike)})", "; or `force=True`")
    elif plan.live is None and not force:
        _require_images_untouched(wanted.folder)
    if test or not plan.changes:
        return plan.changes
    try:
        _write(plan)
        if plan.unlike:
            _systemctl("stop", plan.unit, why=_cant_unmount(wanted.folder))
    except CommandExecutionError as error:
        raise CommandExecutionError(f"{error}; {_restore(plan)}") from error
    if plan.live is None or plan.unlike:
        _start(wanted, plan)
    return plan.changes


def unmounted(folder: str, test: bool = False) -> dict[str, Any]:
    """Have a shared file system mounted no more, neither now nor at boot; returns what changed, empty if nothing. Not
    while a VM here has a file open on that very mount. Of several mounts, one over the other, the one that is seen is
    unmounted; the unit goes with the mount that it is for.

    folder
        where
    test
        tell what would change

    CLI Example:

    .. code-block:: bash

        salt node1 sharedfs.unmounted /opt/smp/ps
    """
    _refuse(arguments.of_folder(folder))
    folder = arguments.plain_path(folder)
    there, unit = mounts.all_at(folder, mounts.table()), _unit_of(folder)
    live = there[-1] if there else None
    path = UNITS / unit
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    is_its = bool(text) and (live is None or len(there) == 1 or mounting.source_of(text) == live.source)
    changes: dict[str, Any] = {}
    if live is not None:
        changes["mounted"] = {"old": live.source, "new": None}
    if is_its:
        changes[str(path)] = {"diff": _diff(text, "")}
    if live is not None:
        _require_not_open(folder, live)
    if test or not changes:
        return changes
    is_enabled = _systemctl("is-enabled", unit, check=False) == "enabled"
    if is_its:
        _systemctl("disable", unit)
    if live is not None:
        # systemd would unmount what lies below as well, and stop what needs it; the kernel refuses what is in use.
        alone = len(there) == 1 and not __salt__["guard.vms_here"]()
        try:
            if alone:
                _systemctl("stop", unit, why=_cant_unmount(folder))
            else:
                _run(["umount", "--no-canonicalize", folder], why=_cant_unmount(folder))
        except CommandExecutionError:
            if is_its and is_enabled:
                _systemctl("enable", unit)
            raise
    if is_its:
        _quiet(unit)
        if live is None:  # it may be at it right now
            _systemctl("stop", unit, check=False)
        path.unlink(missing_ok=True)
        _forget(unit)
    return changes


class _Plan(NamedTuple):
    """What a mount takes, and what was there before: the unit, what is mounted (`live`), in what that is another one
    than is wanted (`unlike`), the units' texts (`files`), and those that were there (`old`; empty: none).

    No dataclass: Salt's loader keeps modules where those do not find them.
    """

    unit: str
    live: mounts.Mount | None
    unlike: list[str]
    files: dict[Path, str]
    old: dict[Path, str]
    is_enabled: bool
    changes: dict[str, Any]


def _plan(wanted: mounting.Wanted) -> _Plan:
    live, unit = mounts.at(wanted.folder, mounts.table()), _unit_of(wanted.folder)
    unlike = mounting.differences(wanted, live) if live else []
    files = {UNITS / unit: mounting.unit(wanted, BEFORE), AGAIN_UNIT: mounting.again()}
    old = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in files}
    changes: dict[str, Any] = {
        str(path): {"diff": _diff(old[path], text)} for path, text in files.items() if old[path] != text
    }
    if live is None:
        changes["mounted"] = {"old": None, "new": wanted.source}
    elif unlike:
        changes["mounted"] = {"old": live.source, "new": wanted.source, "why": unlike}
    elif str(UNITS / unit) in changes and (unseen := mounting.unseen(wanted, live)):
        changes["from the next mount on"] = unseen
    is_enabled = _systemctl("is-enabled", unit, check=False) == "enabled"
    if not is_enabled:
        changes["enabled"] = {"old": False, "new": True}
    return _Plan(unit, live, unlike, files, old, is_enabled, changes)


def _write(plan: _Plan) -> None:
    """Have the units as they are planned, and enabled."""
    for path, text in plan.files.items():
        if plan.old[path] != text:
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise CommandExecutionError(f"{path} can't be written: {error.strerror}") from error
    _systemctl("daemon-reload")
    if not plan.is_enabled:
        _systemctl("enable", plan.unit)


def _start(wanted: mounting.Wanted, before: _Plan) -> None:
    """Mount it; what is refused is taken back, what is silent is tried again."""
    since_s = time.time()
    try:
        _run(["systemctl", "start", before.unit])
    except CommandExecutionError as error:
        why = f"{wanted.source} can't be mounted at {wanted.folder}"
        said = _said(before.unit, since_s) or str(error)
        result = _run(["systemctl", "show", "--property=Result", "--value", before.unit], check=False)
        if result == "timeout" or file_servers.is_silent(wanted):
            raise CommandExecutionError(f"{why}; it is tried again every 10 s: {said}") from error
        raise CommandExecutionError(f"{why}: {said}; {_restore(before)}") from error


def _restore(before: _Plan) -> str:
    """Have the units as they were before, and the mount; what has become of it."""
    _quiet(before.unit)
    if not before.is_enabled:
        _systemctl("disable", before.unit, check=False)
    for path, text in before.old.items():
        if text:
            path.write_text(text, encoding="utf-8")
        else:
            path.unlink(missing_ok=True)
    _systemctl("daemon-reload")
    _systemctl("reset-failed", before.unit, check=False)
    folder = before.live and mounts.plain(before.live.point)
    if not before.live or not folder or mounts.at(folder, mounts.table()):
        return "nothing was changed"
    if before.old[UNITS / before.unit]:
        _systemctl("start", before.unit, check=False)
    else:
        options = ",".join(mounting.own_options(before.live))
        _run(["mount", "-t", before.live.kind, "-o", options, before.live.source, folder], check=False)
    if mounts.at(folder, mounts.table()):
        return f"{before.live.source} is mounted again as before"
    return f"{before.live.source}, which was mounted before, is mounted no more: mount it again"


def _quiet(unit: str) -> None:
    """Let nobody try a unit again."""
    again = f"{mounting.AGAIN}{unit}.service"
    _systemctl("stop", again, check=False)
    _systemctl("reset-failed", again, check=False)


def _forget(unit: str) -> None:
    """Have systemd forget a unit that is gone, and the one that tries it again when it tries no other."""
    units = [one for one in UNITS.glob("*.mount") if one.is_file()]
    if not any(mounting.is_tried_again(one.read_text(encoding="utf-8", errors="replace")) for one in units):
        AGAIN_UNIT.unlink(missing_ok=True)
    _systemctl("daemon-reload")
    _quiet(unit)
    _systemctl("reset-failed", unit, check=False)


def _asked(folder: Any, source: Any, kind: Any, options: Any) -> mounting.Wanted:
    """What is wanted, by arguments without a fault."""
    found = [*arguments.of_folder(folder), *(wrong := [*arguments.of_kind(kind)])]
    if not wrong and not _is_known(kind):
        near = difflib.get_close_matches(kind, [*arguments.WELL_KNOWN, *_kinds_of_kernel()], 1)
        problem = f"this host knows no file system {kind}: neither its kernel, nor is there a /sbin/mount.{kind}"
        remedy = f"did you mean {near[0]}?" if near else "install its tools, or correct it"
        found.append(Fault("kind", kind, problem, remedy))
    found += [*arguments.of_source(source, kind), *(of_options := [*arguments.of_options(options, kind)])]
    given = arguments.listed(options)
    if not of_options and isinstance(kind, str) and isinstance(folder, str):
        found += _faults_for_images(arguments.plain_path(folder), kind, given)
    _refuse(found)
    return mounting.Wanted(arguments.plain_path(folder), source, kind, mounting.with_defaults(kind, given))


def _faults_for_images(folder: str, kind: str, options: tuple[str, ...]) -> Iterator[Fault]:
    """What makes a mount unfit to carry the folder with the images; nothing if it carries something else."""
    clusters = _clusters()
    nearer = [one for line in mounts.table() if (one := mounts.parse(line))]
    for images in {cluster.image_folder for cluster in clusters if cluster.image_folder}:
        between = (mounts.plain(one.point) for one in nearer)
        is_carried_by_another = any(
            point != folder and arguments.is_in(images, point) and arguments.is_in(point, folder) for point in between
        )
        if not arguments.is_in(images, folder) or is_carried_by_another:
            continue
        yield from arguments.read_only(options)
        if clusters[0].unsafe_mount == "refuse":
            for fault in arguments.unsafe(kind, options):
                yield dataclasses.replace(fault, remedy=f"{fault.remedy}; or set unsafe_mount: warn in the pillar")


def _clusters() -> list[Any]:
    """The configurations that say where the images are: the pillar's, then the one in force; none on a host that
    belongs to no cluster yet.
    """
    found = []
    for function in ("mnha_config.cluster", "mnha_config.in_force"):
        if function.endswith("in_force") or (__pillar__.get("mnha") or {}).get("cluster"):
            with contextlib.suppress(CommandExecutionError, KeyError):
                found.append(__salt__[function]())
    return found


def _is_known(kind: str) -> bool:
    """Whether this host can mount such a file system, or may be made to."""
    if kind in arguments.WELL_KNOWN or kind in _kinds_of_kernel():
        return True
    names = {kind, kind.partition(".")[0]}
    if any(Path(folder, f"mount.{name}").exists() for folder in HELPERS for name in names):
        return True
    with contextlib.suppress(CommandExecutionError):
        _run(["modprobe", "--quiet", "--dry-run", f"fs-{kind}"])
        return True
    return False


def _kinds_of_kernel() -> list[str]:
    return [line.split()[-1] for line in KINDS.read_text(encoding="ascii").splitlines() if line.split()]


def _refuse(faults: Iterable[Fault]) -> None:
    """All faults at once."""
    if found := [str(fault) for fault in faults]:
        raise CommandExecutionError("\n".join(found))


def _carrier(folder: str) -> mounts.Mount | str:
    """What is mounted at a folder, or the share that it lies in; why there is neither."""
    if mount := mounts.at(folder, table := mounts.table()):
        return mount
    above = mounts.carrying(folder, table)
    if above is None or above.point == "/":
        return f"nothing is mounted at {folder}"
    if not _is_shared(above) or (UNITS / _unit_of(folder)).exists():
        return (
            f"nothing is mounted at {folder}; it lies in {above.source} ({above.kind} at {mounts.plain(above.point)})"
        )
    return above


def _cant_unmount(folder: str) -> str:
    return f"{folder} can't be unmounted, is it in use? `fuser -vm {folder}` tells by whom"


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


def _require_images_untouched(folder: str) -> None:
    """That nothing is mounted at, in or above the folder with the images of a VM that runs here, nor over a file that
    it has open: its image would not be found there any more, and it could not be moved.
    """
    if not (vms := __salt__["guard.processes_here"]()):
        return
    clusters = _clusters()
    folders = {cluster.image_folder for cluster in clusters if cluster.image_folder}
    places = {place for folder in folders for place in (folder, _real(folder))}
    for place in sorted(places):
        if arguments.is_in(place, folder) or arguments.is_in(folder, place):
            _require_no_vm(f"nothing is mounted at {folder}", f"(images are in {place})", "; or `force=True`")
    hidden = [one.path for one in _open(vms) if arguments.is_in(one.path, folder)]
    if hidden or not clusters:
        why = f"(it has {hidden[0]} open)" if hidden else "(where its image is, is not known)"
        _require_no_vm(f"nothing is mounted at {folder}", why, "; or `force=True`")


def _require_not_open(folder: str, mount: mounts.Mount) -> None:
    """That no VM here has a file open on this very mount."""
    for vm, pids in sorted(__salt__["guard.processes_here"]().items()):
        found = _open({vm: pids})
        if used := sorted(one.path for one in found if one.is_on(mount)):
            _require_no_vm(f"{folder} is not unmounted", f"({vm} has {used[0]} open there)")
        if not found:
            _require_no_vm(f"{folder} is not unmounted", f"(which files {vm} has open is not known)")


def _open(vms: Mapping[str, list[int]]) -> list[open_files.Open]:
    try:
        return [one for pids in vms.values() for one in open_files.of(pids)]
    except OSError as error:
        raise CommandExecutionError(f"which files {', '.join(vms)} has open is not known: {error}") from error


def _real(folder: str) -> str:
    """A folder without symbolic links; as it is, where that can't be known."""
    try:
        return str(share.look(folder)["real"])
    except OSError:
        return folder


def _unit_of(folder: str) -> str:
    return _run(["systemd-escape", "--path", "--suffix=mount", folder])


def _systemctl(verb: str, *units: str, check: bool = True, why: str = "") -> str:
    since_s = time.time()
    try:
        return _run(["systemctl", verb, *units], check=check)
    except CommandExecutionError as error:
        if not why:
            raise
        raise CommandExecutionError(f"{why}: {_said(units[0], since_s) or error}") from error


def _said(unit: str, since_s: float) -> str:
    """What a unit's program said last, or systemd of it, in one line; empty: nothing."""
    _run(["journalctl", "--sync"], check=False)
    words = ["journalctl", "--quiet", "--output=cat", f"--since=@{int(since_s)}", f"--unit={unit}"]
    for more in (["--identifier=mount", "--identifier=umount"], []):
        found = _run([*words, f"--lines={SAID_LINES}", *more], check=False)
        lines = dict.fromkeys(line.strip() for line in found.splitlines() if line.strip())
        if lines:
            return "; ".join(lines)[:SAID_LETTERS]
    return ""


def _run(words: list[str], *, check: bool = True, why: str = "") -> str:
    """What a program prints.

    :param check: whether its failure is an error.
    :param why: what that error begins with.
    """
    before = f"{why}: " if why else ""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{before}{' '.join(words)}: {error}") from error
    if check and done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise CommandExecutionError(f"{before}{' '.join(words)}: {said}")
    return done.stdout.strip()


def _diff(old: str, new: str) -> str:
    return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), n=1))
