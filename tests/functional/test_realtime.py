"""The script that starts Consul, guard and fencer: with real-time priority where that is allowed, and in any case.

Takes root."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.example import ROOT

REALTIME = str(ROOT / "salt/states/host/files/realtime")
USER = "daemon"
TELL = ("sh", "-c", 'chrt --pid $$; id -un; id -gn; grep CapEff: /proc/self/status; echo "$0" "$@"', "one", "two words")
WITHOUT = ("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")


@pytest.mark.parametrize(("before", "policy"), [((), "RR"), (WITHOUT, "OTHER")], ids=["allowed", "refused"])
def test_a_program_runs_with_the_priority_that_it_may_have(before: tuple[str, ...], policy: str) -> None:
    words = [*before, "sh", REALTIME, "10", USER, *TELL]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].endswith(f"scheduling policy: SCHED_{policy}")
    assert lines[1].endswith(f"scheduling priority: {10 if policy == 'RR' else 0}")
    assert lines[2:4] == [USER, USER]
    assert int(lines[4].split()[1], 16) == 0, "it keeps no capability"
    assert lines[5:] == ["one two words"]
