"""Which of Consul's records a status shows, and how they are handed on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import keys

SHOWN = (keys.CONFIG, keys.SHARE, keys.VMS, keys.NODES, keys.MAINTENANCE)
"""Below the cluster's prefix."""


def view_of(
    values: Mapping[str, Any], members: Sequence[Mapping[str, Any]], servers: Sequence[Mapping[str, Any]] = (),
    faults: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The records as a report has them.

    :param values: by key, relative to the cluster's prefix; None for one that can't be read.
    :param servers: autopilot's rows of Consul's servers; none: they are not known.
    :param faults: why records can't be read, by the same keys.
    """

    def below(folder: str) -> dict[str, Any]:
        return {key: value for key, value in values.items() if key.startswith(folder)}

    return {
        "members": members,
        "servers": servers,
        "applied": values.get(keys.CONFIG),
        "vms": below(keys.VMS),
        "nodes": below(keys.NODES),
        "maintenance": {key: value or {} for key, value in below(keys.MAINTENANCE).items()},
        "unreadable": dict(faults or {}),
    }
