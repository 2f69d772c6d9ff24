"""Copies of this project's code on a node: whether they are what Salt has synchronised to its minion.

A run of states begins with that synchronisation. So what it has brought can be compared here, file by file, without a
question to the master for each: of the 1,200 that a node asked in a run 460 were for the library alone, and 700 more of
a node that copies the masters' tree. Where there is a difference Salt's own `file.recurse` makes it good. By what a
minion has that does not synchronise by itself (`autoload_dynamic_modules: False`) nothing is judged: it may be old.
"""

from __future__ import annotations

from pathlib import Path

__virtualname__ = "mnha_tree"

NOT_COPIED = "__pycache__"


def __virtual__():
    return __virtualname__


def is_synced(path: str, kind: str) -> bool:
    """Whether a folder has the very files that were synchronised to this minion, and no others.

    path
        the folder
    kind
        what was synchronised: `modules`, `states`, or a folder below one such, as `utils/mnha`. What this minion gets
        nothing of, as runners, is never the same.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_tree.is_synced /usr/lib/mnha/mnha utils/mnha
    """
    if not __opts__.get("autoload_dynamic_modules", True):
        return False
    synced = _files(Path(__opts__["extension_modules"], kind))
    return bool(synced) and _files(Path(path)) == synced


def _files(folder: Path) -> dict[str, bytes]:
    """Name below the folder -> content. Empty if there is no such folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and NOT_COPIED not in path.parts
    }
