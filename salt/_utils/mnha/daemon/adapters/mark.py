"""Puts the share's id into the shared folder, as a program: ``mark.py SHARE ID [IMAGE PID]``. An empty id only reads.

A process of its own, for it may hang there like a look (:mod:`.look`). With an image it does so only if that process
has this very image open: a folder that the running VM's image lies in is the share, whatever else may be mounted.

It prints two lines: what is wrong, or nothing; and the id that lies there by now. One that is there is never replaced.
"""

import contextlib
import os
import sys

OWN_FOLDER, ID_FILE = ".mnha", "id"
LONGEST = 4096


def is_open(image: str, pid: str) -> bool:
    """Whether process `pid` has the file at this path open.

    :raises OSError: that can't be known.
    """
    wanted = os.stat(image)
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            seen = os.stat(f"/proc/{pid}/fd/{number}")
        except FileNotFoundError:  # closed by now
            continue
        if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def place(share: str, name: str) -> str:
    """Write the id, unless there is one; the one that is there then.

    :raises OSError: it can't be written.
    """
    folder = os.path.join(share, OWN_FOLDER)
    if name:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, mode=0o700)
    try:
        fd = os.open(os.path.join(folder, ID_FILE), os.O_RDWR | (os.O_CREAT if name else 0), 0o600)
    except FileNotFoundError:
        if name:
            raise
        return ""
    try:
        there = os.pread(fd, LONGEST, 0).decode("ascii", "replace").strip()
        if name and not there:  # an empty one is what was left of a write that power cut short
            os.pwrite(fd, f"{name}\n".encode(), 0)
            os.fsync(fd)
        return there or name
    finally:
        os.close(fd)


def mark(share: str, name: str, image: str = "", pid: str = "") -> tuple[str, str]:
    """The two lines that are printed."""
    try:
        if image and not is_open(image, pid):
            return f"the VM does not run from {image} as it lies there now: is something mounted over it?", ""
        return "", place(share, name)
    except OSError as error:
        return f"the share's id can't be kept in {share}: {error.strerror}", ""


if __name__ == "__main__":
    print(*mark(*sys.argv[1:]), sep="\n")
