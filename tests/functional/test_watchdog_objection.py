"""What can be told of a watchdog device without opening it. What it does once it is open is tried in `tests/kernel`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnha.errors import ConfigurationError
from mnha.fencer.watchdog import LinuxWatchdog, check_mode, objection


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "watchdog"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, ""),
        ({"nowayout": "0\n", "state": "inactive\n"}, ""),
        ({"nowayout": "1\n", "state": "inactive\n"}, "nowayout=1): load its driver with nowayout=0"),
        ({"nowayout": "0\n", "state": "active\n"}, "counts for somebody else: systemd's RuntimeWatchdogSec="),
    ],
)
def test_what_the_kernel_tells_of_it(tmp_path: Path, device: Path, attributes: dict[str, str], words: str) -> None:
    folder = tmp_path / "sysfs"
    folder.mkdir()
    for name, value in attributes.items():
        (folder / name).write_text(value)
    found = objection(device, folder)
    assert words in found
    assert bool(found) is bool(words)


def test_a_device_that_is_not_there_is_an_objection_only_where_it_is_required(tmp_path: Path) -> None:
    missing, mark = tmp_path / "none", tmp_path / "counts"
    assert "load its driver" in LinuxWatchdog("required", str(missing), mark).objection()
    assert LinuxWatchdog("automatic", str(missing), mark).objection() == ""
    off = LinuxWatchdog("off", str(missing), mark)
    assert (off.objection(), off.arm(0.0), off.armed) == ("", True, False)


def test_a_device_that_counts_since_an_earlier_guard_is_no_objection(tmp_path: Path) -> None:
    (tmp_path / "counts").touch()
    assert LinuxWatchdog("required", str(tmp_path / "none"), tmp_path / "counts").objection() == ""


@pytest.mark.parametrize("mode", ["on", "Required", "", "true"])
def test_a_misspelt_mode_switches_nothing_off(mode: str) -> None:
    with pytest.raises(ConfigurationError, match="write one of required, automatic, off"):
        check_mode(mode)
