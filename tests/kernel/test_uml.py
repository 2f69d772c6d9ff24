"""The machine itself: what goes in, what comes out, and that nothing is left."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from lab.uml import Machine

from .test_watchdog import BOOT_S


def left_of(machine: Machine) -> list[str]:
    """What is left of a machine: processes of its session that are not dead, and its folder."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == machine.pid and state != "Z":
                processes.append(path.parent.name)
    return [*processes, *([str(machine.folder)] if machine.folder.exists() else [])]


def test_a_program_has_this_machines_files_may_write_anywhere_and_changes_nothing_here(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("read")
    program = f"""
cat {tmp_path}/mine && echo changed >{tmp_path}/mine && cat {tmp_path}/mine
touch /usr/written && ls /usr/written
ls /sys/class/net; uname -r; exit 7
"""
    with Machine(program) as machine:
        end = machine.wait(BOOT_S)
    *said, release = end.said.splitlines()
    assert said == ["readchanged", "/usr/written", "lo"], "a program, a root of its own, and no network"
    assert release.startswith("6.")
    assert end.status == 7
    assert (tmp_path / "mine").read_text() == "read"
    assert not Path("/usr/written").exists()
    assert left_of(machine) == []


def test_a_machine_that_does_not_end_is_switched_off_and_nothing_is_left() -> None:
    with Machine("echo begun; sleep 600") as machine:
        machine.expect("begun", BOOT_S)
        assert len(left_of(machine)) > 2
        with pytest.raises(TimeoutError, match="(?s)still on after 0.5 s.*begun"):
            machine.wait(0.5)
        with pytest.raises(TimeoutError, match="no 'never said'"):
            machine.expect("never said", 0.5)
    assert left_of(machine) == []


def test_a_machine_that_is_reset_has_no_status() -> None:
    with Machine("echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; sleep 60") as machine:
        end = machine.wait(BOOT_S)
    assert end.status is None
    assert end.said == ""
