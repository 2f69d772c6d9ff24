"""The machine that carries the lab: its packages, and whether it can carry it at all."""

from __future__ import annotations

import os
from pathlib import Path

from lab.settings import HERE, LabError
from lab.shell import read_list, run, say, step


def installed(names: list[str]) -> set[str]:
    """Those of the Debian packages `names` that are installed."""
    done = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names], check=False)
    return {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}


def prepare() -> None:
    """Installs what the lab needs on this machine; does nothing where all is there."""
    require_root()
    wanted = read_list(HERE / "host-packages.txt")
    missing = [name for name in wanted if name not in installed(wanted)]
    if not missing:
        say(f"host: all {len(wanted)} packages are installed")
        return
    with step(f"host: installing {', '.join(missing)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-q"], env=quiet)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], env=quiet, timeout_s=1800)


def require_root() -> None:
    """LabError unless the lab may make namespaces, mounts and control groups here."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces, mounts and control groups: run it as root")


def check_host(state: Path) -> None:
    """LabError naming what this machine lacks for the lab, before anything is made."""
    require_root()
    for device in ("/dev/net/tun", "/dev/fuse"):
        if not Path(device).exists():
            raise LabError(f"{device} is missing on this machine: load its kernel module (tun, fuse)")
    state.mkdir(parents=True, exist_ok=True)
    kind = run(["stat", "--file-system", "--format=%T", state]).stdout.strip()
    if kind in ("overlayfs", "tmpfs"):
        raise LabError(f"{state} lies on {kind}, nodes need a real file system: set MNHA_LAB_STATE to a disk folder")
