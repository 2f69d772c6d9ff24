"""The grants, in a file below /run: as long-lived as what they allow, a process of this boot."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from .rules import Grant, Kind

VERSION = 1


class FileMemory:
    """A :class:`mnha.fencer.rules.Memory` in a file on tmpfs, replaced as a whole."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def save(self, grants: Mapping[str, Grant]) -> None:
        """See :class:`mnha.fencer.rules.Memory`."""
        rows = {vm: {"kind": one.kind, "until_s": one.until_s, "kill_s": one.kill_s} for vm, one in grants.items()}
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"v": VERSION, "grants": rows}), encoding="utf-8")
        os.replace(new, self._file)

    def load(self) -> dict[str, Grant]:
        """What was written down last; nothing if that can't be read: what nobody granted is killed."""
        try:
            data = json.loads(self._file.read_text(encoding="utf-8"))
            if data["v"] != VERSION:
                return {}
            return {
                str(vm): Grant(Kind(row["kind"]), float(row["until_s"]), float(row["kill_s"]))
                for vm, row in data["grants"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}
