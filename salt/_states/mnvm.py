"""State of a protected VM's domain; the execution module of the same name does the work.

.. code-block:: yaml

    mnvm:
      mnvm.defined: []

    on the way back:
      mnvm.none_alive:
        - failhard: True
      mnvm.undefined: []
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import dry_run

__virtualname__ = "mnvm"

FOLDER = Path("/etc/mnha/domains")

Result = dict[str, Any]


def __virtual__():
    if "mnvm.define" in __salt__:
        return __virtualname__
    return False, "the execution module mnvm is missing"


def defined(name: str) -> Result:
    """The VM's domain is defined on this node as the configuration wants it, and the guard has the same in its file.

    It is never started here and never on boot: only the guard starts it. A VM that runs keeps its present form until
    its next start.

    name
        the VM, a key of mnha:cluster:vms
    """
    test = bool(__opts__["test"])
    try:
        xml = __salt__["mnha_config.domain"](name)
        changes = _file(name, xml, test)
        if test and (unit := dry_run.awaited(__running__, "libvirtd")):
            comment = f"what else would be done is known when {unit} runs, which would be started"
            return {"name": name, "result": None, "changes": changes, "comment": comment}
        differences = __salt__["mnvm.define"](name, xml=xml, test=test)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if differences:
        changes["domain"] = {"old": differences, "new": "as the configuration wants it"}
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": f"{name} is defined as it should be"}
    comment = f"{name} {'would be' if test else 'was'} defined; a running VM changes at its next start"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": comment}


def none_alive(name: str) -> Result:
    """No protected VM runs on this node, by the kernel's word. Changes nothing.

    name
        only an id
    """
    try:
        alive = __salt__["guard.vms_here"]()
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if alive:
        comment = f"{', '.join(alive)} runs on this node: `salt-run mnha.stop` stops it, and nothing was removed"
        return {"name": name, "result": False, "changes": {}, "comment": comment}
    return {"name": name, "result": True, "changes": {}, "comment": "no VM of the cluster runs here"}


def undefined(name: str) -> Result:
    """No domain of a protected VM is defined on this node any more, nor written down for its guard; the images stay.

    name
        only an id
    """
    test = bool(__opts__["test"])
    try:
        names = __salt__["mnvm.undefine_all"](test=test)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if not names:
        return {"name": name, "result": True, "changes": {}, "comment": "none is defined"}
    changes = {vm: {"old": "defined", "new": "absent"} for vm in names}
    comment = f"{', '.join(names)} {'would be' if test else 'was'} undefined"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": comment}


def _file(name: str, xml: str, test: bool) -> dict[str, Any]:
    """The file that the guard starts the VM from."""
    path = FOLDER / f"{name}.xml"
    present = path.read_text(encoding="utf-8") if path.is_file() else None
    if present == xml:
        return {}
    if not test:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(xml, encoding="utf-8")
        new.chmod(0o644)
        new.replace(path)
    return {str(path): {"old": None if present is None else "differs", "new": "written"}}
