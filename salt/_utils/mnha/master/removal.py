"""The way back: a cluster is removed from its nodes, by the states that `states.removed` names.

What it keeps: nothing is removed while a VM runs or is to run, as far as anybody can say, and no image ever. A node on
which a VM is alive refuses by itself. What is away keeps what it has, and can do no harm with it: a guard without a
quorum starts nothing; the next removal finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import applying
from .minions import Minions

STATES = "states.removed"
MARK = "/etc/mnha/guard.json"
"""A node that has this file has the product."""
PING_S = 6.0
REMOVE_S = 300.0
AGAIN = "`salt-run mnha.uninstall yes_i_really_really_mean_it=True`"
STAYS = (
    "What stays: the VMs' images and the share; Salt with this tree, the pillar and the secrets (bootstrap is not"
    " needed again); libvirt and QEMU; the hosts' networks, mounts and names"
)
AWAY = "its minion does not answer: nothing was removed there; once more when it is back, and before an installation"


@dataclass
class Removed:
    """What became of it, by node.

    :param lines: what was removed there, or would be.
    :param faults: what was not, and why.
    """

    lines: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)


def marked(minions: Minions, nodes: Sequence[str]) -> dict[str, bool]:
    """Of the nodes whose minions answer: whether the product is there."""
    replies = minions.each(nodes, "file.file_exists", {"path": MARK}, timeout_s=PING_S)
    return {node: reply.value is True for node, reply in sorted(replies.items())}


def obstacle(found: Mapping[str, Any], there: Mapping[str, bool]) -> str:
    """Why nothing may be removed now; empty: it may.

    Without a quorum nobody can say what the VMs are to do. Where a node has lost the product already, that is what a
    removal that was not finished has left.

    :param found: how the cluster is; see :func:`mnha.master.report.status`.
    :param there: of the nodes that answer, whether the product is on them.
    """
    texts = []
    for name, vm in found["vms"].items():
        run = (vm["desired"] or {}).get("run")
        if vm["state"] not in ("off", "lost") and (found["quorum"] or vm["state"] != "unknown"):
            texts.append(f"{name} {vm['where']}")
        elif run == "started":
            texts.append(f"{name} is to run")
    if texts:
        return f"{'; '.join(texts)}: `salt-run mnha.stop` first, and see that it is off: `salt-run mnha.status`"
    if found["quorum"] or not all(there.values()):
        return ""
    return (
        "whether a VM is to run nobody can say, for Consul has no quorum: bring it back (`salt-run mnha.status`), or, "
        f"if that can't be, remove it from one node after the other: `salt NODE state.apply {STATES}`"
    )


def remove(
    minions: Minions, nodes: Sequence[str], awake: Sequence[str], tell: Callable[[str], None], *, test: bool
) -> Removed:
    """Remove all from the nodes that are awake, at once.

    :param test: only tell it.
    """
    replies = applying.run(minions, awake, {"mods": STATES, "test": test}, tell, REMOVE_S) if awake else {}
    lines = {node: applying.changes(reply) for node, reply in sorted(replies.items())}
    faults = applying.faults(awake, replies) | {node: [AWAY] for node in nodes if node not in awake}
    return Removed({node: found for node, found in lines.items() if found}, faults)


def sentence(done: Removed, cluster: str) -> str:
    """What was done, and what was not."""
    removed = ", ".join(node for node in done.lines if node not in done.faults)
    if done.faults:
        rest = ", ".join(done.faults)
        text = f"{cluster} is removed from {removed or 'no node'}, and not wholly from {rest}: {AGAIN} goes on with it"
    elif removed:
        text = f"{cluster} is removed from {removed}"
    else:
        text = f"nothing was left of {cluster} to be removed"
    return f"{text}. {STAYS}"


def warning(told: Removed, cluster: str, why_not: str) -> str:
    """What an operator hears who has not said that he means it.

    :param why_not: see :func:`obstacle`.
    """
    if not told.lines and not told.faults:
        return f"nothing of {cluster} is left to be removed"
    now = f". Now it would be refused: {why_not}" if why_not else f". {AGAIN} does it"
    return f"nothing was removed. This would go, for good, Consul's records and the history among it{now}. {STAYS}"
