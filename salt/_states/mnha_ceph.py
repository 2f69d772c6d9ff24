"""States of a VM's disk in Ceph; the execution module of the same name does the work.

.. code-block:: yaml

    storage_ceph_mnvm:
      mnha_ceph.configured:
        - name: mnvm
    mnvm_secret_mnvm:
      mnha_ceph.known_to_libvirt:
        - name: mnvm
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.host import dry_run

__virtualname__ = "mnha_ceph"

Result = dict[str, Any]


def __virtual__():
    if "mnha_ceph.files" in __salt__:
        return __virtualname__
    return False, "the execution module mnha_ceph is missing"


def configured(name: str) -> Result:
    """Ceph's own programs can reach the disk of a VM from this node.

    name
        the VM, a key of mnha:cluster:vms
    """
    return _done(name, "files", "configuration and key are there")


def known_to_libvirt(name: str) -> Result:
    """libvirt has the key of a VM's disk, which its domain names.

    name
        the VM, a key of mnha:cluster:vms
    """
    if __opts__["test"] and (unit := dry_run.awaited(__running__, "libvirtd")):
        comment = f"what would be done is known when {unit} runs, which would be started"
        return {"name": name, "result": None, "changes": {}, "comment": comment}
    return _done(name, "secret", "libvirt has the key")


def forgotten(name: str) -> Result:
    """Nothing is left on this node of a VM's disk in Ceph.

    name
        the VM
    """
    return _done(name, "forget", "nothing is there")


def _done(name: str, function: str, comment: str) -> Result:
    test = bool(__opts__["test"])
    try:
        changes = __salt__[f"mnha_ceph.{function}"](name, test=test)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    if not changes:
        return {"name": name, "result": True, "changes": {}, "comment": f"{name}: {comment}"}
    text = f"{name}: {len(changes)} {'would be' if test else 'were'} changed"
    return {"name": name, "result": None if test else True, "changes": changes, "comment": text}
