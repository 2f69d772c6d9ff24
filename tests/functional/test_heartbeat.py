"""The guest's heartbeat, the witness of all failover tests, on a file: what it takes for another writer."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.example import ROOT

SIZE = 1 << 20
INTERVAL_MS = 20
PATIENCE_S = 10.0


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    return path


@pytest.fixture
def said(tmp_path: Path, disk: Path) -> Iterator[Callable[[], str]]:
    """A heartbeat that has begun; what it has said so far."""
    program, log = tmp_path / "heartbeat", tmp_path / "log"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", "-o", program, ROOT / "lab/guest/heartbeat.c"], check=True)
    with log.open("wb") as output:
        process = subprocess.Popen([program, disk, "7", str(INTERVAL_MS)], stdout=output)
    try:
        wait_for("heartbeat beat", log.read_text)
        yield log.read_text
    finally:
        process.kill()
        process.wait()


def wait_for(text: str, said: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE_S
    while text not in said():
        assert time.monotonic() < end, said()
        time.sleep(0.05)


def test_a_record_of_somebody_else_is_an_overlap(disk: Path, said: Callable[[], str]) -> None:
    with disk.open("r+b") as file:
        file.write(b"\0" * SIZE)
    wait_for("OVERLAP", said)


def test_a_disk_that_can_not_be_read_is_none(disk: Path, said: Callable[[], str]) -> None:
    """At the guest's shutdown its disk is gone a moment before the heartbeat is."""
    with disk.open("r+b") as file:
        file.truncate(0)
    wait_for("ERROR reading", said)
    with disk.open("r+b") as file:
        file.truncate(0)  # a record that was on its way before is written by now
    time.sleep(5 * INTERVAL_MS / 1000)
    assert "OVERLAP" not in said()
    assert disk.stat().st_size == 0, "nothing is written unseen"
