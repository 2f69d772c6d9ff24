"""Samples of the old suite's configuration file."""

from __future__ import annotations

import json
from typing import Any

from ..errors import InputError

COMMON: dict[str, Any] = {
    "Node": ["172.20.198.3 node1", "172.20.198.4 node2", "172.20.198.5 node3"],
    "MemorySizeInGB": 8,
    "CPU": 4,
}
REST: dict[str, Any] = {
    "DNS": ["223.5.5.5"],
    "Network": [
        {
            "Bridge": "br_bond1",
            "MacAddress": "52:54:00:5a:01:01",
            "Ipaddr": "172.20.198.10",
            "Netmask": "255.255.255.0",
            "Gateway": "172.20.198.1",
            "IsMgmt": True,
            "IsDefRoute": True,
        }
    ],
    "AllowResetRootPassword": False,
}
KINDS: dict[str, dict[str, Any]] = {
    "FileConf": {
        **COMMON, "Type": "FileConf", "MonAddrs": None, "ChronyServers": [], "PoolName": "",
        "ImageFolder": "/opt/smp/mngt", **REST,
    },
    "CephConf": {
        **COMMON, "Type": "CephConf", "MonAddrs": ["172.20.198.3", "172.20.198.4", "172.20.198.5"],
        "ChronyServers": [], "PoolName": "mnvm", "ImageFolder": "", **REST,
    },
}  # fmt: skip


def text(kind: str) -> str:
    """The sample of a kind.

    :raises InputError: there is none.
    """
    if kind not in KINDS:
        raise InputError(f"there is no sample {kind}; there are {', '.join(KINDS)}")
    return json.dumps(KINDS[kind], indent=4) + "\n"
