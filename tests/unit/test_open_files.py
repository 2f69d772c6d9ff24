"""On which mount an open file lies."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mnha.host import mounts, open_files
from mnha.host.open_files import Open


def mount(point: str = "/srv/shared", device: str = "0:50", number: str = "77") -> mounts.Mount:
    found = mounts.parse(f"{number} 22 {device} / {point} rw - nfs4 nfs1:/x rw")
    assert found
    return found


def test_a_file_of_this_process_is_on_the_mount_that_carries_it(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.touch()
    carrier = mounts.carrying(os.path.realpath(tmp_path), mounts.table())
    assert carrier
    with file.open():
        (found,) = [one for one in open_files.of([os.getpid()]) if one.path == str(file)]
    assert found.place == carrier.place
    assert found.is_on(carrier)


def test_a_process_that_has_ended_has_no_file_open() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert open_files.of([ended.pid]) == []


def test_what_is_mounted_over_a_file_is_another_mount() -> None:
    image = Open("/srv/shared/mngt/vm.img", mount().place)
    assert image.is_on(mount(number="99")), "as another namespace has it"
    assert not image.is_on(mount(device="0:60")), "over it, at the same place"
    assert not image.is_on(mount(point="/srv/shared/mngt", device="0:60"))
    assert not image.is_on(mount(point="/opt/bs")), "another folder of the same server"


def test_a_file_whose_mount_is_not_known_counts_by_its_path() -> None:
    image = Open("/srv/shared/mngt/vm.img", ())
    assert image.is_on(mount())
    assert not image.is_on(mount(point="/srv/sha"))


def test_the_number_of_a_mount_is_read_from_what_the_kernel_tells_of_a_file() -> None:
    assert open_files.mount_number("pos:\t0\nflags:\t02\nmnt_id:\t29\nino:\t7\n") == "29"
    assert open_files.mount_number("pos:\t0\n") == ""
