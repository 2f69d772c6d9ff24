"""What systemd is about to do."""

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
