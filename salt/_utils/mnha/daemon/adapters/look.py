"""A look at the folder with the images, as a program: ``look.py FOLDER WHO SHARE ID ROOT [IMAGE…]``.

What hangs in the kernel there (a file server that is gone) can't be killed, and a process with such a thread does not
end. So it is this process that hangs, and never the guard, which can be replaced meanwhile. It is begun anew for each
look, by its path and without the package: it imports next to nothing.

It prints six lines and one for each image: why the folder fails, why it is not the share (then nothing was written
there), that it has no room, the id that lies in the share, the folder's real path, its mount as /proc/self/mountinfo
has it. What is wrong with an image, or with the folder, is empty where nothing is.
"""

import mmap
import os
import sys

BLOCK = 4096
LEAST_ROOM_MIB = 64
"""With less the folder has no room: a disk image that grows soon finds none."""
FIRST_LINES = 6
"""So many are printed before those of the images."""
OWN_FOLDER, ID_FILE = ".mnha", "id"
"""In the shared folder: what guards write there, and in that the share's id (:mod:`.share`)."""
NOT_LOOKED_AT = "not looked at: the storage fails"
"""Of an image: on storage that fails that look would tell nothing."""
NOT_THE_SHARE = "not looked at: this is not the cluster's share"
"""Of an image: what lies there is not to be started, nor to be copied there."""


def storage(folder: str, who: str) -> str:
    """Write a block to `folder` and read it back, past the page cache (O_DIRECT); what is wrong, or nothing.

    :param who: names the file; no two that look at once may have the same.
    """
    path = os.path.join(folder, OWN_FOLDER, f"probe-{who}")
    text = f"{who} {os.urandom(8).hex()}\n".encode().ljust(BLOCK)
    try:
        # Of the folder itself nothing is made: one that is missing is a share that is not mounted.
        try:  # noqa: SIM105  # contextlib takes as long to import as all else here
            os.mkdir(os.path.dirname(path), mode=0o700)
        except FileExistsError:
            pass
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
    try:
        found = os.statvfs(folder)
    except OSError:
        return ""
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
        return f"the image {path} is missing: is the share mounted? If so, copy it there"
    except OSError as error:
        return f"{path} can't be looked at: {error.strerror}"
    return "" if os.path.isfile(path) else f"the image {path} is no file: copy it there"


def id_in(share: str) -> str:
    """The id that lies in the shared folder; empty: none.

    Its folder is opened first: NFS asks the server then, and forgets that a moment ago there was none.

    :raises OSError: it can't be read.
    """
    try:
        folder = os.open(os.path.join(share, OWN_FOLDER), os.O_RDONLY | os.O_DIRECTORY)
        try:
            fd = os.open(ID_FILE, os.O_RDONLY, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError:
        return ""
    try:
        return os.read(fd, BLOCK).decode("ascii", "replace").strip()
    finally:
        os.close(fd)


def foreign(share: str, found: str, wanted: str) -> str:
    """Why this is not the share of which the cluster knows the id `wanted`; empty: it is, or none is known."""
    if not wanted or found == wanted:
        return ""
    if found:
        return (
            f"{share} is not the cluster's share but another one: its id is {found}, not {wanted}; is the right one "
            "mounted? One that was replaced: salt-run mnha.adopt_share"
        )
    return (
        f"{share} is not the cluster's share: the id {wanted} is not in it; is the share mounted? One that was "
        "replaced: salt-run mnha.adopt_share"
    )


def mount_of(path: str, mountinfo: str) -> str:
    """The line of the mount that `path` lies in, in a text like /proc/self/mountinfo; empty: none is found. Nothing is
    looked at on the disk, so this can't hang.

    :param path: without symbolic links.
    """
    mounts = [fields for line in mountinfo.splitlines() if len(fields := line.split(" ")) > 6]
    numbers = {fields[0] for fields in mounts}
    here = next((one for one in mounts if one[4] == "/" and (one[1] not in numbers or one[1] == one[0])), None)
    while here:
        # As the kernel walks: what is mounted nearest to the root covers all that was mounted below it before.
        above = [one for one in mounts if one[1] == here[0] and one is not here and is_below(path, plain(one[4]))]
        if not above:
            return " ".join(here)
        here = min(above, key=lambda one: len(one[4]))
    return ""


def is_below(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies in it."""
    return folder in ("/", path) or path.startswith(f"{folder}/")


def plain(escaped: str) -> str:
    """A path as it is, of one in which the kernel has written blanks as octal numbers."""
    first, *rest = escaped.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def mountinfo() -> str:
    """What is mounted where, for this process."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def look(folder: str, who: str, share: str, wanted: str, root: str, *images: str) -> list[str]:
    """The lines that are printed.

    :param wanted: the id of the cluster's share; empty: none is known.
    :param root: `refuse` a folder on the root file system, where no share can be, or `allow` it.
    """
    real = os.path.realpath(folder)
    mount, found, wrong = mount_of(real, mountinfo()), "", ""
    if root == "refuse" and mount.split(" ")[4:5] == ["/"]:
        other = f"{folder} lies on the root file system of this node: is the share mounted?"
    else:
        try:
            found = id_in(share)
        except OSError as error:
            wrong = f"{share} can't be read: {error.strerror}; is it mounted?"
        other = "" if wrong else foreign(share, found, wanted)
    wrong = wrong or ("" if other else storage(folder, who))
    told = NOT_LOOKED_AT if wrong else NOT_THE_SHARE if other else ""
    full = "" if told else room(folder)
    return [wrong, other, full, found, real, mount, *(told or image(path) for path in images)]


if __name__ == "__main__":
    print(*look(*sys.argv[1:]), sep="\n")
