"""What a node needs so that a VM's disk can be in Ceph: files for Ceph's own programs, and libvirt's secret.

The key comes with the pillar's secrets (`mnha_secrets:ceph`), where `mnha.ceph_key` on a master has put it. No function
takes or returns it: what they take and return ends up in logs and job caches.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.config import rbd
from mnha.errors import MnhaError
from mnha.guest import libvirt_secret
from mnha.host import ceph

__virtualname__ = "mnha_ceph"


def __virtual__():
    return __virtualname__


def files(vm: str, test: bool = False) -> dict[str, Any]:
    """Write configuration and key of Ceph's programs for a VM's disk, for root alone; returns what changed.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_ceph.files mnvm test=True
    """
    disk, key = _disk(vm), _key(vm)
    wanted = {
        rbd.keyring_file(vm): ceph.keyring(disk.user, key),
        rbd.configuration_file(vm): ceph.configuration(disk.monitors, rbd.keyring_file(vm)),
    }
    return {path: change for path, text in wanted.items() if (change := _written(Path(path), text, test))}


def secret(vm: str, test: bool = False) -> dict[str, Any]:
    """Give libvirt the key of a VM's disk, under the UUID that its domain names; returns what changed.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_ceph.secret mnvm test=True
    """
    disk, key, cluster = _disk(vm), _key(vm), __salt__["mnha_config.cluster"]()
    uuid, name = disk.secret_of(cluster.vms[vm].uuid), libvirt_secret.usage(cluster.name, vm)
    try:
        old = libvirt_secret.state(uuid, name, key)
        if old and not test:
            libvirt_secret.define(uuid, name, key)
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error
    return {"secret": {"old": old, "new": f"defined as {uuid}"}} if old else {}


def forget(vm: str, test: bool = False) -> dict[str, Any]:
    """Remove what is left of a VM's disk in Ceph on this node: files and libvirt's secret; returns what changed.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_ceph.forget mnvm test=True
    """
    changes = {}
    for path in map(Path, (rbd.configuration_file(vm), rbd.keyring_file(vm))):
        if path.exists():
            changes[str(path)] = {"old": "there", "new": "removed"}
    if not changes:
        return {}
    if not test:
        try:
            libvirt_secret.undefine(libvirt_secret.usage(__salt__["mnha_config.cluster"]().name, vm))
        except MnhaError as error:
            raise CommandExecutionError(error.message) from error
        for name in changes:
            Path(name).unlink()
    return changes


def _disk(vm: str) -> rbd.Rbd:
    """A VM's disk in Ceph, by the pillar."""
    try:
        found = __salt__["mnha_config.cluster"]().require_vm(vm).rbd
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error
    if found is None:
        raise CommandExecutionError(f"the disk of {vm} is not in Ceph: it has no `rbd` in the pillar")
    return found


def _key(vm: str) -> str:
    """The key for it."""
    found = (__salt__["mnha_config.secrets"]().get("ceph") or {}).get(vm)
    if not found:
        user = _disk(vm).user
        raise CommandExecutionError(
            f"there is no key for the disk of {vm} in Ceph: on the master put that of client.{user} into a file that "
            f"only root can read, then `salt-run mnha.ceph_key FILE vm={vm}`, and apply again"
        )
    return str(found)


def _written(path: Path, text: str, test: bool) -> dict[str, str]:
    """Make a file hold this text, for root alone; what changed, without showing any of it."""
    try:
        present, mode = path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777
    except FileNotFoundError:
        present, mode = None, 0
    if (present, mode) == (text, 0o600):
        return {}
    if not test:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        new = path.with_suffix(f"{path.suffix}.new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
            handle.write(text)
        new.replace(path)
    return {"old": "absent" if present is None else "differs", "new": "written"}
