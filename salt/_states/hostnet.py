"""State of this host's own networks; the execution module of the same name changes them.

.. code-block:: yaml

    networks:
      hostnet.applied: []
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "hostnet"


def __virtual__():
    if "hostnet.apply" in __salt__:
        return __virtualname__
    return False, "the execution module hostnet is missing"


def applied(name: str, force: bool = False) -> dict[str, Any]:
    """The networks are as the pillar wants them. A change holds only if all in reach before is in reach after it; else
    the state fails, says why, and the old network is back.

    name
        anything
    force
        change them also under a running VM
    """
    test = bool(__opts__["test"])
    try:
        done = __salt__["hostnet.apply"](test=test, force=force)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if done["faults"]:
        comment = "the old network is back: " + "; ".join(done["faults"])
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    if not done["changes"]:
        return {"name": name, "result": True, "changes": {}, "comment": "the networks are as the pillar wants them"}
    changes = {path: {"diff": diff} for path, diff in done["changes"].items()}
    comment = "would be changed" if test else f"changed and confirmed within {done['took_s']:g} s"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": f"the networks {comment}"}
