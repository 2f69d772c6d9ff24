"""What a guard's checks are called where those of its node and those of its VMs are told together. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """The checks of a guard's node, with those of Salt there, and those of each VM with its name before theirs
    (`mnvm: bridge`).

    :param status: the guard's, see docs/architecture.md.
    """
    checks = {
        key: one
        for kind in ("checks", "salt_checks", "network_checks")
        for key, one in (status.get(kind) or {}).items()
    }
    for vm, one in (status.get("vms") or {}).items():
        checks |= {f"{vm}: {name}": check for name, check in (one.get("checks") or {}).items()}
    return checks
