"""The fencer's unit, under systemd, on a real kernel: what becomes of the watchdog when a fencer dies?"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from lab.uml import Machine
from mnha.core.timing import PROFILES
from tests.support.example import ROOT

from .test_watchdog import BOOT_S, NOISE_S, RESET

REALTIME = ROOT / "salt/states/host/files/realtime"
UNIT = ROOT / "salt/states/fencer/files/mnha-fencer.service"
CHANGES = """
[Unit]
DefaultDependencies=no
[Service]
Environment=PYTHONPATH=@ROOT@/salt/_utils:@ROOT@
ExecStartPre=
ExecStart=
ExecStart=@PYTHON@ -m tests.kernel.service @FATE@
WorkingDirectory=@ROOT@
WatchdogSec=4
"""
"""What the product's unit is without, in a machine with no cluster around it."""

LIVES = """
systemctl kill --signal=KILL --kill-whom=main mnha-fencer
sleep 4
systemctl kill --signal=KILL --kill-whom=main mnha-fencer
sleep 8
systemctl stop mnha-fencer
dmesg | grep 'did not stop' && exit 1
exec 9>/dev/watchdog1 || exit 2
echo -n V >&9
"""
RESETS = """
sleep 3
systemctl kill --signal=SIGNAL --kill-whom=main mnha-fencer
sleep 60
"""


def installed(name: str, unit: str = "") -> str:
    """Commands that load softdog and install a unit (left out: the product's own of that name) and what begins it."""
    text = unit or rendered(UNIT)
    folder = "/etc/systemd/system"
    return (
        f"modprobe softdog nowayout=0 && mkdir -p {folder}/{name}.service.d || exit 3\n"
        f"printf %s {shlex.quote(text)} >{folder}/{name}.service\n"
        f"install -D {shlex.quote(str(REALTIME))} /usr/lib/mnha/realtime || exit 3\n"
    )


def rendered(path: Path) -> str:
    """A unit as the states write it, with the default timings, on a node without VMs."""
    guard = SimpleNamespace(timings=PROFILES["default"], vms=[], leave_s=180.0)
    return jinja2.Template(path.read_text(encoding="utf-8")).render(salt={"mnha_config.guard": lambda: guard})


def machine(fate: str, then: str) -> Machine:
    """A machine with the unit started, its fencer's later `fate`, and what happens `then`."""
    changes = CHANGES.replace("@FATE@", fate).replace("@ROOT@", str(ROOT)).replace("@PYTHON@", sys.executable)
    return Machine(
        f"{installed('mnha-fencer')}"
        f"printf %s {shlex.quote(changes)} >/etc/systemd/system/mnha-fencer.service.d/changes.conf\n"
        f"systemctl daemon-reload || exit 4\nsystemctl start mnha-fencer || exit 5\n{then}",
        systemd=True,
    )


def test_a_killed_fencers_watchdog_is_taken_over_by_the_next_one_and_freed_at_the_end() -> None:
    with machine("finds_no_vm", LIVES) as this:
        end = this.wait(BOOT_S + 30)
    assert end.status == 0, f"{end.said}\n{end.console}"
    assert re.findall(r"armed until|got the device|stopped it", end.said) == [
        "armed until", *["got the device", "stopped it"] * 2,
    ], end.said  # fmt: skip


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_fencers_death_does_not_put_off_the_reset_when_the_next_one_does_nothing(signal: str) -> None:
    with machine("hangs", RESETS.replace("SIGNAL", signal)) as this:
        armed = this.expect("armed until", BOOT_S)
        this.wait(BOOT_S)
    until_s, shown_s = (float(number) for number in re.findall(r"\d+\.\d+", armed.text))
    (reset,) = [line for line in this.console if RESET in line.text]
    late_s = reset.at_s - (until_s + armed.at_s - shown_s)
    assert -1.1 < late_s < NOISE_S
