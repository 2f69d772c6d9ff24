"""What a guest writes on its qcow2 is read from outside, while QEMU has the image open."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import disk, host
from lab.checker import check
from lab.records import BOOT, SLOT_BYTES, Record, Tail, encode
from lab.settings import LabError

SIZE = 64 * 1024 * 1024


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    """qemu-img and qemu-io are among what the lab needs on this machine."""
    host.prepare()


def write(image: Path, record: Record, raw: Path) -> None:
    """Write a record as a guest would: through QEMU's own block layer."""
    raw.write_bytes(encode(record))
    command = f"write -s {raw} {record.seq * SLOT_BYTES} {SLOT_BYTES}"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, image], check=True, capture_output=True, timeout=30)


def test_records_written_through_qemu_are_found_where_the_window_says(tmp_path: Path) -> None:
    image = tmp_path / "mnvm.img"
    disk.make(image, SIZE)
    assert disk.window(image).length == SIZE < image.stat().st_size
    tail, records = Tail(image), [Record(BOOT, number, "a" * 32, 1, number) for number in range(3)]
    for record in records:
        write(image, record, tmp_path / "slot")
    assert tail.poll() == records
    assert [one.boot_id for one in check(image, {}).instances] == ["a" * 32]


def test_an_image_whose_clusters_lie_scattered_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "mnvm.img"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, str(SIZE)], check=True, timeout=30)
    for number in (90_000, 1):
        write(image, Record(BOOT, number, "a" * 32, 1, 0), tmp_path / "slot")
    with pytest.raises(LabError, match="do not lie in one piece"):
        disk.window(image)
