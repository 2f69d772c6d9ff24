"""Which files a process has open, and on which mount each lies: by /proc alone, so no file server is asked.

The path of an open file does not tell: something may be mounted over it since. Its mount's number does, which is unique
on a host; it is looked up in the process's own table and in this one's, for a file may have been handed over.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import mounts
from .mount_arguments import is_in

PROC = Path("/proc")
NO_FILES = ("/dev/", "/memfd:", "/SYSV")
"""So the names of what lies on no file system begin, or on none of a host's own."""


@dataclasses.dataclass(frozen=True)
class Open:
    """An open file.

    :param path: as it was opened.
    :param place: that of its mount, see :attr:`.mounts.Mount.place`; empty: it is not known.
    """

    path: str
    place: tuple[str, ...]

    def is_on(self, mount: mounts.Mount) -> bool:
        """Whether it lies on this very mount; by its path where that is all that is known."""
        return self.place == mount.place if self.place else is_in(self.path, mounts.plain(mount.point))


def of(pids: Iterable[int]) -> list[Open]:
    """The files that processes have open; a process that has ended has none.

    :raises OSError: it is not known.
    """
    return [one for pid in pids for one in _of(PROC / str(pid))]


def _of(process: Path) -> Iterator[Open]:
    try:
        places = _places(PROC / "self") | _places(process)
        numbers = os.listdir(process / "fd")
    except (FileNotFoundError, ProcessLookupError):
        return
    for number in numbers:
        try:
            path = os.readlink(process / "fd" / number)
            told = (process / "fdinfo" / number).read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # closed by now
            continue
        if path.startswith("/") and not path.startswith(NO_FILES):
            yield Open(path, places.get(mount_number(told), ()))


def mount_number(told: str) -> str:
    """The number of an open file's mount, by the text of its `fdinfo`; empty: it does not say."""
    return next((line.split()[1] for line in told.splitlines() if line.startswith("mnt_id:")), "")


def _places(process: Path) -> dict[str, tuple[str, ...]]:
    text = (process / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    found = [one for line in text.splitlines() if (one := mounts.parse(line))]
    return {one.key.split(" ")[0]: one.place for one in found}
