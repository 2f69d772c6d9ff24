"""Which of Consul's records a status shows, and how they are handed on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN = ("config", "vms/", "nodes/", "maintenance/")
"""Below the cluster's prefix."""


def view_of(keys: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The records as a report has them.

    :param keys: values by key, relative to the cluster's prefix.
    """
    below = {name: {key: value for key, value in keys.items() if key.startswith(f"{name}/")}
             for name in ("vms", "nodes", "maintenance")}  # fmt: skip
    return {"members": members, "applied": keys.get("config"), **below}
