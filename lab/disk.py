"""The VM's disk as an operator has it, a qcow2, and where the guest's records lie in that file.

The image is made with all its clusters in one piece. So what the guest writes at an offset of its disk stands at that
offset, shifted by a constant, in the file, and can be read from outside while QEMU writes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lab.settings import LabError
from lab.shell import run

MAGIC = b"QFI\xfb"


@dataclass(frozen=True)
class Window:
    """Where the guest's disk lies in a file, in bytes."""

    offset: int
    length: int


def make(image: Path, size: int) -> None:
    """Create an empty qcow2 of `size` bytes whose clusters lie in one piece."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", image, str(size)])
    window(image)


def window(image: Path) -> Window:
    """Where the guest's disk lies in `image`; of a raw one it is all of it. The image may be in use.

    :raises LabError: the clusters of a qcow2 do not lie in one piece.
    """
    with image.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return Window(0, image.stat().st_size)
    parts = json.loads(run(["qemu-img", "map", "--force-share", "--output=json", "-f", "qcow2", image]).stdout)
    end = 0
    for part in parts:
        if part["start"] != end or part.get("offset", -1) - part["start"] != parts[0]["offset"]:
            raise LabError(f"the clusters of {image} do not lie in one piece: {parts}; make it anew with lab.disk.make")
        end += part["length"]
    return Window(parts[0]["offset"], end)


def read(image: Path) -> bytes:
    """All of the guest's disk."""
    lies = window(image)
    with image.open("rb") as file:
        file.seek(lies.offset)
        return file.read(lies.length).ljust(lies.length, b"\0")
