"""A node's watchdog device, served from outside of it: like a board's, it goes on counting when the node stands still.

A file that speaks the kernel's watchdog interface (FUSE), bound into the node as `/dev/watchdog`. Opening it starts it;
it counts down from its timeout; a keep-alive or a write begins anew; only a close after the letter V stops it. At zero
the node loses its power and gets it back: every process of it, QEMU included, is dead at once.

It is served by a process of the lab's own, outside of all nodes: `python3 -m lab.device NODE`, started with the
cluster. What it did stands, a line of JSON each, in the node's `watchdog.log` (:func:`history`).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lab import cgroups
from lab.settings import LabError, Settings
from lab.shell import mounts_below, wait_until

DEVICE = "/dev/watchdog"
DEFAULT_TIMEOUT_S = 60
LONGEST_S = 65535
SELF_TEST_S = 20.0
"""From a reset to the node's boot. Real machines test themselves for a minute or more: none is back before its lease
has expired, while a node of the lab boots in two seconds."""
MAGIC = b"V"

# linux/watchdog.h
GETSUPPORT = 0x80285700
GETSTATUS = 0x80045701
GETBOOTSTATUS = 0x80045702
SETOPTIONS = 0x80045704
KEEPALIVE = 0x80045705
SETTIMEOUT = 0xC0045706
GETTIMEOUT = 0x80045707
GETTIMELEFT = 0x8004570A
SUPPORTED = 0x0080 | 0x0100 | 0x8000  # settimeout, magic close, keep-alive


@dataclass(frozen=True)
class Countdown:
    """The device's state; every change is a new one. Times are CLOCK_BOOTTIME seconds.

    :param zero_s: when it resets the node; None while it does not count.
    :param magic: whether the letter V came last, so that a close stops it.
    """

    timeout_s: int = DEFAULT_TIMEOUT_S
    zero_s: float | None = None
    is_open: bool = False
    magic: bool = False

    def opened(self, now_s: float) -> Countdown:
        """Opening starts it.

        :raises OSError: somebody has it open (EBUSY).
        """
        if self.is_open:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return replace(self, is_open=True, magic=False, zero_s=now_s + self.timeout_s)

    def petted(self, now_s: float) -> Countdown:
        """Begin anew, unless it was stopped."""
        return self if self.zero_s is None else replace(self, zero_s=now_s + self.timeout_s)

    def set_to(self, timeout_s: int, now_s: float) -> Countdown:
        """Another timeout, from now.

        :raises OSError: it can't count that (EINVAL).
        """
        if not 1 <= timeout_s <= LONGEST_S:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return replace(self, timeout_s=timeout_s).petted(now_s)

    def written(self, data: bytes, now_s: float) -> Countdown:
        """A write is a keep-alive; the last one before the close decides whether it stops."""
        return replace(self.petted(now_s), magic=MAGIC in data)

    def closed(self, now_s: float) -> Countdown:
        """A close stops it only after the letter; else it is a keep-alive, as the kernel's is."""
        after = replace(self, zero_s=None) if self.magic else self.petted(now_s)
        return replace(after, is_open=False, magic=False)

    def stopped(self) -> Countdown:
        """Stopped by its switch, or because the node has lost its power."""
        return replace(self, magic=False, zero_s=None)


