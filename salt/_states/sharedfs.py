"""State of this host's shared file systems; the execution module of the same name mounts them.

.. code-block:: yaml

    /opt/smp/mngt:
      sharedfs.mounted:
        - source: nfs1:/export/mngt
    /opt/smp/bs:
      sharedfs.mounted:
        - source: gluster1:/bs
        - kind: glusterfs
        - options: [backupvolfile-server=gluster2]
"""

from __future__ import annotations

from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "sharedfs"
Result = dict[str, Any]


def __virtual__():
    if "sharedfs.mounted" in __salt__:
        return __virtualname__
    return False, "the execution module sharedfs is missing"


def mounted(
    name: str, source: str, kind: str = "nfs4", options: list[str] | str | None = None, force: bool = False
) -> Result:
    """A shared file system is mounted, and will be at each boot. A mount that agrees in meaning is not touched.

    name
        the folder where it is mounted
    source
        what is mounted: `nfs1:/export/mngt`, `/dev/mapper/shared`, …
    kind
        the file system's type, as `mount` takes it
    options
        more options, or others than the defaults of NFS (vers=4.2,hard,noatime): a list, or a text with commas between
    force
        mount it, or mount it anew, though a VM runs here
    """
    return _done("mounted", name, "is mounted", source=source, kind=kind, options=options, force=force)


def unmounted(name: str) -> Result:
    """A shared file system is not mounted, and will not be at boot.

    name
        the folder where it was mounted
    """
    return _done("unmounted", name, "is not mounted")


def _done(function: str, name: str, comment: str, **how: Any) -> Result:
    test = bool(__opts__["test"])
    try:
        changes = __salt__[f"sharedfs.{function}"](name, test=test, **how)
    except CommandExecutionError as error:
        return {"name": name, "result": False, "changes": {}, "comment": str(error)}
    pending = test and bool(changes)
    said = f"{name} {'would be changed' if pending else comment}"
    if later := changes.get("from the next mount on"):
        said += f"; {', '.join(later)} from the next mount on"
    return {"name": name, "result": None if pending else True, "changes": changes, "comment": said}
