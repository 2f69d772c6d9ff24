"""The guard's unit, under systemd, on a real kernel: what becomes of the watchdog when a guard dies?"""

from __future__ import annotations

import re
import shlex
import sys
from types import SimpleNamespace

import jinja2
import pytest

from lab.uml import Machine
from mnha.core.timing import PROFILES
from tests.support.example import ROOT

from .test_watchdog import BOOT_S, NOISE_S, RESET

UNIT = ROOT / "salt/states/guard/files/mnha-guard.service"
CHANGES = """
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
Environment=PYTHONPATH=@ROOT@/salt/_utils:@ROOT@
ExecStartPre=
ExecStart=
ExecStart=@PYTHON@ -m tests.kernel.service @FATE@
ExecReload=
ExecStopPost=
WorkingDirectory=@ROOT@
"""
"""What the product's unit is without, in a machine with no cluster around it."""

LIVES = """
systemctl kill --signal=KILL --kill-whom=main mnha-guard
sleep 4
systemctl kill --signal=KILL --kill-whom=main mnha-guard
sleep 8
systemctl stop mnha-guard
dmesg | grep 'did not stop' && exit 1
exec 9>/dev/watchdog1 || exit 2
echo -n V >&9
"""
RESETS = """
sleep 3
systemctl kill --signal=SIGNAL --kill-whom=main mnha-guard
sleep 60
"""


def installed(changes: str) -> str:
    """Commands that load softdog and install the unit with `changes`, in which @ROOT@ and @PYTHON@ stand for these."""
    guard = SimpleNamespace(timings=PROFILES["default"], vms=[])
    unit = jinja2.Template(UNIT.read_text(encoding="utf-8")).render(salt={"mnha_config.guard": lambda: guard})
    changes = changes.replace("@ROOT@", str(ROOT)).replace("@PYTHON@", sys.executable)
    folder = "/etc/systemd/system"
    return (
        f"modprobe softdog nowayout=0 && mkdir -p {folder}/mnha-guard.service.d /run/mnha || exit 3\n"
        f"printf %s {shlex.quote(unit)} >{folder}/mnha-guard.service\n"
        f"printf %s {shlex.quote(changes)} >{folder}/mnha-guard.service.d/changes.conf\n"
        f"systemctl daemon-reload || exit 4\n"
    )


def machine(fate: str, then: str) -> Machine:
    """A machine with the unit started, its guard's later `fate`, and what happens `then`."""
    start = "systemctl start mnha-guard || exit 5\n"
    return Machine(installed(CHANGES.replace("@FATE@", fate)) + start + then, systemd=True)


def test_a_killed_guards_watchdog_is_taken_over_by_the_next_one_and_freed_at_the_end() -> None:
    with machine("finds_no_vm", LIVES) as this:
        end = this.wait(BOOT_S + 30)
    assert end.status == 0, f"{end.said}\n{end.console}"
    assert re.findall(r"armed until|got the device|stopped it", end.said) == [
        "armed until", *["got the device", "stopped it"] * 2,
    ], end.said  # fmt: skip


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_guards_death_does_not_put_off_the_reset_when_the_next_one_does_nothing(signal: str) -> None:
    """KILL kills it at once; STOP stops it, so that systemd's own watchdog kills it, three seconds later."""
    with machine("hangs", RESETS.replace("SIGNAL", signal)) as this:
        armed = this.expect("armed until", BOOT_S)
        this.wait(BOOT_S)
    until_s, shown_s = (float(number) for number in re.findall(r"\d+\.\d+", armed.text))
    (reset,) = [line for line in this.console if RESET in line.text]
    late_s = reset.at_s - (until_s + armed.at_s - shown_s)
    assert -1.1 < late_s < NOISE_S
