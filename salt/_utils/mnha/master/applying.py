"""A run of states on many nodes at once, as a master has it made: who is through, what failed, what was changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .minions import Minions, Reply

APPLY_S = 900.0
GONE_S = 60.0
"""A minion may be restarted by the states, and its node is busy."""
SILENT = "its minion does not answer any more: is the node down? `state.apply` there when it is back"
KINDS = {"mnvm": "domain"}
"""What a state is called whose own name says nothing."""
NOT_TOLD = ("cmd", "test")
"""States that only do what the others make necessary, or nothing."""


def run(
    minions: Minions, nodes: Sequence[str], kwarg: Mapping[str, Any], tell: Callable[[str], None],
    timeout_s: float = APPLY_S,
) -> dict[str, Reply]:  # fmt: skip
    """The answers of `nodes` to `state.apply`.

    :param kwarg: its arguments.
    :param tell: hears of each node that is through, and of those that are not waited for any more.
    """
    heard: set[str] = set()

    def progress(replies: Mapping[str, Reply], waited_s: float) -> bool:
        for node in replies.keys() - heard:
            heard.add(node)
            words = "well" if not failures(replies[node]) else "not all went well"
            tell(f"{node}: {words}, after {replies[node].after_s:.0f} s")
        return False

    replies = minions.each(nodes, "state.apply", kwarg, timeout_s=timeout_s, enough=progress, gone_s=GONE_S)
    for node in [node for node in nodes if node not in replies]:
        tell(f"{node}: {SILENT}")
    return replies


def faults(nodes: Sequence[str], replies: Mapping[str, Reply]) -> dict[str, list[str]]:
    """Node -> what failed, where something did."""
    found = {node: failures(replies[node]) if node in replies else [SILENT] for node in nodes}
    return {node: lines for node, lines in found.items() if lines}


def failures(reply: Reply) -> list[str]:
    """What failed in a node's run of states."""
    if not isinstance(reply.value, Mapping):
        lines = reply.value if isinstance(reply.value, Iterable) and not isinstance(reply.value, str) else [reply.said]
        return [str(line) for line in lines] or ["nothing was done"]
    failed = [one for _, one in _states(reply) if one.get("result") is False]
    return [f"{one.get('__id__') or one.get('name')}: {one.get('comment')}" for one in failed]


def changes(reply: Reply) -> list[str]:
    """What a run has changed on a node, or a dry run would, in its order: of each state its kind and name."""
    states = [] if not isinstance(reply.value, Mapping) else list(_states(reply))
    done = [(kind, one) for kind, one in states if one.get("changes") or one.get("result") is None]
    done.sort(key=lambda found: found[1].get("__run_num__") or 0)
    return [
        f"{KINDS.get(kind, kind)} {name}" for kind, one in done if kind not in NOT_TOLD for name in _names(kind, one)
    ]


def _names(kind: str, one: Mapping[str, Any]) -> list[str]:
    """What a state was about: of a VM's domains each."""
    return list(one.get("changes") or ()) if kind == "mnvm" else [str(one.get("name"))]


def _states(reply: Reply) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each state's kind and result."""
    for tag, one in reply.value.items():
        if isinstance(one, Mapping):
            yield str(tag).partition("_|-")[0], one
