"""The shared folder with the VMs' images on this node. A folder that hangs keeps nobody waiting for longer than some
seconds: see `mnha.host.share`.
"""

from __future__ import annotations

import grp
import posixpath
import pwd
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import share

__virtualname__ = "mnha_storage"

REMEDIES = {
    share.MISSING: "mount the shared file system there and apply again",
    share.READ_ONLY: "mount it read-write and apply again",
}


def __virtual__():
    return __virtualname__


def check_folder(folder: str) -> bool:
    """The folder is there, and writable; fails if it is not, or does not answer.

    CLI Example:

    .. code-block:: bash

        salt '*' mnha_storage.check_folder /opt/smp/mngt
    """
    _look(folder)
    return True


def check_image(image: str) -> bool:
    """The image is there; fails if it is not, or its folder does not answer.

    CLI Example:

    .. code-block:: bash

        salt '*' mnha_storage.check_image /opt/smp/mngt/mnvm.img
    """
    _image(image)
    return True


def own(image: str, user: str, group: str, mode: str, test: bool = False) -> dict[str, Any]:
    """Give the image to a user for good; returns what changed.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_storage.own /opt/smp/mngt/mnvm.img libvirt-qemu libvirt-qemu 0660 test=True
    """
    old = _shown(_image(image)["owner"])
    try:
        wanted = (pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid, int(str(mode), 8))
    except KeyError as error:
        if test:  # the user comes with a package that is not installed yet
            return {"owner": {"old": old, "new": f"{user}:{group} {mode}"}}
        raise CommandExecutionError(f"{user}:{group}: {error.args[0]}; apply states.hypervisor") from error
    if old == _shown(wanted):
        return {}
    if not test:
        _image(image, wanted)
    return {"owner": {"old": old, "new": _shown(wanted)}}


def _image(image: str, wanted: tuple[int, int, int] | None = None) -> dict[str, Any]:
    """What was found of an image that is there, after it was changed if that is wanted."""
    folder = posixpath.dirname(image)
    found = _look(folder, image, wanted)
    if found["image"] == share.MISSING:
        raise CommandExecutionError(f"{image} is missing: copy it there and apply again")
    if found["image"]:
        raise CommandExecutionError(f"{image} {found['image']}")
    return found


def _look(folder: str, image: str = "", wanted: tuple[int, int, int] | None = None) -> dict[str, Any]:
    try:
        found = share.look(folder, image, wanted)
    except OSError as error:  # TimeoutError is one
        raise CommandExecutionError(f"{error}; apply again when it is back") from error
    if wrong := found["folder"]:
        what = f"{folder} {wrong} on {__opts__['id']} ({share.mounted(folder)})"
        raise CommandExecutionError(f"{what}; {REMEDIES.get(wrong, 'see to it and apply again')}")
    return found


def _shown(owner: Any) -> str:
    uid, gid, mode = owner
    return f"{uid}:{gid} {mode:04o}"
