"""Runs as a service in a machine with systemd and softdog, by `test_service.py`: a fencer under the product's own unit.

    service.py FATE

The first one arms the watchdog and prints until when. What one does that got the device from systemd's store, FATE
says: `hangs` does nothing, `finds_no_vm` stops it, as a fencer does that finds no VM alive.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mnha.fencer.watchdog import MARK, LinuxWatchdog
from mnha.host import systemd
from mnha.host.clock import boottime_s

LEFT_S = 5.6


def main(fate: str) -> None:
    """Be that fencer."""
    serial = os.open("/dev/ttyS0", os.O_WRONLY | os.O_NOCTTY)

    def say(text: str) -> None:
        os.write(serial, f"{text} clock {boottime_s():.6f}\n".encode())

    fd = systemd.kept("watchdog")
    watchdog = LinuxWatchdog(
        "required",
        "/dev/watchdog1",
        Path("/run/mnha-fencer", MARK),
        kept_fd=fd,
        keep=lambda fd: systemd.keep("watchdog", fd),
    )
    systemd.notify("READY=1")
    if fd is None:
        until_s = boottime_s() + LEFT_S
        assert watchdog.arm(until_s), watchdog.why
        say(f"armed until {until_s:.6f}")
    else:
        say("got the device")
        if fate == "finds_no_vm":
            watchdog.disarm()
            say("stopped it")
    while True:
        systemd.notify("WATCHDOG=1")
        time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1])
