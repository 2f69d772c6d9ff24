"""The layer in which the product's own states have already installed their packages.

One bare node's file system is given to `salt-call --local state.apply` with those states that only install packages;
what they change is kept as a layer over the base, so that no node has to install the same packages again. Nothing is
started and no daemon runs: whatever else the states do, they do on the nodes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from lab.pillar import lab_pillar_files
from lab.settings import LabError, plan_nodes
from lab.shell import run, say, write_whole

PACKAGE_STATES = (
    "states.host.packages", "states.hypervisor.packages", "states.consul.packages", "states.guard.packages",
    "states.salt.packages",
)  # fmt: skip
"""States that install packages and do nothing else; those that exist are applied."""

UNITS_OFF = ("consul.service", "libvirt-guests.service")
"""Enabled by their packages; on a node the product's states decide about them."""

FORGET = (
    "etc/machine-id", "etc/hostname", "etc/salt/minion_id", "etc/salt/pki", "var/cache/salt", "var/log/salt",
    "var/log/journal", "var/lib/consul", "run", "tmp", "srv", "var/cache/apt/archives", "usr/sbin/policy-rc.d",
)  # fmt: skip


def state_file(repository: Path, name: str) -> Path | None:
    """The SLS file of a state, or None if the product has no such state."""
    path = repository / "salt" / Path(*name.split("."))
    for candidate in (path.with_suffix(".sls"), path / "init.sls"):
        if candidate.is_file():
            return candidate
    return None


def available_states(repository: Path) -> list[str]:
    """Those of PACKAGE_STATES that the product has."""
    return [name for name in PACKAGE_STATES if state_file(repository, name)]


def inputs(repository: Path) -> str:
    """Text of the package states and the pillar defaults: a changed one makes a new layer."""
    files = [state_file(repository, name) for name in available_states(repository)]
    files += sorted((repository / "salt" / "states").glob("*/files/requirements.txt"))
    return "\0".join(file.read_text() for file in files if file)


def make(folder: Path, repository: Path, base: Path, debs: Path, wheels: Path, states: list[str]) -> None:
    """Fills `folder`/upper. The overlay is mounted in a namespace of its own that ends with this step."""
    upper, work, root, given = (folder / name for name in ("upper", "work", "root", "given"))
    for place in (upper, work, root, given):
        place.mkdir()
    for relative, text in lab_pillar_files(plan_nodes(3)).items():
        write_whole(given / "pillar" / relative, text)
    shutil.copytree(repository / "salt", given / "salt", ignore=shutil.ignore_patterns("__pycache__"))
    lines = ["set -e", f"mount -t overlay overlay -o lowerdir={base},upperdir={upper},workdir={work} {root}",
             f"mount -t tmpfs tmpfs {root}/run", f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev",
             f"mkdir -p {root}/srv/mnha", f"mount --bind {given} {root}/srv/mnha",
             f"mount --bind -o ro {debs} {root}/srv/packages/debs",
             f"mount --bind -o ro {wheels} {root}/srv/packages/wheels",
             f"printf '#!/bin/sh\\nexit 101\\n' >{root}/usr/sbin/policy-rc.d; chmod 755 {root}/usr/sbin/policy-rc.d",
             f"chroot {root} apt-get update -q"]  # fmt: skip
    call = (
        f"chroot {root} salt-call --local --retcode-passthrough --id=node1"
        " --file-root=/srv/mnha/salt --pillar-root=/srv/mnha/pillar"
    )
    lines += [f"{call} saltutil.sync_all", f"{call} state.apply {','.join(states)}"]
    lines.append(f"chroot {root} systemctl disable {' '.join(UNITS_OFF)} || true")
    say(f"warm layer: {', '.join(states)}")
    log = folder / "build.log"
    clean = {"PATH": os.environ.get("PATH", ""), "DEBIAN_FRONTEND": "noninteractive", "PIP_CONFIG_FILE": "/dev/null"}
    try:
        run(["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child", "sh", "-c", "\n".join(lines)],
            log=log, timeout_s=900, env=clean)  # fmt: skip
    except LabError:
        shutil.copy2(log, folder.parent / "warm-failed.log")
        raise
    for name in FORGET:
        path = upper / name
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    for place in (work, root, given):
        shutil.rmtree(place)
