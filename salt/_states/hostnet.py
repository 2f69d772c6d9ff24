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
    """The networks are as the pillar and the states of this host want them. A change holds only if all in reach before
    is in reach after it; else the state fails, says why, and the old network is back. Where nobody says anything of the
    networks, nothing is touched.

    name
        anything
    force
        change them also under a running VM, and where an address is expected to be lost; if it is, the old network
        comes back even so
    """
    test = bool(__opts__["test"])
    try:
        done = __salt__["hostnet.apply"](test=test, force=force)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if done["faults"]:
        back = "is back" if done["is_back"] else "comes back by systemd's timer"
        comment = f"the old network {back}: {'; '.join(done['faults'])}"
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    if not done["changes"]:
        comment = done["comment"] or "the networks are as they are wanted"
        return {"name": name, "result": True, "changes": {}, "comment": comment}
    changes = {path: {"diff": diff} for path, diff in done["changes"].items()}
    comment = "would be changed" if test else f"changed and confirmed within {done['took_s']:g} s"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": f"the networks {comment}"}


def wanted(name: str, kind: str, **given: Any) -> dict[str, Any]:
    """This host is to have a bond or a bridge, beside those of the pillar: see `bond.present`, `netbridge.present`.

    name
        its name
    kind
        bonds or bridges
    given
        what it is to be
    """
    return _noted("hostnet.want", kind, name, "is wanted", given)


def unwanted(name: str, kind: str) -> dict[str, Any]:
    """This host is not to have a bond or a bridge any more that a state has asked for.

    name
        its name
    kind
        bonds or bridges
    """
    return _noted("hostnet.unwant", kind, name, "is not wanted", {})


def _noted(function: str, kind: str, name: str, what: str, given: dict[str, Any]) -> dict[str, Any]:
    test = bool(__opts__["test"])
    try:
        changes = __salt__[function](kind, name, test=test, **given)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if not changes:
        comment = f"{name} {what}, as noted before"
    elif test:
        comment = f"it would be noted that {name} {what}; hostnet.applied would make the network so"
    else:
        comment = f"it is noted that {name} {what}; hostnet.applied makes the network so"
    return {"name": name, "result": None if test and changes else True, "changes": changes, "comment": comment}
