"""State `guard.watchdog` on a real kernel: it loads the driver such that the guard can use the device."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import yaml

from lab.uml import Machine
from tests.support.example import ROOT, example_with

from .test_watchdog import BOOT_S

SALT = Path(sys.executable).with_name("salt-call")
USE = """
from pathlib import Path
from mnha.host.clock import boottime_s
from mnha.fencer.watchdog import LinuxWatchdog
watchdog = LinuxWatchdog("required", "/dev/watchdog1", Path("/run/counts"))
assert watchdog.arm(boottime_s() + 2.5), watchdog.why
watchdog.disarm()
assert not watchdog.armed and not Path("/run/counts").exists(), watchdog.why
"""


def test_the_driver_is_loaded_now_and_at_each_boot_and_can_be_stopped() -> None:
    """softdog of this kernel has nowayout=1 by default."""
    options = {
        "file_client": "local",
        "id": "node1",
        "root_dir": "/run/salt",
        "file_roots": {"base": [str(ROOT / "salt")]},
    }
    pillar = example_with({"watchdog_driver": "softdog"})
    call = f"{SALT} --config-dir=/run/salt --local --retcode-passthrough --state-output=terse --no-color"
    script = f"""
mkdir /run/salt && cd {shlex.quote(str(ROOT))} || exit 2
printf %s {shlex.quote(yaml.safe_dump(options))} >/run/salt/minion
{call} saltutil.sync_all >/dev/null || exit 3
{call} state.apply states.guard.watchdog pillar={shlex.quote(repr(pillar))} || exit 4
{call} state.apply states.guard.watchdog pillar={shlex.quote(repr(pillar))} || exit 5
cat /etc/modprobe.d/mnha-watchdog.conf /etc/modules-load.d/salt_managed.conf /etc/modules
PYTHONPATH=salt/_utils {sys.executable} -c {shlex.quote(USE)} || exit 6
sleep 4
"""
    with Machine(script) as machine:
        end = machine.wait(BOOT_S + 60)
    assert end.status == 0, f"{end.said}\n{end.console}"
    assert "options softdog nowayout=0" in end.said
    assert "\nsoftdog\n" in end.said
    assert (end.said.count("Result: Changed"), end.said.count("Result: Clean")) == (2, 2), end.said
