"""The lab's watchdog device under the guard's own adapter: the same calls as on a real device, through the kernel."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import watchdog
from lab.shell import mounts_below, wait_until
from mnha.fencer.watchdog import LinuxWatchdog
from mnha.host.clock import boottime_s

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import os, sys, mfusepy
from pathlib import Path
from lab import watchdog
folder = Path(sys.argv[1])
def note(text):
    with (folder / "log").open("a") as log:
        log.write(f"{watchdog.now_s():.6f} {text}\\n")
device = watchdog.Device(lambda: 1, lambda: note("dead"), lambda event, state: note(event), (folder / "broken").exists)
mfusepy.FUSE(device, str(folder / "device"), foreground=True, direct_io=True)
"""


class Bench:
    """A device on this machine, and what it did."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.device, self.mark = folder, folder / "device", folder / "counts"

    def done(self) -> list[str]:
        """What it did, in words."""
        return [line.partition(" ")[2] for line in (self.folder / "log").read_text().splitlines()]

    def dead_s(self) -> float | None:
        """When it reset its node, CLOCK_BOOTTIME; None if it did not."""
        lines = (self.folder / "log").read_text().splitlines()
        return next((float(line.split()[0]) for line in lines if line.endswith(" dead")), None)

    def adapter(self, mode: str = "required") -> LinuxWatchdog:
        """A guard's adapter."""
        return LinuxWatchdog(mode, str(self.device), self.mark)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A served device."""
    (tmp_path / "device").touch()
    (tmp_path / "log").touch()
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(tmp_path)], cwd=ROOT)
    try:
        wait_until(lambda: bool(mounts_below(tmp_path / "device")), 20, "the device is there")
        yield Bench(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path / "device")], check=False)
        server.kill()
        server.wait(10)


def test_a_device_that_is_petted_does_nothing_and_once_disarmed_never(bench: Bench) -> None:
    adapter = bench.adapter()
    for _ in range(6):
        assert adapter.arm(boottime_s() + 1.6)
        time.sleep(0.4)
    assert adapter.armed
    adapter.disarm()
    time.sleep(2.0)
    assert bench.dead_s() is None
    assert not bench.mark.exists()


def test_a_device_that_is_no_longer_petted_resets_not_after_the_moment_it_was_given(bench: Bench) -> None:
    until_s = boottime_s() + 2.9
    assert bench.adapter().arm(until_s)
    wait_until(lambda: bench.dead_s() is not None, 5, "reset")
    dead_s = bench.dead_s()
    assert dead_s is not None
    assert until_s - 1.1 < dead_s <= until_s


def test_a_guard_that_is_killed_leaves_it_counting_and_the_next_one_stops_it(bench: Bench) -> None:
    code = (
        "import sys, time; sys.path.insert(0, 'salt/_utils')\n"
        "from pathlib import Path; from mnha.fencer.watchdog import LinuxWatchdog\n"
        "from mnha.host.clock import boottime_s\n"
        f"w = LinuxWatchdog('required', {str(bench.device)!r}, Path({str(bench.mark)!r}))\n"
        "assert w.arm(boottime_s() + 3.9); print('armed', flush=True); time.sleep(60)\n"
    )
    guard = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert guard.stdout is not None
    assert guard.stdout.readline() == "armed\n"
    guard.send_signal(signal.SIGKILL)
    guard.wait(10)
    guard.stdout.close()
    wait_until(lambda: bench.done()[-1] == "closed while it counts", 5, "the device is closed, and counts on")
    assert bench.mark.exists()
    bench.adapter().disarm()
    time.sleep(4.0)
    assert bench.dead_s() is None


def test_a_broken_device_can_not_be_armed_any_more_but_counts_on_until_it_is_stopped(bench: Bench) -> None:
    adapter = bench.adapter()
    assert adapter.arm(boottime_s() + 3.5)
    (bench.folder / "broken").touch()
    assert not adapter.arm(boottime_s() + 3.5)
    assert (adapter.armed, adapter.failing, adapter.why) == (True, True, "Input/output error")
    assert adapter.objection() == "Input/output error"
    adapter.disarm()
    assert adapter.objection() == "", "it may be tried again"
    time.sleep(3.5)
    assert bench.dead_s() is None


def test_a_close_while_it_counts_puts_it_off_as_the_kernels_does(bench: Bench) -> None:
    until_s = boottime_s() + 2.5
    adapter = bench.adapter()
    assert adapter.arm(until_s)
    time.sleep(1.2)
    assert adapter.fd is not None
    os.close(adapter.fd)
    wait_until(lambda: bench.dead_s() is not None, 5, "reset")
    dead_s = bench.dead_s()
    assert dead_s is not None
    assert dead_s > until_s + 0.5


def test_it_is_open_once_and_tells_what_the_kernel_tells(bench: Bench) -> None:
    first = os.open(bench.device, os.O_WRONLY)
    with pytest.raises(OSError, match="busy"):
        os.open(bench.device, os.O_WRONLY)
    fcntl.ioctl(first, watchdog.SETTIMEOUT, struct.pack("i", 7))
    assert struct.unpack("i", fcntl.ioctl(first, watchdog.GETTIMEOUT, struct.pack("i", 0))) == (7,)
    (left_s,) = struct.unpack("i", fcntl.ioctl(first, watchdog.GETTIMELEFT, struct.pack("i", 0)))
    assert left_s in (6, 7)
    with pytest.raises(OSError, match="Invalid argument"):
        fcntl.ioctl(first, watchdog.SETTIMEOUT, struct.pack("i", 0))
    options, _, name = struct.unpack("II32s", fcntl.ioctl(first, watchdog.GETSUPPORT, bytes(40)))
    assert options == watchdog.SUPPORTED
    assert name.startswith(b"mnha lab")
    os.write(first, b"V")
    os.close(first)
