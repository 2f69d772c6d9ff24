"""What is said of a node's certificates: in time before they end, and when they have. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DAY_S = 86400.0
WARN_DAYS = 30
AUTHORITIES = ("authority", "libvirt authority")
FOR = {
    "authority": "the cluster's authority, as Consul knows it,",
    "consul": "Consul's certificate",
    "libvirt authority": "the cluster's authority, as libvirt knows it,",
    "libvirt": "libvirt's certificate, for live migration,",
}


@dataclass(frozen=True)
class Word:
    """One certificate of which something is to be said.

    :param is_fault: it has ended, or can't be read.
    """

    name: str
    text: str
    is_fault: bool


def told(status: Mapping[str, Any], now_s: float) -> list[Word]:
    """What a guard's certificates give reason to say.

    :param status: the guard's; an older one tells nothing of them.
    :param now_s: the wall clock.
    """
    words = []
    for name, one in (status.get("certificates") or {}).items():
        what = f"{FOR.get(name, name)} in {one.get('file')}"
        if one.get("ends_s") is None:
            words.append(Word(name, f"{what} can't be read: {one.get('why')}; state.apply writes it", True))
            continue
        left_s = float(one["ends_s"]) - now_s
        if left_s >= WARN_DAYS * DAY_S:
            continue
        day = time.strftime("%Y-%m-%d", time.gmtime(float(one["ends_s"])))
        when = f"ended on {day}" if left_s <= 0 else f"ends on {day}, in {left_s / DAY_S:.0f} days"
        words.append(Word(name, f"{what} {when}: {_remedy(name, status)}", left_s <= 0))
    return words


def _remedy(name: str, status: Mapping[str, Any]) -> str:
    if name in AUTHORITIES:
        return "docs/security.md, Renewing, tells what it takes"
    cluster = status.get("cluster") or "NAME"
    return f"`salt-run mnha.bootstrap cluster={cluster} renew_certificates=True`, then `salt '*' state.apply`"
