"""What the figures were measured on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from lab.settings import REPOSITORY, SALT_VERSION


def describe() -> dict[str, Any]:
    """The machine, its kernel and the commit, as the JSON file has it."""
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "memory_gib": round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 1024**2, 1),
        "kernel": platform.release(),
        "system": _field("/etc/os-release", "PRETTY_NAME", "=").strip('"'),
        "load1": os.getloadavg()[0],
        "salt": SALT_VERSION,
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed_files": len(_git("status", "--porcelain", "--", "salt", "lab", "tests/bench").splitlines()),
        "guest": "1 CPU, 256 MiB, emulated (TCG)",
    }


def sentence(machine: dict[str, Any]) -> str:
    """The description in a line."""
    return (
        f"{machine['cpus']} × {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"kernel {machine['kernel']}; guest {machine['guest']}; commit {machine['commit']}"
        + (f" with {machine['changed_files']} changed files" if machine["changed_files"] else "")
    )


def _field(path: str, name: str, separator: str = ":") -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(separator)
        if key.strip() == name:
            return value.strip()
    return "0"


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", REPOSITORY, *words], capture_output=True, text=True, check=False)
    return done.stdout.strip()
