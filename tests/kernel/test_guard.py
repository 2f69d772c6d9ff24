"""The guard itself, its unit, Consul and the watchdog, together on a real kernel: is the node reset in time?"""

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

from .test_service import installed
from .test_watchdog import BOOT_S, NOISE_S, RESET

TIMINGS = PROFILES["default"]
SLOW = Timings(renew_s=1.0, deadline_s=8.0, kill_s=16.0, lease_s=25.0)
"""A Python that takes a second to begin on a node takes ten here."""
CHANGES = """
[Unit]
DefaultDependencies=no
Wants=
After=
[Service]
Environment=PYTHONPATH=@ROOT@/salt/_utils
ExecStartPre=
ExecStart=
StandardError=append:/run/guard.log
ExecStart=/bin/bash -c 'export MNHA_GUARD_HANDOVER=$(cat /run/handover || echo {}); rm -f /run/handover; \\
  exec @PYTHON@ -m mnha.daemon --config /etc/mnha/guard.json'
ExecReload=
ExecStopPost=
"""
"""Without what a cluster's node has besides. The first process is told that its VM runs, as by one that it replaces."""

FENCE = "ExecStopPost=@PYTHON@ -m mnha.daemon --config /etc/mnha/guard.json --fence\n"
BLIND = "WatchdogSec=0\n"


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return consul_server.binary(tmp_path_factory.mktemp("consul"))


def struck(consul: Path, timings: Timings, fate: str, changes: str) -> Machine:
    """A machine whose guard holds its VM until `fate` strikes."""
    words = [sys.executable, "-m", "tests.kernel.whole_guard", str(consul), json.dumps(timings.to_dict()), fate]
    program = shlex.join(words)
    return Machine(
        f"{installed(CHANGES + changes)}"
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


@pytest.mark.parametrize(("fate", "changes"), [("stopped", BLIND), ("unkillable", "")])
def test_a_node_whose_vm_outlives_its_lease_is_reset_before_anybody_may_take_it(
    consul: Path, fate: str, changes: str
) -> None:
    """*stopped*: neither the guard nor systemd stops the VM. *unkillable*: no renewal, and no death by SIGKILL.

    The last renewal was asked for in the second before, so D + K after the strike is the latest that is allowed.
    """
    with struck(consul, TIMINGS, fate, changes) as machine:
        end = machine.wait(BOOT_S + 120)
    when = times(machine)
    resets = [line.at_s for line in machine.console if RESET in line.text]
    assert len(resets) == 1, f"{end.said[-3000:]}\n{end.console}"
    after_s = resets[0] - when["struck"][0]
    print(
        f"{fate}: reset {after_s:.2f} s after; the VM wrote until {when['wrote'][-1] - when['struck'][0]:.2f} s after"
    )
    assert TIMINGS.reset_s - TIMINGS.renew_s - 1.2 < after_s < TIMINGS.reset_s + NOISE_S


def test_a_killed_guards_vm_dies_with_it_and_the_next_guard_stops_the_watchdog(consul: Path) -> None:
    with struck(consul, SLOW, "killed", FENCE) as machine:
        end = machine.wait(BOOT_S + 120)
    assert end.status == 0, f"{end.said[-3000:]}\n{end.console}"
    when = times(machine)
    assert when["struck"][0] < when["wrote"][-1] < when["dead"][0] < when["struck"][0] + SLOW.reset_s
    assert "did not stop" not in end.console
