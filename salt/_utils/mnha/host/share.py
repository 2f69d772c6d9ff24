"""The shared folder with the images, as states see it: by a process of its own, for so long and no longer.

A file server that is gone keeps whoever looks there waiting, for ever and mostly past any signal. So it is a child that
looks, as the guard has one look; it is left behind if it does not come back. Nothing here or in a state may ask the
folder directly, not even whether it exists.

As a program, ``share.py FOLDER IMAGE [UID GID MODE]``, it prints what it found as JSON; with the last three it changes
the image first. It imports nothing of this package.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

LIMIT_S = 8.0
"""Twice what a guard waits for a look of its own, and still a time that somebody waits at a terminal."""
MISSING, READ_ONLY, NO_FILE = "is missing", "is read-only", "is no file"


def look(
    folder: str, image: str = "", own: tuple[int, int, int] | None = None, limit_s: float = LIMIT_S
) -> dict[str, Any]:
    """What is wrong with the folder (`folder`, empty if nothing) and with an image in it (`image`), and whose that is:
    `owner` as `[uid, gid, mode]`, None if there is none; and the folder without symbolic links (`real`).

    :param own: uid, gid and mode that the image shall have.
    :param limit_s: how long the folder may take.
    :raises TimeoutError: it took longer; with what is mounted there.
    :raises OSError: no process could look.
    """
    words = [sys.executable, "-I", "-S", __file__, folder, image, *map(str, own or ())]
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/"
    )
    try:
        said, wrong = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()  # and not waited for: it need not die before the file server is back
        late = f"{folder} does not answer within {limit_s:g} s ({mounted(folder)})"
        raise TimeoutError(f"{late}: its file server, or the way there, fails") from None
    try:
        return dict(json.loads(said))
    except ValueError:
        last = (wrong.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        raise OSError(f"{folder} can't be looked at: {last}") from None


def mounted(folder: str) -> str:
    """What is mounted at or above a folder, by the kernel's table: nothing is asked of the file system itself."""
    found, at = "nothing is mounted there", ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        kind, source = after.split()[:2]
        if point != "/" and len(point) >= len(at) and f"{folder}/".startswith(f"{point}/"):
            found, at = f"{kind} of {source} at {point}", point
    return found


def _found(folder: str, image: str, own: list[int]) -> dict[str, Any]:
    """What the program prints."""
    wrong = _wrong_with_folder(folder)
    found: dict[str, Any] = {"folder": wrong, "image": "", "owner": None, "real": os.path.realpath(folder)}
    if wrong or not image:
        return found
    try:
        if own:
            uid, gid, mode = own
            os.chown(image, uid, gid)
            os.chmod(image, mode)
        seen = os.stat(image)
    except FileNotFoundError:
        return {**found, "image": MISSING}
    except OSError as error:
        return {**found, "image": f"can't be {'changed' if own else 'looked at'}: {error.strerror}"}
    owner = [seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)]
    return {**found, "image": "" if stat.S_ISREG(seen.st_mode) else NO_FILE, "owner": owner}


def _wrong_with_folder(folder: str) -> str:
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            return "is no folder"
    except FileNotFoundError:
        return MISSING
    except OSError as error:
        return f"can't be looked at: {error.strerror}"
    return "" if os.access(folder, os.W_OK) else READ_ONLY


if __name__ == "__main__":
    print(json.dumps(_found(sys.argv[1], sys.argv[2], [int(word) for word in sys.argv[3:]])))
