"""States of the configuration in force; the execution module of the same name does the work.

.. code-block:: yaml

    claimed:
      mnha_config.claimed:
        - order: first
        - failhard: True

    configuration:
      mnha_config.recorded: []

    this_master:
      mnha_config.followed: []
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import dry_run

__virtualname__ = "mnha_config"


def __virtual__():
    if "mnha_config.record" in __salt__:
        return __virtualname__
    return False, "the execution module mnha_config is missing"


def claimed(name: str) -> dict[str, Any]:
    """The pillar of this run is the configuration in force, or becomes it here, before anything is done by it.

    Fails where another master's pillar came first, with the difference. Where Consul can't be asked, as on a new
    cluster, the run goes on: :func:`recorded` asks again at its end.

    name
        only an id
    """
    try:
        return _recorded(name)
    except CommandExecutionError as error:
        comment = f"what is in force is not known yet, and recorded at the end of the run: {error}"
        return {"name": name, "result": True, "changes": {}, "comment": comment}


def recorded(name: str) -> dict[str, Any]:
    """Consul keeps the configuration that is in force, with a version that grows with each change.

    name
        only an id
    """
    try:
        return _recorded(name)
    except CommandExecutionError as error:
        if __opts__["test"] and (unit := dry_run.awaited(__running__, "consul")):
            comment = f"what would be done is known when {unit} runs, which would be started"
            return {"name": name, "result": None, "changes": {}, "comment": comment}
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}


def followed(name: str) -> dict[str, Any]:
    """Consul knows that this node's own master has the pillar that is in force: it was given the tree of the master
    through which the states are applied.

    name
        only an id
    """
    test = bool(__opts__["test"])
    try:
        changes = __salt__["mnha_config.follows"](test=test)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    comment = "its master has the pillar in force" if changes else "nothing new of its master's pillar"
    return {"name": name, "result": None if changes and test else True, "changes": changes, "comment": comment}


def _recorded(name: str) -> dict[str, Any]:
    test = bool(__opts__["test"])
    changes = __salt__["mnha_config.record"](test=test)
    if "refused" in changes:
        return {"name": name, "result": False, "changes": {}, "comment": changes["refused"]}
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": "the configuration is the recorded one"}
    comment = f"the configuration {'would be' if test else 'was'} recorded as version {changes['version']['new']}"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": comment}
