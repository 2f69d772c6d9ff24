"""How the runners' verbs work: find the cluster's nodes, do the work, return what Salt shows and exits with.

What a verb returns is `{CLUSTER: {"result": done?, "comment": one sentence, …}}`; the outputter `mnha` shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InputError, MnhaError
from .inventory import Inventory
from .result import count as count

Work = Callable[[str, list[str]], dict[str, Any]]
"""Of the cluster's name and its nodes."""
BROKEN_OFF = "broken off, here alone: what was ordered already goes on; `salt-run mnha.status` tells what came of it"


def run(opts: dict[str, Any], cluster: str | None, work: Work) -> dict[str, Any]:
    """Do `work` for a cluster; an error becomes its sentence, with a non-zero exit code.

    :param opts: the master's options.
    :param cluster: may be None where the master has one only.
    """
    try:
        name, nodes = Inventory(opts).nodes(cluster)
    except MnhaError as error:
        return returned(cluster or "mnha", {"result": False, "comment": error.message})
    return run_for(name, nodes, work)


def run_for(name: str, nodes: list[str], work: Work) -> dict[str, Any]:
    """As :func:`run`, of nodes that are known."""
    try:
        return returned(name, work(name, nodes))
    except MnhaError as error:
        return returned(name, {"result": False, "comment": error.message, "kind": error.kind})
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C: Salt would show a stack trace
        return returned(name, {"result": False, "comment": BROKEN_OFF, "kind": "broken off"})


def returned(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """What Salt needs: with these two keys and no other it shows the data through the outputter, and only them
    with --out.

    It reads success from each `result`, and the exit code of `salt-run` from `retcode` among the data: the `code`
    of the data, else 1 for a failure.
    """
    code = data.get("code", 0 if data["result"] else 1)
    return {"outputter": "mnha", "data": {name: data, "retcode": code} if code else {name: data}}


def require_node(node: str, cluster: str, nodes: list[str]) -> None:
    """That `node` is one of the cluster's.

    :raises InputError: it is not.
    """
    if node not in nodes:
        raise InputError(f"{node} is no node of cluster {cluster}; its nodes are {', '.join(nodes)}")
