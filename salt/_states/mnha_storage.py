"""States of the shared folder; the execution module of the same name looks, and is never kept waiting.

.. code-block:: yaml

    /opt/smp/mngt:
      mnha_storage.usable: []
    /opt/smp/mngt/mnvm.img:
      mnha_storage.owned:
        - user: libvirt-qemu
        - group: libvirt-qemu
        - mode: '0660'
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "mnha_storage"

Result = dict[str, Any]


def __virtual__():
    if "mnha_storage.check_folder" in __salt__:
        return __virtualname__
    return False, "the execution module mnha_storage is missing"


def usable(name: str) -> Result:
    """The folder is there and writable. Changes nothing.

    name
        the folder
    """
    return _done(name, "check_folder", "is there and writable")


def present(name: str) -> Result:
    """The image is there. Changes nothing.

    name
        the image
    """
    return _done(name, "check_image", "is there")


def owned(name: str, user: str, group: str, mode: str) -> Result:
    """The image is there and belongs to a user.

    name
        the image
    """
    how = {"user": user, "group": group, "mode": mode, "test": bool(__opts__["test"])}
    return _done(name, "own", f"belongs to {user}", **how)


def _done(name: str, function: str, comment: str, **how: Any) -> Result:
    try:
        done = __salt__[f"mnha_storage.{function}"](name, **how)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    changes = {} if done is True else done
    pending = bool(changes) and how["test"]
    text = f"{name} {'would be changed' if pending else comment}"
    return {"name": name, "result": None if pending else True, "changes": changes, "comment": text}
