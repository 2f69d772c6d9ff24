"""The bonds of this host: how they are made up, and how they are."""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host.network import live

__virtualname__ = "bond"
HEADS = ("Bond Name", "SLAVE(s)", "BONDING_OPTS")


def __virtual__():
    return __virtualname__


def list_() -> str:
    """The bonds as a table: name, links, options.

    CLI Example:

    .. code-block:: bash

        salt '*' bond.list
    """
    rows = [HEADS]
    for one in _bonds().values():
        assert one.team
        options = {"mode": one.team.mode, **one.team.options}
        told = " ".join(f"{key}={value}" for key, value in options.items() if value not in ("", "0"))
        rows.append((one.name, " ".join(one.team.links), told))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-+-".join("-" * width for width in widths), *lines[1:]])


__func_alias__ = {"list_": "list"}


def status(name: str | None = None) -> dict[str, Any]:
    """How the bonds are, or one: its carrier, whether a switch answers by LACP and with which MAC, and of each link
    its carrier, speed, duplex, and whether frames pass it.

    CLI Example:

    .. code-block:: bash

        salt node1 bond.status bond0
    """
    there = _look()
    bonds = _bonds(there)
    if name is not None and str(name) not in bonds:
        raise CommandExecutionError(f"there is no bond {name!r} here: there are {', '.join(bonds) or 'none'}")
    return {one.name: _status(one, there) for one in bonds.values() if name is None or str(name) == one.name}


def _status(one: live.Interface, there: dict[str, live.Interface]) -> dict[str, Any]:
    assert one.team
    lacp = one.team.partner is not None
    return {
        "mode": one.team.mode,
        "carrier": one.carrier,
        "mtu": one.mtu,
        "lacp": {"heard": one.team.heard, "partner": one.team.partner, "aggregator": one.team.aggregator}
        if lacp
        else None,
        "links": {name: _link(there[name]) for name in one.team.links if name in there},
    }


def _link(one: live.Interface) -> dict[str, Any]:
    return {
        "carrier": one.carrier,
        "speed_mbit_s": one.speed_mbit_s,
        "duplex": one.duplex,
        "passes": bool(one.port and one.port.passes),
        "aggregator": one.port.aggregator if one.port else None,
    }


def _look() -> dict[str, live.Interface]:
    try:
        return live.look()
    except OSError as error:
        raise CommandExecutionError(f"the kernel does not tell of its network devices: {error}") from error


def _bonds(there: dict[str, live.Interface] | None = None) -> dict[str, live.Interface]:
    found = there if there is not None else _look()
    return {name: one for name, one in found.items() if one.team is not None}
