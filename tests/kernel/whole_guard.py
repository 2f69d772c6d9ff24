"""Runs in a machine with systemd and softdog, by `test_guard.py`: a Consul server, a VM's process, guard and fencer.

    whole_guard.py CONSUL TIMINGS FATE

The VM is a process with a QEMU's command line, in its slice, that prints what its clock shows every few milliseconds.
It runs already when the fencer is started, which finds what a fencer before it has written down, and arms the watchdog.
The guard learns that from it, and renews the lease. Then FATE strikes, one of :data:`FATES`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnha import config
from mnha.config.guard import fencer_config, guard_config
from mnha.core import lease
from mnha.core.timing import Timings
from mnha.daemon import client as guard_client
from mnha.daemon.adapters import fencer
from mnha.fencer.slices import KernelSlices
from mnha.host.clock import boottime_s
from tests.support.consul_server import ConsulServer, running
from tests.support.example import example_with

NODE, VM = "node1", "mnvm"
FENCER_SOCKET = "/run/mnha-fencer/fencer.sock"
SERIAL = os.open("/dev/ttyS0", os.O_WRONLY | os.O_NOCTTY)
WRITER = f"""
import os, time
while True:
    os.write({SERIAL}, b"wrote %.6f\\n" % time.clock_gettime(time.CLOCK_BOOTTIME))
    time.sleep(0.01)
"""


def say(word: str, value: float) -> None:
    """A line for whoever watches from outside."""
    os.write(SERIAL, f"{word} {value:.6f}\n".encode())


def prepare(consul: ConsulServer, timings: Timings) -> dict[str, Any]:
    """The guard's configuration and its lease, held by this node."""
    changes = {"watchdog": "required", "watchdog_device": "/dev/watchdog1", "timings": timings.to_dict()}
    cluster = config.load(example_with(changes))
    settings = guard_config(cluster, NODE)
    settings["consul"] = {
        "servers": [{"host": "127.0.0.1", "port": consul.port}],
        "ca": str(consul.ca_file),
        "token_file": str(consul.token_file),
    }
    Path("/etc/mnha").mkdir(exist_ok=True)
    Path("/etc/mnha/guard.json").write_text(json.dumps(settings))
    Path("/etc/mnha/fencer.json").write_text(json.dumps(fencer_config(cluster)))
    record = lease.taken(lease.first(timings), NODE, timings, "by a guard before")
    prefix = f"mnha/{settings['cluster']}/vms/{VM}"
    client = consul.client("")
    assert client.cas(f"{prefix}/lease", json.loads(record.to_json()), 0)
    assert client.cas(f"{prefix}/desired", {"run": "started"}, 0)
    return settings


def systemctl(*words: str) -> None:
    try:
        subprocess.run(["systemctl", *words], check=True, timeout=60)
    except subprocess.SubprocessError as error:
        raise AssertionError(Path("/run/guard.log").read_text()) from error


def status() -> dict[str, Any]:
    """The guard's status; empty while it does not answer."""
    try:
        return guard_client.request("status", timeout_s=2.0)
    except Exception:
        return {}


def wait_until_armed() -> None:
    """Until the guard holds its VM with the watchdog armed."""
    end_s = boottime_s() + 90
    while boottime_s() < end_s:
        now = status()
        if now and now["watchdog"]["armed"] and now["vms"][VM]["state"] == "running":
            return
        time.sleep(0.1)
    raise AssertionError(f"the guard does not hold its VM: {now}\n{Path('/run/guard.log').read_text()}")


def both_stopped(consul: ConsulServer, vm: subprocess.Popen[bytes]) -> None:
    """Guard and fencer stand still."""
    systemctl("kill", "--signal=STOP", "--kill-whom=main", "mnha-fencer", "mnha-guard")


def guard_stopped(consul: ConsulServer, vm: subprocess.Popen[bytes]) -> None:
    """The guard stands still: the fencer does it."""
    systemctl("kill", "--signal=STOP", "--kill-whom=main", "mnha-guard")
    await_the_end(vm)


