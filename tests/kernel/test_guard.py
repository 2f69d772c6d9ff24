"""Guard and fencer themselves, their units, Consul and the watchdog, together on a real kernel: is the VM dead, or the
node reset, in time?
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from lab.uml import Machine
from mnha.core.timing import PROFILES, Timings
from tests.support import consul_server
from tests.support.example import ROOT

from .test_service import installed, rendered
from .test_watchdog import BOOT_S, NOISE_S, RESET

UNIT = ROOT / "salt/states/guard/files/mnha-guard.service"
TIMINGS = PROFILES["default"]
SLOW = Timings(renew_s=1.0, deadline_s=8.0, kill_s=16.0, lease_s=25.0)
SLOWER = Timings(renew_s=1.0, deadline_s=16.0, kill_s=16.0, lease_s=35.0)
"""A Python that takes a second to begin on a node takes ten here, and more on a machine that is busy."""
ROUNDS = 3
"""A machine that does not get its turn is late: once, not three times in a row."""
FENCER = """
[Unit]
DefaultDependencies=no
[Service]
Environment=PYTHONPATH=@ROOT@/salt/_utils
StandardError=append:/run/fencer.log
WatchdogSec=0
"""
GUARD = """
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
Environment=PYTHONPATH=@ROOT@/salt/_utils
ExecStartPre=
ExecStart=
StandardError=append:/run/guard.log
ExecStart=/usr/lib/mnha/realtime 50 root @PYTHON@ -m mnha.daemon --config /etc/mnha/guard.json
ExecReload=
ExecStop=
WatchdogSec=0
"""
"""Without what a cluster's node has besides."""


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return consul_server.binary(tmp_path_factory.mktemp("consul"))


def struck(consul: Path, timings: Timings, fate: str) -> Machine:
    """A machine whose guard holds its VM until `fate` strikes."""
    words = [sys.executable, "-m", "tests.kernel.whole_guard", str(consul), json.dumps(timings.to_dict()), fate]
    program = shlex.join(words)
    return Machine(
        f"{installed('mnha-fencer')}{changed('mnha-fencer', FENCER)}{installed('mnha-guard', rendered(UNIT))}"
        f"{changed('mnha-guard', GUARD)}systemctl daemon-reload || exit 4\n"
        f"cd {shlex.quote(str(ROOT))} && export PYTHONPATH=salt/_utils:. && exec {program}",
        systemd=True,
    )


def times(machine: Machine) -> dict[str, list[float]]:
    """What was printed, by its first word, on this machine's clock: the fastest line shows how far apart they are."""
    told = [(line.at_s, *line.text.split()) for line in machine.lines if line.text.count(" ") == 1]
    numbers = [(at_s, word, float(value)) for at_s, word, value in told if value.replace(".", "", 1).isdigit()]
    apart_s = min(at_s - shown_s for at_s, _, shown_s in numbers)
    result: dict[str, list[float]] = {}
    for _, word, shown_s in numbers:
        result.setdefault(word, []).append(shown_s + apart_s)
    return result


@pytest.mark.parametrize("fate", ["both_stopped", "unkillable"])
def test_a_node_whose_vm_outlives_its_lease_is_reset_before_anybody_may_take_it(consul: Path, fate: str) -> None:
    """*both_stopped*: neither guard nor fencer kills the VM. *unkillable*: no renewal, and no death by SIGKILL.

    The last renewal was asked for in the second before, so D + K after the strike is the latest that is allowed.
    """
    for _ in range(ROUNDS):
        with struck(consul, TIMINGS, fate) as machine:
            end = machine.wait(BOOT_S + 120)
        when = times(machine)
        resets = [line.at_s for line in machine.console if RESET in line.text]
        assert len(resets) == 1, f"{end.said[-3000:]}\n{end.console}"
        after_s = resets[0] - when["struck"][0]
        wrote_s = when["wrote"][-1] - when["struck"][0]
        print(f"{fate}: reset {after_s:.2f} s after; the VM wrote until {wrote_s:.2f} s after")
        assert TIMINGS.reset_s - TIMINGS.renew_s - 1.2 < after_s
        if after_s < TIMINGS.reset_s + NOISE_S:
            return
    pytest.fail(f"it is always late, now by {after_s - TIMINGS.reset_s:.2f} s")


@pytest.mark.parametrize("fate", ["guard_stopped", pytest.param("guard_gone", marks=pytest.mark.nightly)])
def test_a_vm_whose_guard_is_not_there_is_dead_at_its_moment_and_the_watchdog_is_stopped(
    consul: Path, fate: str
) -> None:
    """A machine that does not get its turn kills late, though within K."""
    for _ in range(ROUNDS):
        with struck(consul, SLOW, fate) as machine:
            end = machine.wait(BOOT_S + 120)
        assert end.status == 0, f"{end.said[-3000:]}\n{end.console}"
        assert "did not stop" not in end.console
        when = times(machine)
        lived_s = when["wrote"][-1] - when["struck"][0]
        assert SLOW.deadline_s - 2 * SLOW.renew_s < lived_s < SLOW.reset_s
        if lived_s < SLOW.deadline_s + NOISE_S:
            return
    pytest.fail(f"it is always late, now by {lived_s - SLOW.deadline_s:.2f} s")


def test_a_vm_outlives_its_fencer_and_its_guard(consul: Path) -> None:
    """Each is killed, and the next one goes on where it was."""
    with struck(consul, SLOWER, "killed") as machine:
        end = machine.wait(BOOT_S + 180)
    assert end.status == 0, f"{end.said[-3000:]}\n{end.console}"
    when = times(machine)
    assert max(when["wrote"]) > when["lives"][0]
    assert not [line for line in machine.console if RESET in line.text]


def changed(unit: str, changes: str) -> str:
    """Commands that change an installed unit; @ROOT@ and @PYTHON@ stand for these."""
    text = changes.replace("@ROOT@", str(ROOT)).replace("@PYTHON@", sys.executable)
    return f"printf %s {shlex.quote(text)} >/etc/systemd/system/{unit}.service.d/changes.conf\n"
