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

from mnha.guest import domain, seed
from mnha.host import dry_run

__virtualname__ = "mnvm"

FOLDER = Path("/etc/mnha/domains")

Result = dict[str, Any]


def __virtual__():
    if "mnvm.define" in __salt__:
        return __virtualname__
    return False, "the execution module mnvm is missing"


def defined(name: str) -> Result:
    """The VM's domain is defined on this node as the configuration wants it, the guard has the same in its file, and
    the seed that its guest boots from has the addresses of this node.

    It is never started here and never on boot: only the guard starts it. A VM that runs keeps its present form, and its
    seed, until its next start; QEMU has both open, or goes to another node with them.

    Where the guest is not to be configured, a seed stays that was there: a VM that runs with it needs it at the node
    that it is migrated to.

    name
        the VM, a key of mnha:cluster:vms
    """
    test = bool(__opts__["test"])
    try:
        xml = __salt__["mnha_config.domain"](name)
        files = __salt__["mnha_config.seed"](name)
        changes = _written(Path(domain.seed_file(name)), seed.image(files), test) if files else {}
        changes |= _written(FOLDER / f"{name}.xml", xml.encode("utf-8"), test)
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


def _written(path: Path, content: bytes, test: bool) -> dict[str, Any]:
    """A file with this content, replaced as a whole; anybody may read it, as QEMU does with the seed."""
    present = path.read_bytes() if path.is_file() else None
    if present == content:
        return {}
    if not test:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.chmod(0o644)
        new.replace(path)
    return {str(path): {"old": None if present is None else "differs", "new": "written"}}