def guard_gone(consul: ConsulServer, vm: subprocess.Popen[bytes]) -> None:
    """The guard is killed, and no other one can be started."""
    Path("/etc/mnha/guard.json").unlink()
    systemctl("kill", "--signal=KILL", "--kill-whom=main", "mnha-guard")
    await_the_end(vm)


def await_the_end(vm: subprocess.Popen[bytes]) -> None:
    """The VM is killed, and the watchdog stopped."""
    vm.wait(30)
    say("dead", boottime_s())
    time.sleep(30)
    told = fencer.ask(Path(FENCER_SOCKET), "status", timeout_s=5.0)
    assert not told["watchdog"]["armed"], told
    say("lives", boottime_s())


def killed(consul: ConsulServer, vm: subprocess.Popen[bytes]) -> None:
    """Fencer and guard are killed, one after the other; the next ones keep the VM."""
    for unit in ("mnha-fencer", "mnha-guard"):
        before = since(unit)
        systemctl("kill", "--signal=KILL", "--kill-whom=main", unit)
        end_s = boottime_s() + 60
        while since(unit) in (0.0, before):
            assert boottime_s() < end_s, f"no other {unit}"
            time.sleep(0.1)
        wait_until_armed()
        time.sleep(18)  # longer than what was granted
        assert vm.poll() is None, f"the VM has died with {unit}"
    say("lives", boottime_s())
    time.sleep(1)


def since(unit: str) -> float:
    """Since when a process is there; 0 where nobody tells."""
    now = status()
    if not now:
        return 0.0
    return float(
        now["guard"]["since_s"] if unit == "mnha-guard" else (now["fencer"]["about"] or {}).get("since_s", 0.0)
    )


def unkillable(consul: ConsulServer, vm: subprocess.Popen[bytes]) -> None:
    """No renewal is granted any more, and the VM can't be killed: a frozen process does not die (version 1 freezer)."""
    cgroup = Path("/run/freezer/vm")
    cgroup.parent.mkdir()
    subprocess.run(["mount", "-t", "cgroup", "-o", "freezer", "freezer", cgroup.parent], check=True)
    cgroup.mkdir()
    (cgroup / "cgroup.procs").write_text(str(vm.pid))
    (cgroup / "freezer.state").write_text("FROZEN")
    consul.stop()


FATES: dict[str, Callable[[ConsulServer, subprocess.Popen[bytes]], None]] = {
    one.__name__: one for one in (both_stopped, guard_stopped, guard_gone, killed, unkillable)
}


def main(binary: str, timings: str, fate: str) -> None:
    """Have it all, and strike."""
    folder = Path("/run/consul")
    folder.mkdir()
    with running(Path(binary), folder) as consul:
        settings = prepare(consul, Timings.from_dict(json.loads(timings)))
        uuid = settings["vms"][0]["uuid"]
        words = ["qemu-system-x86_64", "-c", WRITER, "-uuid", uuid]
        vm = subprocess.Popen(words, executable=sys.executable, pass_fds=[SERIAL])
        slices = KernelSlices(Path(settings["fencer"]["slices"]))
        slices.open(VM)
        (slices.path(VM) / "cgroup.procs").write_text(str(vm.pid))
        memory = Path(FENCER_SOCKET).with_name("grants.json")
        memory.parent.mkdir(mode=0o700)
        grant = {"kind": "run", "until_s": boottime_s() + 50.0, "kill_s": settings["timings"]["kill_s"]}
        memory.write_text(json.dumps({"v": 1, "grants": {VM: grant}}))
        systemctl("start", "mnha-fencer")
        systemctl("start", "mnha-guard")
        wait_until_armed()
        say("struck", boottime_s())
        FATES[fate](consul, vm)
        if fate in ("both_stopped", "unkillable"):
            time.sleep(60)
            raise AssertionError("the machine was not reset")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    main(*sys.argv[1:])
