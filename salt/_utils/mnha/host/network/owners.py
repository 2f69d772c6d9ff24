"""Who else makes the network of a host: two of them would undo each other's work."""

from __future__ import annotations

import subprocess
from pathlib import Path

OTHERS = {
    "netplan": "move its files (/etc/netplan/*.yaml) away, and write what they say of interfaces that stay as they are "
    "into /etc/network/interfaces",
    "systemd-networkd": "write what its files (/etc/systemd/network) say into /etc/network/interfaces, and disable it: "
    "`systemctl disable systemd-networkd.service systemd-networkd.socket`",
    "NetworkManager": "disable it: `systemctl disable --now NetworkManager`, from a console of the host",
}


def others(root: Path = Path("/")) -> list[str]:
    """Those that make the network of this host, a sentence each with what to do; empty: only ifupdown does."""
    found = []
    if any((root / "etc/netplan").glob("*.yaml")):
        found.append("netplan")
    if any((root / "etc/systemd/network").glob("*.network")) and _runs("systemd-networkd"):
        found.append("systemd-networkd")
    if _runs("NetworkManager"):
        found.append("NetworkManager")
    return [f"{name} makes the network of this host: {OTHERS[name]}" for name in found]


def _runs(unit: str) -> bool:
    """Whether a service of systemd's runs."""
    done = subprocess.run(
        ["systemctl", "--quiet", "is-active", unit], stdin=subprocess.DEVNULL, timeout=10, check=False
    )
    return done.returncode == 0
