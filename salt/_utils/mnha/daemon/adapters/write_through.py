"""Looks at a disk, as a program: ``write_through.py FILE``.

For each line that comes in it writes FILE and waits until that is on the disk (fdatasync, as Consul does). Then it
prints a line: empty, or what is wrong. It ends with its input.

What hangs in the kernel there can't be killed. So it is this process that hangs, and never the guard. It is begun once,
and before: a program may not be readable from a disk that hangs. It imports next to nothing.
"""

import os
import sys


def write_through(path: str) -> str:
    """Have a block of `path` on the disk; what is wrong, or nothing. A folder that does not exist needs none.

    No link is followed: others may write to the folder, and this is root.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{os.path.dirname(path)} can't be written: {error.strerror}"
    try:
        os.pwrite(fd, os.urandom(512), 0)
        os.fdatasync(fd)
    except OSError as error:
        return f"{os.path.dirname(path)} can't be written: {error.strerror}"
    finally:
        os.close(fd)
    return ""


if __name__ == "__main__":
    for _ in sys.stdin:
        print(write_through(sys.argv[1]), flush=True)
