"""Who else makes the network of a host: two of them would undo each other's work."""

from __future__ import annotations

import subprocess
from pathlib import Path

CONSOLE = "from a console of the host, or as docs/networks.md says, for that may take its addresses away"
OTHERS = {
    "netplan": "move its files (/etc/netplan/*.yaml) away, and write what they say of interfaces that stay as they are "
    "into /etc/network/interfaces",
    "systemd-networkd": "write what its files (/etc/systemd/network, /run/systemd/network) say into "
    "/etc/network/interfaces, and end it for good: `systemctl disable --now systemd-networkd.service "
    f"systemd-networkd.socket`, {CONSOLE}",
    "NetworkManager": "write what `nmcli device show` tells of the interfaces that stay as they are into "
    f"/etc/network/interfaces, and end it for good: `systemctl disable --now NetworkManager`, {CONSOLE}",
}
NETWORKD = ("etc/systemd/network", "run/systemd/network")
"""Where systemd-networkd finds what is this host's own. In the second one netplan writes, at boot."""


def others(root: Path = Path("/")) -> list[str]:
    """Those that make the network of this host, a sentence each with what to do; empty: only ifupdown does."""
    found = []
    if any((root / "etc/netplan").glob("*.yaml")):
        found.append("netplan")
    if any(any((root / folder).glob("*.network")) for folder in NETWORKD) and _runs("systemd-networkd"):
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
