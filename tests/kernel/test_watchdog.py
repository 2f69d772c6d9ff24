"""The guard's watchdog on a real kernel, with its softdog: when is the machine reset, by this machine's clock?"""

from __future__ import annotations

import dataclasses
import shlex
import sys
import time

import pytest

from lab.uml import End, Line, Machine
from mnha.fencer.watchdog import EARLY_S
from tests.support.example import ROOT

LOADED = f"modprobe softdog nowayout=0 && cd {shlex.quote(str(ROOT))} && export PYTHONPATH=salt/_utils:. && "
PYTHON = shlex.quote(sys.executable)
RESET = "softdog: Initiating system reboot"
BOOT_S = 60.0
"""A boot takes two seconds; on a machine that is busy with other things, many more."""

NOISE_S = 0.5
"""How late a line of the machine may be read here."""


@dataclasses.dataclass(frozen=True)
class Story:
    """What became of a machine with `armed.py` in it; times are CLOCK_BOOTTIME of this machine, seconds.

    :param until_s: the moment at which it had to be reset.
    :param reset_s: when it was.
    :param writes: when the writer's lines arrived, and what its clock showed, put onto this machine's.
    """

    until_s: float
    reset_s: float
    writes: list[tuple[float, float]]
    end: End

    @property
    def late_s(self) -> float:
        """How much later than it had to be; negative: earlier."""
        return self.reset_s - self.until_s


def told(machine: Machine, limit_s: float) -> Story:
    """Wait for the reset and put the machine's times onto this one's clock.

    A line can't arrive before it was written: the fastest one shows how far the two clocks are apart.
    """
    end = machine.wait(limit_s)
    numbers = [(line.at_s, word, float(value)) for line in machine.lines for word, value in [line.text.split()]]
    apart_s = min(at_s - shown_s for at_s, word, shown_s in numbers if word == "wrote")
    (until_s,) = [shown_s + apart_s for _, word, shown_s in numbers if word == "until"]
    resets: list[Line] = [line for line in machine.console if RESET in line.text]
    assert len(resets) == 1, end.console
    writes = [(at_s, shown_s + apart_s) for at_s, word, shown_s in numbers if word == "wrote"]
    return Story(until_s, resets[0].at_s, writes, end)


def armed(left_s: float, fate: str) -> Machine:
    """A machine with a guard that arms its watchdog for `left_s` and suffers `fate`."""
    return Machine(f"{LOADED} exec {PYTHON} -m tests.kernel.armed {left_s} {fate}")


def test_what_the_machine_survives() -> None:
    options = "-p no:cacheprovider --color=no"
    with Machine(f"{LOADED} {PYTHON} -m pytest {options} tests/kernel/on_softdog.py") as machine:
        end = machine.wait(BOOT_S + 60)
    assert end.status == 0, end.said
    assert " passed" in end.said
    assert "skipped" not in end.said


@pytest.mark.parametrize("left_s", [2.5, 3.98])
def test_a_machine_whose_guard_gets_no_renewal_is_reset_at_the_moment_and_not_a_second_before(left_s: float) -> None:
    """Never late. When it is early by a part of a second, some thread did not get its turn in time: that may happen
    once on a machine with other things to do, not three times in a row.
    """
    for _ in range(3):
        with armed(left_s, "pets_no_more") as machine:
            story = told(machine, BOOT_S)
        assert -1.1 < story.late_s < NOISE_S
        if story.late_s > -EARLY_S - 0.1:
            return
    pytest.fail(f"it is always early, now by {-story.late_s:.2f} s")


@pytest.mark.parametrize("fate", ["stopped", "killed"])
def test_a_machine_whose_guard_is_stopped_or_killed_is_reset_at_the_moment_or_within_the_second_before(
    fate: str,
) -> None:
    with armed(3.6, fate) as machine:
        story = told(machine, BOOT_S)
    assert -1.1 < story.late_s < NOISE_S


def test_a_guard_that_stands_still_while_it_pets_does_not_put_off_the_reset() -> None:
    with armed(3.6, "told_late") as machine:
        story = told(machine, BOOT_S)
    assert -1.1 < story.late_s < NOISE_S


def test_without_a_copy_of_the_open_device_a_killed_guard_would_put_off_its_own_reset() -> None:
    """Why a copy is kept: the kernel pets at the close. Killed after half of the time, it counts all of it anew."""
    with armed(4.6, "killed_with_no_copy_kept") as machine:
        story = told(machine, BOOT_S)
    assert story.late_s == pytest.approx(4.6 / 2, abs=1.0)
    assert "did not stop" in story.end.console


def test_a_device_that_can_not_be_stopped_is_told_of_though_this_kernel_does_not_tell_beforehand() -> None:
    """softdog with nowayout=1, the default here, and no attribute in sysfs that says so."""
    program = (
        "from pathlib import Path; from mnha.host.clock import boottime_s\n"
        "from mnha.fencer.watchdog import LinuxWatchdog\n"
        "watchdog = LinuxWatchdog('required', '/dev/watchdog1', Path('/run/counts'))\n"
        "print(watchdog.arm(boottime_s() + 3.5), watchdog.armed, watchdog.why, flush=True)\n"
    )
    loaded = LOADED.replace("nowayout=0", "soft_margin=4")
    with Machine(f"{loaded} {PYTHON} -c {shlex.quote(program)}; sleep 30") as machine:
        told = machine.expect("False False", BOOT_S)
        end = machine.wait(BOOT_S)
    assert "nowayout=1" in told.text
    assert RESET in end.console
    assert end.status is None


def test_a_machine_that_stood_still_beyond_the_moment_is_reset_as_soon_as_it_goes_on() -> None:
    """A host that is suspended for longer than the lease: others run the VM by then. What does its QEMU do?"""
    with armed(3.6, "pets_no_more") as machine:
        machine.expect("until", BOOT_S)
        with machine.frozen():
            begun = len(machine.lines)
            time.sleep(0.2)
            begun = max(begun, len(machine.lines))  # what was under way
            time.sleep(14.8)
            assert len(machine.lines) == begun, "it wrote while it stood still"
            thawed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        story = told(machine, BOOT_S)
    after = [shown_s for at_s, shown_s in story.writes if at_s > thawed_s]
    print(f"reset {story.reset_s - thawed_s:.3f} s after the thaw, {len(after)} writes in between")
    assert story.reset_s - thawed_s < 0.5
    assert len(after) <= 5
