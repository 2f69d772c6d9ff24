"""What is done in the folder with the images, as a program.

What hangs in the kernel there (a file server that is gone) can't be killed, and a process with such a thread does not
end. So it is this process that hangs, and never the guard, which can be replaced meanwhile. It is begun anew each time,
by its path and without the package: it imports next to nothing.

``look.py look USER FOLDER WHO SHARE ID ROOT PID FILE [IMAGE…]`` looks at the folder, and at the file that QEMU, which
runs as USER, writes to (process PID; 0: none). It prints seven lines and one for each image: why the folder fails, why
it is not the share (then nothing was written there), that it has no room, the id that lies in the share, the folder's
real path, its mount as /proc/self/mountinfo has it, that FILE is not what QEMU has open (or that this is not known).
What is wrong with an image, or with the folder, is empty where nothing is.

``look.py mark SHARE ID [IMAGE PID]`` puts the share's id there; an empty one only reads. With an image it does so only
if that process has this very image open: a folder that the running VM's image lies in is the share, whatever else may
be mounted. It prints two lines: what is wrong, or nothing; and the id that lies there by now. One that is there is
never replaced.
"""

import mmap
import os
import pwd
import sys

BLOCK = 4096
LEAST_ROOM_MIB = 64
"""With less the folder has no room: a disk image that grows soon finds none."""
FIRST_WORDS, FIRST_LINES = 8, 7
"""So many come before those of the images."""
OWN_FOLDER, ID_FILE = ".mnha", "id"
"""In the shared folder: what guards write there, and in that the share's id (:mod:`.share`)."""
NOT_LOOKED_AT = "not looked at: the storage fails"
"""Of an image: on storage that fails that look would tell nothing."""
NOT_KNOWN = "not known"
"""Whether what QEMU writes to lies where it was."""
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
        make(os.path.dirname(path))
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


def make(folder: str) -> None:
    """Make a folder, unless it is there."""
    try:  # noqa: SIM105  # contextlib takes as long to import as all else here
        os.mkdir(folder, mode=0o700)
    except FileExistsError:
        pass


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
        return (
            f"the image {path} is missing: is the share mounted? Move it back; only while the VM is off, copy it there"
        )
    except OSError as error:
        return f"{path} can't be looked at: {error.strerror}"
    return "" if os.path.isfile(path) else f"the image {path} is no file: copy it there"


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


def moved(file: str, pid: str) -> str:
    """That a file is not what QEMU, process `pid`, has open as it; empty: it is. :data:`NOT_KNOWN` of what is no file:
    libvirt gives QEMU device nodes of its own.
    """
    try:
        is_there = is_open(file, pid)
    except FileNotFoundError as error:
        is_there = False
        if error.filename != file:
            return NOT_KNOWN
    except OSError:
        return NOT_KNOWN
    if is_there:
        return ""
    # One that ends has no file open.
    if not os.path.exists(f"/proc/{pid}/fd/0") or (os.path.exists(file) and not os.path.isfile(file)):
        return NOT_KNOWN
    return f"what the VM writes to does not lie at {file} any more: it was moved, removed, or replaced"


def unopenable(images: list[str], name: str) -> dict[str, str]:
    """Image -> that QEMU, which runs as user `name`, could not open it. Makes this process that user, if there is one
    here, and opens nothing: on NFS that would cost the VM its delegation.
    """
    try:
        user = pwd.getpwnam(name)
        os.setgroups(os.getgrouplist(name, user.pw_gid))
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except (KeyError, OSError):
        return {}
    closed = [one for one in images if not os.access(one, os.R_OK | os.W_OK)]
    return {one: f"{one} can't be opened by {name}, as QEMU has to: apply states.mnvm" for one in closed}


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
            "mounted? One that was replaced: salt-run mnha.adopt_share NODE"
        )
    return (
        f"{share} is not the cluster's share: the id {wanted} is not in it; is the share mounted? One that was "
        "replaced: salt-run mnha.adopt_share NODE"
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


def look(folder: str, who: str, share: str, wanted: str, root: str, pid: str, file: str, *images: str) -> list[str]:
    """The lines that are printed, but for what only QEMU's user finds.

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
    gone = moved(file, pid) if not told and pid != "0" and file.startswith("/") else NOT_KNOWN
    return [wrong, other, full, found, real, mount, gone, *(told or image(path) for path in images)]


def place(share: str, name: str) -> str:
    """Write the id, unless there is one; the one that is there then.

    :raises OSError: it can't be written.
    """
    folder = os.path.join(share, OWN_FOLDER)
    if name:
        make(folder)
    try:
        fd = os.open(os.path.join(folder, ID_FILE), os.O_RDWR | (os.O_CREAT if name else 0), 0o600)
    except FileNotFoundError:
        if name:
            raise
        return ""
    try:
        there = os.pread(fd, BLOCK, 0).decode("ascii", "replace").strip()
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


def main(verb: str, *words: str) -> list[str]:
    """What a command line prints."""
    if verb == "mark":
        return list(mark(*words))
    user, *rest = words
    lines = look(*rest)
    first, found, images = lines[:FIRST_LINES], lines[FIRST_LINES:], words[FIRST_WORDS:]
    closed = unopenable([path for path, line in zip(images, found, strict=True) if not line], user)
    return [*first, *(line or closed.get(path, "") for path, line in zip(images, found, strict=True))]


if __name__ == "__main__":
    print(*main(*sys.argv[1:]), sep="\n")