class Device:
    """The file's operations, as :mod:`mfusepy` calls them, and the thread that resets.

    :param boot: tells which boot of the node this is; a countdown of an earlier one has ended with its power.
    :param reset: resets the node.
    :param note: takes what is worth a line in the log.
    :param refuses: whether it is broken: it goes on counting, but can't be told a timeout any more.
    """

    use_ns = True

    def __init__(
        self,
        boot: Callable[[], int],
        reset: Callable[[], None],
        note: Callable[[str, Countdown], None],
        refuses: Callable[[], bool] = lambda: False,
    ) -> None:
        self._boot, self._reset, self._note, self._refuses = boot, reset, note, refuses
        self._state = Countdown()
        self._opened_by = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    # the file

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        """It is a regular file to `stat`: FUSE makes no devices."""
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": 0}

    def open(self, path: str, flags: int) -> int:
        """See :meth:`Countdown.opened`; what an earlier boot has left open is closed."""
        boot = self._boot()
        with self._changed:
            if boot != self._opened_by:
                self._state = Countdown()
            self._opened_by = boot
            self._set("armed", self._state.opened(now_s()))
        return boot

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """Nothing to read."""
        return b""

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """A device has no length."""
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        """See :meth:`Countdown.written`."""
        with self._changed:
            if fh == self._opened_by:
                self._set("", self._state.written(data, now_s()))
        return len(data)

    def release(self, path: str, fh: int) -> int:
        """See :meth:`Countdown.closed`."""
        with self._changed:
            if fh == self._opened_by:
                after = self._state.closed(now_s())
                self._set("disarmed" if after.zero_s is None else "closed while it counts", after)
        return 0

    def ioctl(self, path: str, cmd: int, arg: int, fh: int, flags: int, data: int) -> int:
        """The kernel's requests; the kernel has copied their argument to `data`, and copies it back."""
        with self._changed:
            if fh != self._opened_by:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            cmd &= 0xFFFFFFFF
            if cmd == GETSUPPORT:
                text = SUPPORTED.to_bytes(4, "little") + bytes(4) + b"mnha lab watchdog"
                ctypes.memmove(data, text.ljust(40, b"\0"), 40)
                return 0
            value = ctypes.c_int.from_address(data)
            value.value = self._request(cmd, value.value)
        return 0

    def _request(self, cmd: int, value: int) -> int:
        """Carry out one request on an int; returns what the caller finds in it.

        :raises OSError: it knows no such request (ENOTTY), or is broken (EIO).
        """
        state, at_s = self._state, now_s()
        if cmd == SETTIMEOUT and self._refuses():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if cmd == KEEPALIVE:
            self._set("", state.petted(at_s))
        elif cmd == SETTIMEOUT:
            self._set("" if value == state.timeout_s else f"timeout {value} s", state.set_to(value, at_s))
        elif cmd == GETTIMEOUT:
            return state.timeout_s
        elif cmd == GETTIMELEFT:
            return 0 if state.zero_s is None else max(0, int(state.zero_s - at_s))
        elif cmd == SETOPTIONS and state.magic:
            # Which option, the kernel does not tell a FUSE file, for it takes this request for one that only reads.
            # The letter V tells; who does not write it before it stops the device can't be served.
            self._set("switched off", state.stopped())
        elif cmd == SETOPTIONS:
            self._set("switched on", replace(state, zero_s=at_s + state.timeout_s))
        elif cmd in (GETSTATUS, GETBOOTSTATUS):
            return 0
        else:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return value

    # the countdown

    def _set(self, event: str, state: Countdown) -> None:
        """Adopt a state; the lock is held."""
        self._state = state
        self._changed.notify_all()
        if event:
            self._note(event, state)

    def _watch(self) -> None:
        """Reset the node whenever the countdown is at zero."""
        while True:
            with self._changed:
                zero_s = self._state.zero_s
                if zero_s is None or zero_s > now_s():
                    self._changed.wait(None if zero_s is None else max(0.0, zero_s - now_s()))
                    continue
                expired, self._state = self._state, Countdown()
            with contextlib.suppress(LabError):
                if self._boot() != self._opened_by:
                    self._note("its node has lost its power since", expired)
                    continue
                self._note("reset", expired)
                self._reset()


def now_s() -> float:
    """CLOCK_BOOTTIME, this machine's and all nodes'."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def device_file(settings: Settings, name: str) -> Path:
    """Where this machine sees the device of node `name`."""
    return settings.node_dir(name) / "watchdog"


def log_file(settings: Settings, name: str) -> Path:
    """What the device of node `name` did."""
    return settings.node_dir(name) / "watchdog.log"


def binds(settings: Settings, name: str) -> list[str]:
    """nspawn's words that give node `name` its device; none where there is no device."""
    device = device_file(settings, name)
    return [f"--bind={device}:{DEVICE}"] if mounts_below(device) else []


def history(settings: Settings, name: str) -> list[dict]:
    """What the device of node `name` did so far: `at_s` on CLOCK_BOOTTIME, `event`, `timeout_s`."""
    path = log_file(settings, name)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def broken_mark(settings: Settings, name: str) -> Path:
    """While this file is there, the device of node `name` is broken: see :class:`Device`."""
    return settings.node_dir(name) / "watchdog.broken"


def start(settings: Settings, name: str) -> None:
    """Start the process that serves the device of node `name`; returns when the device is there.

    :raises LabError: it does not come; its log has the reason.
    """
    device = device_file(settings, name)
    device.parent.mkdir(parents=True, exist_ok=True)
    device.touch()
    cgroups.create(cgroups.DEVICES)
    errors = device.with_suffix(".errors")
    with errors.open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "lab.device", name], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, cwd=settings.repository,
            env={**os.environ, "MNHA_LAB_STATE": str(settings.state), "MNHA_LAB_CACHE": str(settings.cache)},
        )  # fmt: skip
    wait_until(lambda: bool(mounts_below(device)), 10, f"the watchdog of {name} does not come: see {errors}")
