"""State of what a master was given by another one; the execution module of the same name does the work.

.. code-block:: yaml

    /var/lib/mnha/given.json:
      mnha_master.given:
        - files: [/srv/mnha/pillar/top.sls]
        - is_source: False
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "mnha_master"


def __virtual__():
    if "mnha_master.given" in __salt__:
        return __virtualname__
    return False, "the execution module mnha_master is missing"


def given(name: str, files: list[str], is_source: bool = False) -> dict[str, Any]:
    """Files that were given once and are not any more are gone.

    name
        where those that are given are noted
    files
        those that are given now
    is_source
        this master is the one that gives: nothing is removed here
    """
    test = bool(__opts__["test"])
    try:
        changes = __salt__["mnha_master.given"](name, files, is_source=is_source, test=test)
    except (CommandExecutionError, OSError) as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": "nothing was withdrawn"}
    comment = f"{len(changes['removed'])} files {'would be' if test else 'were'} removed: they are not given any more"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": comment}
