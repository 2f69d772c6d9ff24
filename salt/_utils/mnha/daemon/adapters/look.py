"""A look at the folder with the images, as a program: ``look.py FOLDER WHO [IMAGE…]``.

What hangs in the kernel there (a file server that is gone) can't be killed, and a process with such a thread does not
end. So it is this process that hangs, and never the guard, which can be replaced meanwhile. It is begun anew for each
look, by its path and without the package: it imports next to nothing.

It prints a line for the folder and one for each image: empty, or what is wrong. The last line says that the folder has
no room; it is empty where it has.
"""

import contextlib
import mmap
import os
import sys

BLOCK = 4096
LEAST_ROOM_MIB = 64
"""With less the folder has no room: a disk image that grows soon finds none."""
NOT_LOOKED_AT = "not looked at: the storage fails"
"""Of an image: on storage that fails that look would tell nothing."""


def storage(folder: str, who: str) -> str:
    """Write a block to `folder` and read it back, past the page cache (O_DIRECT); what is wrong, or nothing.

    :param who: names the file; no two that look at once may have the same.
    """
    path = os.path.join(folder, ".mnha", f"probe-{who}")
    text = f"{who} {os.urandom(8).hex()}\n".encode().ljust(BLOCK)
    try:
        # Of the folder itself nothing is made: one that is missing is a share that is not mounted.
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), mode=0o700)
        with mmap.mmap(-1, BLOCK) as block:
            block[:] = text
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_DSYNC, 0o600)
            try:
                os.pwritev(fd, [block], 0)
                block[:] = bytes(BLOCK)
                os.preadv(fd, [block], 0)
            finally:
                os.close(fd)
            if block[:] != text:
                return f"{folder} gives back other data than was written"
    except OSError as error:
        return f"{folder} can't be written: {error.strerror}; is it mounted?"
    return ""


def room(folder: str) -> str:
    """That `folder` has no room, for who is not root; nothing where it has, or does not say."""
    with contextlib.suppress(OSError):
        found = os.statvfs(folder)
        free_mib = found.f_bavail * found.f_frsize >> 20
        if found.f_blocks and free_mib < LEAST_ROOM_MIB:
            return f"{folder} is full: less than {LEAST_ROOM_MIB} MiB are left; make room"
    return ""


def image(path: str) -> str:
    """What is wrong with an image. One that can't be looked at (a stale handle, no rights) is not missing, but no
    better.
    """
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"the image {path} is missing: copy it there"
    except OSError as error:
        return f"{path} can't be looked at: {error.strerror}"
    return "" if os.path.isfile(path) else f"the image {path} is no file: copy it there"


if __name__ == "__main__":
    wrong = storage(*sys.argv[1:3])
    images = [NOT_LOOKED_AT if wrong else image(path) for path in sys.argv[3:]]
    print(wrong, *images, "" if wrong else room(sys.argv[1]), sep="\n")
