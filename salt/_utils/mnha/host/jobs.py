"""What systemd is about to do, and what it could do."""

from __future__ import annotations

import subprocess

ASK_S = 5.0


def stops(unit: str) -> bool:
    """Whether systemd is stopping a unit for good, not to start it again. Where it does not say, it is."""
    words = ["systemctl", "list-jobs", "--no-legend", "--plain", unit]
    try:
        told = subprocess.run(words, capture_output=True, text=True, timeout=ASK_S, check=True).stdout
    except (OSError, subprocess.SubprocessError, ValueError):
        return True
    jobs = [line.split() for line in told.splitlines()]
    kinds = [words[2] for words in jobs if unit in words and len(words) > 2]
    return "restart" not in kinds


def node_stops() -> bool:
    """Whether systemd brings the whole machine down, maybe to boot it anew. Where it does not say, it does not."""
    try:
        done = subprocess.run(
            ["systemctl", "is-system-running"], capture_output=True, text=True, timeout=ASK_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.stdout.strip() == "stopping"


def load_state(unit: str) -> str:
    """`loaded` where systemd has a unit and may start it, else another word: `not-found`, `masked`; empty where it does
    not say.
    """
    words = ["systemctl", "show", "--property=LoadState", "--value", unit]
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=ASK_S, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
