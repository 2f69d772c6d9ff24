"""Runs in a machine with softdog as /dev/watchdog1, by `test_watchdog.py`: what the machine survives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnha.fencer.watchdog import LinuxWatchdog
from mnha.host.clock import boottime_s

SOFTDOG = "/dev/watchdog1"
TOO_LATE = "did not stop"


def kernel_said() -> str:
    return subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "run" / "watchdog.counts"


Make = Callable[..., LinuxWatchdog]


@pytest.fixture
def make(mark: Path) -> Iterator[Make]:
    """Makes adapters; none is left open, or counting."""
    made = []

    def one(mode: str = "required", device: str = SOFTDOG, mark: Path = mark) -> LinuxWatchdog:
        made.append(LinuxWatchdog(mode, device, mark))
        return made[-1]

    yield one
    for watchdog in made:
        for vm in ("", "one", "other"):
            watchdog.disarm(vm)
        if watchdog.fd is not None:
            os.close(watchdog.fd)
    assert not mark.exists()


@pytest.fixture
def watchdog(make: Make) -> LinuxWatchdog:
    """A required softdog. The kernel never sees it closed while it counts."""
    return make()


def test_a_machine_whose_watchdog_is_petted_lives_on_and_once_it_is_disarmed_needs_no_petting(
    watchdog: LinuxWatchdog, mark: Path
) -> None:
    for _ in range(7):
        assert watchdog.arm(boottime_s() + 2.5)
        assert (watchdog.armed, watchdog.why, mark.exists()) == (True, "", True)
        time.sleep(0.5)
    watchdog.disarm()
    assert (watchdog.armed, mark.exists()) == (False, False)
    time.sleep(3.0)
    assert watchdog.arm(boottime_s() + 2.5), "it can be armed again, though it is open still"
    watchdog.disarm()
    time.sleep(3.0)


def test_arming_is_no_matter_of_time(watchdog: LinuxWatchdog) -> None:
    began_s = boottime_s()
    for _ in range(100):
        assert watchdog.arm(boottime_s() + 4.5)
    assert boottime_s() - began_s < 1.0


def test_a_device_that_somebody_else_has_is_refused_and_their_counting_is_left_alone(
    watchdog: LinuxWatchdog, make: Make, tmp_path: Path
) -> None:
    assert watchdog.arm(boottime_s() + 4.5)
    second = make(mark=tmp_path / "second")
    assert not second.arm(boottime_s() + 4.5)
    assert "somebody else has it" in second.why
    assert (second.armed, watchdog.armed) == (False, True)
    second.disarm()
    assert make("automatic", mark=tmp_path / "third").arm(boottime_s() + 4.5), "automatic goes without"


def test_one_device_counts_for_the_vm_whose_time_is_over_first_until_none_is_left(
    watchdog: LinuxWatchdog, mark: Path
) -> None:
    assert watchdog.arm(boottime_s() + 2.5, "one")
    assert watchdog.arm(boottime_s() + 60.0, "other")
    watchdog.disarm("one")
    end_s = boottime_s() + 3.0  # the other's time counts now
    while boottime_s() < end_s:
        watchdog.sharpen()
        time.sleep(0.01)
    assert (watchdog.protects("one"), watchdog.protects("other")) == (False, True)
    watchdog.disarm("other")
    assert not mark.exists()


@pytest.mark.parametrize("mode", ["required", "automatic"])
@pytest.mark.parametrize(
    ("device", "left_s", "words"),
    [
        ("/dev/none", 4.5, "/dev/none: No such file or directory: load its driver"),
        ("/dev/null", 4.5, "no watchdog that can be stopped"),
        ("/dev/watchdog", 4.5, "Invalid argument"),  # a driver that is there but can't be started
        (SOFTDOG, 70000.5, "can't count 70000 s"),
        (SOFTDOG, 0.9, "no time left"),
        (SOFTDOG, -3.0, "no time left"),
    ],
)
def test_what_does_not_work_is_refused_with_a_reason_and_nothing_counts(
    make: Make, mark: Path, mode: str, device: str, left_s: float, words: str
) -> None:
    watchdog = make(mode, device)
    assert watchdog.arm(boottime_s() + left_s) is (mode == "automatic")
    assert words in watchdog.why
    assert not watchdog.armed
    assert not mark.exists()


def test_too_late_to_pet_leaves_what_is_set(watchdog: LinuxWatchdog) -> None:
    assert watchdog.arm(boottime_s() + 3.5)
    assert watchdog.arm(boottime_s() + 0.5), "the node is protected: it is reset sooner than asked for, or as soon"
    assert watchdog.armed


def after(before: LinuxWatchdog, mode: str, mark: Path) -> LinuxWatchdog:
    """The adapter of the next guard, which got the device from `before`."""
    assert before.fd is not None
    return LinuxWatchdog(mode, SOFTDOG, mark, kept_fd=before.fd)


def test_a_guard_that_has_the_watchdog_switched_off_stops_what_the_one_before_has_armed(
    watchdog: LinuxWatchdog, mark: Path
) -> None:
    assert watchdog.arm(boottime_s() + 2.5)
    following = after(watchdog, "off", mark)
    assert following.arm(boottime_s() + 2.5)
    assert (following.armed, following.why, mark.exists()) == (False, "off by configuration", False)
    time.sleep(3.0)


def test_a_guard_that_comes_too_late_to_pet_leaves_what_the_one_before_has_set(
    watchdog: LinuxWatchdog, mark: Path
) -> None:
    assert watchdog.arm(boottime_s() + 3.9)
    following = after(watchdog, "required", mark)
    assert following.arm(boottime_s() + 0.5)
    assert mark.exists()
    assert following.arm(boottime_s() + 3.9)
    assert following.armed
    following.disarm()
    assert not mark.exists()
    time.sleep(4.2)


def test_a_device_that_comes_later_is_used_then(make: Make, tmp_path: Path) -> None:
    device = tmp_path / "watchdog"
    device.symlink_to("/dev/none")
    watchdog = make(device=str(device))
    assert "load its driver" in watchdog.objection()
    assert not watchdog.arm(boottime_s() + 4.5)
    device.unlink()
    device.symlink_to(SOFTDOG)
    assert watchdog.objection() == ""
    assert watchdog.arm(boottime_s() + 4.5)
    assert watchdog.objection() == ""


def test_the_kernel_saw_no_close_until_now() -> None:
    assert TOO_LATE not in kernel_said()


def test_a_killed_guard_leaves_it_counting_and_the_next_one_stops_it(make: Make, mark: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from mnha.fencer.watchdog import LinuxWatchdog\n"
        "from mnha.host.clock import boottime_s\n"
        "assert LinuxWatchdog('required', sys.argv[1], Path(sys.argv[2])).arm(boottime_s() + 3.9)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, SOFTDOG, str(mark)], check=False, timeout=30).returncode == -9
    assert mark.exists()
    assert TOO_LATE in kernel_said()
    after = make()
    assert after.objection() == ""
    after.disarm()
    assert not mark.exists()
    time.sleep(4.5)
