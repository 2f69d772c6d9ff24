"""States of the cluster's Consul; the execution module of the same name does the work.

.. code-block:: yaml

    consul:
      consul_ha.quorum_reached: []
    guard:
      consul_ha.role_present: []
"""

from __future__ import annotations

import logging
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import dry_run

log = logging.getLogger(__name__)

__virtualname__ = "consul_ha"

Result = dict[str, Any]


def __virtual__():
    if "consul_ha.role_present" in __salt__:
        return __virtualname__
    return False, "the execution module consul_ha is missing"


def quorum_reached(name: str, timeout_s: float = 90) -> Result:
    """Wait until Consul has a leader. Changes nothing.

    name
        only an id
    timeout_s
        how long; a new cluster has its first leader some seconds after most of its servers run
    """
    if __opts__["test"]:
        return _result(name, True, {}, "nothing is waited for in a test")
    try:
        state = __salt__["consul_ha.wait_for_quorum"](timeout_s=timeout_s)
    except CommandExecutionError as error:
        return _result(name, False, {}, str(error))
    return _result(name, True, {}, f"a quorum stands: {state['leader']} leads {len(state['servers'])} servers")


def votes(name: str, timeout_s: float = 90) -> Result:
    """Wait until this node's server counts for the quorum. Changes nothing.

    Who applies the states to one node after the other so never leaves fewer voters than servers.

    name
        only an id
    timeout_s
        how long; autopilot takes some seconds for a server that joins anew
    """
    return _waited(name, "consul_ha.wait_for_vote", timeout_s, "this node's server votes")


def may_join(name: str, timeout_s: float = 90) -> Result:
    """Wait, before a server begins without data, until all others that are alive vote. Changes nothing.

    name
        only an id
    timeout_s
        how long
    """
    return _waited(name, "consul_ha.wait_to_join", timeout_s, "nothing speaks against this node's server")


def _waited(name: str, function: str, timeout_s: float, comment: str) -> Result:
    if __opts__["test"]:
        return _result(name, True, {}, "nothing is waited for in a test")
    try:
        __salt__[function](timeout_s=timeout_s)
    except CommandExecutionError as error:
        return _result(name, False, {}, str(error))
    return _result(name, True, {}, comment)


def current(name: str, wait_s: float = 300) -> Result:
    """The running server uses the program, certificates and configuration that are on disk.

    If not it is restarted, when the quorum can do without it and one node after the other.
    """
    changes = {name: {"old": "running with former files", "new": "restarted"}}
    try:
        if __opts__["test"]:
            if not __salt__["mnha_service.would_restart"]("consul", dry_run.touched(__running__)):
                return _result(name, True, {}, "the running server would stay up to date")
            return _result(name, None, changes, "the server would be restarted when it is its turn")
        if not __salt__["mnha_service.outdated"]("consul"):
            return _result(name, True, {}, "the running server is up to date")
        __salt__["consul_ha.restart_in_turn"](wait_s=wait_s)
    except CommandExecutionError as error:
        return _result(name, False, {}, str(error))
    return _result(name, True, changes, "the server was restarted, the quorum kept")


def role_present(name: str) -> Result:
    """Policy and token of a role of this node; a master is asked to make them.

    name
        agent, guard or policy
    """
    return _ensure(name, lambda test: __salt__["consul_ha.role_present"](name, test=test))


def autopilot(name: str) -> Result:
    """Autopilot never removes a server on its own: see mnha.consul.server_config for why."""
    return _ensure(name, lambda test: __salt__["consul_ha.autopilot_present"](test=test))


def _ensure(name: str, ensure) -> Result:
    test = bool(__opts__["test"])
    try:
        changes = ensure(test)
    except CommandExecutionError as error:
        if test and (unit := dry_run.awaited(__running__, "consul")):
            return _result(name, None, {}, f"what would be done is known when {unit} runs, which would be started")
        return _result(name, False, {}, str(error))
    if not changes:
        return _result(name, True, {}, "is as it should be")
    return _result(name, None if test else True, changes, "would be changed" if test else "was changed")


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> Result:
    return {"name": name, "result": result, "changes": changes, "comment": comment}
