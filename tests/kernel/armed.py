"""Runs in a machine with softdog as /dev/watchdog1, by `test_watchdog.py`: a fencer that comes to grief while armed.

    armed.py LEFT_S FATE

A writer, which stands for a QEMU that nobody stops, prints what its clock shows every few milliseconds until the
machine is reset. A fencer arms the watchdog for LEFT_S seconds, prints the moment at which the machine must have been
reset, and suffers FATE, one of :data:`FATES`.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mnha.fencer import watchdog as adapter
from mnha.fencer.watchdog import LinuxWatchdog
from mnha.host import systemd
from mnha.host.clock import boottime_s

EVERY_S = 0.005


def say(word: str, value: float) -> None:
    """A line for whoever watches from outside."""
    os.write(1, f"{word} {value:.6f}\n".encode())


def pets_no_more(watchdog: LinuxWatchdog, left_s: float) -> None:
    """Its loop is well, but no renewal comes."""
    while True:
        watchdog.sharpen()
        time.sleep(EVERY_S)


def stopped(watchdog: LinuxWatchdog, left_s: float) -> None:
    """It stands still at once."""
    os.kill(os.getpid(), signal.SIGSTOP)


def killed(watchdog: LinuxWatchdog, left_s: float) -> None:
    """Killed when half of the time is over: the kernel closes what it had open."""
    time.sleep(left_s / 2)
    os.kill(os.getpid(), signal.SIGKILL)


FATES: dict[str, Callable[[LinuxWatchdog, float], None]] = {
    "pets_no_more": pets_no_more,
    "stopped": stopped,
    "killed": killed,
    "killed_with_no_copy_kept": killed,
    "told_late": pets_no_more,
}


def fencer(left_s: float, fate: str) -> None:
    """Arm, and suffer."""
    watchdog = LinuxWatchdog(
        "required", "/dev/watchdog1", Path("/run/counts"), keep=lambda fd: systemd.keep("watchdog", fd)
    )
    until_s = boottime_s() + left_s
    if fate == "told_late":
        stand_still_after_the_first_look(1.3)
    assert watchdog.arm(until_s), watchdog.why
    say("until", until_s)
    FATES[fate](watchdog, left_s)


def stand_still_after_the_first_look(pause_s: float) -> None:
    """Let the adapter's next look at the clock be old when it returns."""

    def look() -> float:
        now_s = boottime_s()
        adapter.boottime_s = boottime_s
        time.sleep(pause_s)
        return now_s

    adapter.boottime_s = look


def main(left_s: float, fate: str) -> None:
    """Have a guard and a writer; the writer also is what systemd is to a fencer, whose copies it keeps."""
    service = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    service.bind("/run/notify")
    if fate != "killed_with_no_copy_kept":
        os.environ["NOTIFY_SOCKET"] = "/run/notify"
    if os.fork() == 0:
        service.close()
        fencer(left_s, fate)
    service.setblocking(False)
    kept = []
    while True:
        say("wrote", boottime_s())
        try:
            kept += socket.recv_fds(service, 1000, 1)[1]
        except BlockingIOError:
            time.sleep(EVERY_S)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2])
