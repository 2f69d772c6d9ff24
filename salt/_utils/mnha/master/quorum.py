"""What a status says of the margin to the loss of Consul's quorum. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def told(margin: Mapping[str, Any]) -> str:
    """What is wrong with it, and what not to do meanwhile; empty if it is as it should be.

    :param margin: as :meth:`mnha.consul.voters.Margin.to_dict` makes it.
    """
    if margin["may_fail"] >= margin["should"]:
        return ""
    voters, well, servers = margin["voters"], margin["well"], margin["servers"]
    left = "no other may fail" if margin["may_fail"] <= 0 else f"only {margin['may_fail']} more may fail"
    if len(well) == 1 and margin["may_fail"] <= 0:
        left = f"if {well[0]} fails, the quorum is lost"
    text = f"Consul: of {servers} servers {len(well)} vote and are well ({', '.join(well) or 'none'}): {left}"
    if len(voters) < servers:
        return (
            f"{text}. One that has joined anew votes some seconds later, by itself; stop, restart or wipe none before"
        )
    return f"{text}; stop, restart or wipe none before all are well again"
