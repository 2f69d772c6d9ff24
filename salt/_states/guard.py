"""States of the guard; the execution module of the same name talks to it.

.. code-block:: yaml

    mnha-guard:
      guard.current: []
    mnvm:
      guard.lease_created: []
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import dry_run

__virtualname__ = "guard"

Result = dict[str, Any]


def __virtual__():
    if "guard.status" in __salt__:
        return __virtualname__
    return False, "the execution module guard is missing"


def current(name: str) -> Result:
    """The running guard is that of the library and configuration on disk.

    If not it is reloaded: the next one goes on with its lease; a running VM does not notice.
    """
    return _current(name, "guard", "reload")


def fencer_current(name: str) -> Result:
    """The running fencer is that of the library and configuration on disk.

    If not it is restarted: the next one goes on with what was granted; a running VM does not notice.
    """
    return _current(name, "fencer", "restart")


def _current(name: str, who: str, verb: str) -> Result:
    """Have a service begin anew, by `verb`, if its files have changed since it began."""
    changes = {name: {"old": "running with former files", "new": f"{verb}ed"}}
    try:
        if __opts__["test"]:
            if not __salt__["mnha_service.would_restart"](name, dry_run.touched(__running__)):
                return _result(name, True, {}, f"the running {who} would stay up to date")
            return _result(name, None, changes, f"the {who} would be {verb}ed")
        if not __salt__["mnha_service.outdated"](name):
            return _result(name, True, {}, f"the running {who} is up to date")
    except CommandExecutionError as error:
        return _result(name, False, {}, str(error))
    try:
        done, why = __salt__[f"service.{verb}"](name), "systemd refused"
    except CommandExecutionError as error:
        done, why = False, str(error)
    if not done:
        return _result(name, False, {}, f"the {who} cannot be {verb}ed: {why}; see `journalctl -u {name}`")
    return _result(name, True, changes, f"the {who} was {verb}ed")


def lease_created(name: str) -> Result:
    """The lease record of a VM exists in Consul, and a desired state. They are created once (held by nobody, stopped;
    see `guard.create_lease` for one that somebody has deleted), never touched.

    name
        the VM
    """
    test = bool(__opts__["test"])
    try:
        created = __salt__["guard.create_lease"](name, test=test)
    except CommandExecutionError as error:
        if test and (unit := dry_run.awaited(__running__, "consul")):
            return _result(name, None, {}, f"what would be done is known when {unit} runs, which would be started")
        return _result(name, False, {}, str(error))
    new = {"lease": "held by nobody", "desired": created["desired"]}
    changes = {f"{what} of {name}": {"old": None, "new": new[what]} for what, is_new in created.items() if is_new}
    if not changes:
        return _result(name, True, {}, f"the lease of {name} exists")
    return _result(
        name, None if test else True, changes, f"the lease of {name} {'would be' if test else 'was'} created"
    )


def _result(name: str, result: bool | None, changes: dict[str, Any], comment: str) -> Result:
    return {"name": name, "result": result, "changes": changes, "comment": comment}
