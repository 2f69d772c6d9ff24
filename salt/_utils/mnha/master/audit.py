"""Who has typed what, and what came of it: one entry of the cluster's history for each verb that changes something."""

from __future__ import annotations

import syslog
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MnhaError
from .minions import Minions

EVENT = "command"
FIND_S = 4.0
WRITE_S = 4.0
LONGEST = 300
"""Of what came of it so many letters are kept."""


def who(user: str, master: str, environment: Mapping[str, str]) -> str:
    """A person as the history has them: `alice@node1_master from 10.0.0.5`.

    :param user: as whom the program runs; behind `sudo` the one who typed that counts.
    :param master: the master's id.
    :param environment: the program's; OpenSSH says there from where somebody came.
    """
    place = environment.get("SSH_CONNECTION", "").split()
    return f"{environment.get('SUDO_USER') or user}@{master}" + (f" from {place[0]}" if place else "")


def entry(name: str, given: Mapping[str, Any], part: Mapping[str, Any], by: str) -> dict[str, Any]:
    """What the history is to have of a verb.

    :param name: `mnha.stop`.
    :param given: its arguments that were given.
    :param part: what it returned of a cluster.
    """
    words = [name, *(f"{key}={value}" for key, value in given.items())]
    outcome = " ".join(str(part.get("comment", "")).split())[:LONGEST]
    mark = "" if part.get("result", True) else "FAILED: "
    return {
        "event": EVENT,
        "text": f"`{' '.join(words)}` by {by}: {mark}{outcome}",
        "by": by,
        "vm": part.get("vm") or None,
    }


def write(minions: Minions, nodes: Sequence[str], record: Mapping[str, Any]) -> bool:
    """Write it through any node that reaches Consul; whether that was done. It never fails what was typed."""
    try:
        node = minions.first(nodes, "consul_ha.quorum", timeout_s=FIND_S).node
        return minions.one(node, "mnvm.record", dict(record), timeout_s=WRITE_S).ok
    except MnhaError:
        return False


def to_journal(text: str) -> None:
    """Write it into this machine's journal: what removes the history can't stand there."""
    syslog.openlog("mnha", facility=syslog.LOG_AUTH)
    syslog.syslog(syslog.LOG_NOTICE, text)
