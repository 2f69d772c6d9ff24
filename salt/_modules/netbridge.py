"""The bridges of this host: what they lie on, and what is connected to them."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host.network import live

__virtualname__ = "netbridge"


def __virtual__():
    return __virtualname__


def list_() -> dict[str, dict[str, Any]]:
    """The bridges by name: carrier, MTU, addresses, and the devices that are connected to it.

    CLI Example:

    .. code-block:: bash

        salt node1 netbridge.list
    """
    try:
        there = live.look()
    except OSError as error:
        raise CommandExecutionError(f"the kernel does not tell of its network devices: {error}") from error
    return {
        name: {
            "carrier": one.carrier,
            "mtu": one.mtu,
            "addresses": list(one.addresses),
            "ports": sorted(other.name for other in there.values() if other.master == name),
        }
        for name, one in there.items()
        if one.kind == "bridge"
    }


__func_alias__ = {"list_": "list"}


def exists(name: str) -> bool:
    """Whether there is a bridge of that name.

    CLI Example:

    .. code-block:: bash

        salt node1 netbridge.exists br_bond0
    """
    return (live.SYSFS / str(name) / "bridge").is_dir()
