"""State of the applied configuration; the execution module of the same name does the work.

.. code-block:: yaml

    configuration:
      mnha_config.recorded: []
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


def recorded(name: str) -> dict[str, Any]:
    """Consul keeps the configuration that is in force, with a version that grows with each change.

    name
        only an id
    """
    test = bool(__opts__["test"])
    try:
        changes = __salt__["mnha_config.record"](test=test)
    except CommandExecutionError as error:
        if test and (unit := dry_run.awaited(__running__, "consul")):
            comment = f"what would be done is known when {unit} runs, which would be started"
            return {"name": name, "result": None, "changes": {}, "comment": comment}
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": "the configuration is the recorded one"}
    comment = f"the configuration {'would be' if test else 'was'} recorded as version {changes['version']['new']}"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": comment}
