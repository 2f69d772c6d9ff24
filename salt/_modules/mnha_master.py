"""What this node, as a master, was given by another master, and what of it is withdrawn."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

__virtualname__ = "mnha_master"


def __virtual__():
    return __virtualname__


def given(record: str, files: list[str], is_source: bool = False, test: bool = False) -> dict[str, Any]:
    """Remove what stands in the record and not among `files`, and keep these as the record; returns what changed.

    Nothing else is removed: what this master has of its own accord is none of the others' business. A master that is
    the source of the run (`is_source`) only keeps the record.

    CLI Example:

    .. code-block:: bash

        salt node1 mnha_master.given /var/lib/mnha/given.json '[/srv/mnha/pillar/top.sls]' test=True
    """
    path = Path(record)
    try:
        former = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except (OSError, ValueError) as error:
        raise CommandExecutionError(f"{path} can't be read: {error}; remove it and apply again") from error
    gone = [] if is_source else [name for name in former if name not in files and Path(name).is_file()]
    changes: dict[str, Any] = {"removed": gone} if gone else {}
    if not test:
        for name in gone:
            os.unlink(name)
        if sorted(files) != former:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            new = path.with_name(f"{path.name}.new")
            new.write_text(json.dumps(sorted(files), indent=1), encoding="utf-8")
            new.chmod(0o600)
            new.replace(path)
    return changes
