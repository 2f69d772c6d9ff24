"""The Linux watchdog device: resets a node that could not stop its VM, at ``until_s`` at the latest.

What a device does is not quite what is asked for here; the difference must always be to the safe side:

- It counts *whole seconds*, from the moment at which it is told. So it is told at once how many fit, and again at the
  moment from which just as many are left. A fencer that is well gets all of the time for its kill; if it is not, the
  node is reset up to a second early. Nobody is late.
- The fencer may stand still between its look at the clock and the device being told. So it looks again afterwards, and
  shortens what has become too long.
- When the last copy of an open device that counts is closed, *the kernel pets it* (``watchdog_release()`` in
  ``drivers/watchdog/watchdog_dev.c``). A fencer that is killed would put the reset off by all that was set. So a
  copy is given to systemd, which keeps it, hands it to the next fencer, and closes it only when there is to be none.
- For the same reason it is stopped by an ioctl: the magic ``V`` counts only when the *last* copy is closed. It is
  written nevertheless, for the day on which the ioctl fails, and taken back by each pet, which is a write for that.

Tried against a real kernel in ``tests/kernel``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ..errors import ConfigurationError, FailedError
from ..host.clock import boottime_s

log = logging.getLogger(__name__)

Mode = Literal["required", "automatic", "off"]
MODES = ("required", "automatic", "off")

MARK = "watchdog.counts"
"""The name of the mark, in the fencer's folder below /run."""

EARLY_S = 0.1
"""So much before the exact moment the device is told again, and the node is reset. A thread that is woken late by more
than this leaves it at what was set first."""

# linux/watchdog.h
_GETSUPPORT = 0x80285700
_SETOPTIONS, _DISABLECARD, _ENABLECARD = 0x80045704, 1, 2
_SETTIMEOUT = 0xC0045706
_SUPPORT_BYTES = 40
_CAN_SETTIMEOUT = 0x0080
_MAGIC_CLOSE, _PET = b"V", b"\0"

NO_WAY_OUT = "it can't be stopped once it counts (nowayout=1): load its driver with nowayout=0"

CLASS = Path("/sys/class/watchdog")
BY_NUMBER = Path("/sys/dev/char")
MISC_MAJOR = 10


def check_mode(mode: str) -> str:
    """Return `mode`.

    :raises ConfigurationError: it is no mode; a misspelt word must not switch the watchdog off.
    """
    if mode not in MODES:
        raise ConfigurationError(f"watchdog is {mode!r}: write one of {', '.join(MODES)}")
    return mode


def objection(device: Path, attributes: Path | None = None) -> str:
    """Why `device` can't be used, as far as can be told without opening it, which would start it; empty if nothing.

    :param attributes: the device's folder in sysfs; left out: it is looked for. Some kernels have none
        (``CONFIG_WATCHDOG_SYSFS``), nor have drivers outside of the kernel's watchdog core (IPMI's).
    """
    try:
        number = device.stat().st_rdev
    except OSError as error:
        return f"{device}: {error.strerror}: load its driver (softdog if there is no hardware)"
    # /dev/watchdog is the old name (misc device 130) of the first one.
    folder = CLASS / "watchdog0" if os.major(number) == MISC_MAJOR else BY_NUMBER / _name(number)
    folder = attributes or folder
    if _attribute(folder, "nowayout") == "1":
        return f"{device}: {NO_WAY_OUT}"
    if _attribute(folder, "state") == "active":
        return f"{device} counts for somebody else: systemd's RuntimeWatchdogSec=, or another daemon's; stop that"
    return ""


def _name(number: int) -> str:
    """`number` of a device, as in /sys/dev/char."""
    return f"{os.major(number)}:{os.minor(number)}"


def _attribute(folder: Path, name: str) -> str:
    """A device's attribute; empty when there is none."""
    with contextlib.suppress(OSError):
        return (folder / name).read_text(encoding="ascii").strip()
    return ""


def _said_by(error: OSError | FailedError) -> str:
    """What is wrong, for people."""
    if isinstance(error, FailedError):
        return error.message
    if error.errno == errno.EBUSY:
        return "somebody else has it: systemd's RuntimeWatchdogSec=, or another daemon"
    if error.errno == errno.ENOTTY:
        return "it is no watchdog that can be stopped: use another device"
    return error.strerror or str(error)


class LinuxWatchdog:
    """The watchdog device of a node, counting only while a VM may be alive.

    :param mode: ``required`` (no VM without it), ``automatic`` (used if there is one), ``off``.
    :param mark: file that says that the device counts. It outlives the fencer, as the counting does: the next
        fencer must know to stop it when no VM is there to be protected. Not open, not stop just in case: opening
        starts it.
    :param kept_fd: the open device, from the fencer before this one.
    :param keep: called with the open device, to have a copy kept for the next fencer; with None, to have it closed.
    :raises ConfigurationError: an unknown mode.
    """

    def __init__(
        self,
        mode: str,
        device: str,
        mark: Path,
        *,
        kept_fd: int | None = None,
        keep: Callable[[int | None], None] = lambda fd: None,
    ) -> None:
        self.mode, self.device, self._mark, self._keep = check_mode(mode), device, mark, keep
        self.fd = kept_fd
        self._counts: bool | None = None if mark.exists() else False  # None: an earlier fencer's does
        self._untils: dict[str, float] = {}
        self._again_s: float | None = None
        self.why = "off by configuration" if mode == "off" else "no VM here"
        self.failing = False

    @property
    def armed(self) -> bool:
        """Whether the device is counting for a VM."""
        return bool(self._untils) and self._counts is True

    def protects(self, vm: str) -> bool:
        """Whether the device counts for `vm`, and took what it was last told."""
        return vm in self._untils and self._counts is True and not self.failing

    def objection(self) -> str:
        """Why no VM is to be started here: the watchdog is required and would not work. Empty otherwise."""
        if self.mode != "required":
            return ""
        if self.fd is not None and self.failing:
            if self._untils:
                return self.why  # under a running VM only the next renewal can tell
            self._forget_dead()
        return objection(Path(self.device)) if self.fd is None and self._counts is False else ""

    def _forget_dead(self) -> None:
        """Close a device that is gone for good, to open that which comes after it."""
        assert self.fd is not None
        try:
            fcntl.ioctl(self.fd, _GETSUPPORT, bytes(_SUPPORT_BYTES))
        except OSError:
            os.close(self.fd)
            self.fd = None
            self._keep(None)

    def arm(self, until_s: float, vm: str = "") -> bool:
        """See :class:`mnha.fencer.rules.Watchdog`; of several VMs the earliest moment counts."""
        if self.mode == "off":
            self.disarm(vm, self.why)  # a fencer before this one, with another configuration, may have armed it
            return True
        is_new = vm not in self._untils
        self._untils[vm] = until_s
        try:
            self._set(min(self._untils.values()))
        except (OSError, FailedError) as error:
            self._fail(_said_by(error))
            if is_new and self._counts is True:
                self.disarm(vm, self.why)
            elif is_new:
                del self._untils[vm]  # what an earlier fencer has set is left to count
            return self.mode != "required"
        self.why, self.failing = "", False
        return True

    def _fail(self, why: str) -> None:
        """Note why it does not protect; log it once."""
        if self.why != why:
            log.warning("watchdog %s: %s", self.device, why)
        self.why, self.failing = why, True

    def disarm(self, vm: str = "", because: str = "no VM here") -> None:
        """See :class:`mnha.fencer.rules.Watchdog`."""
        self._untils.pop(vm, None)
        if self._untils or self._counts is False:
            return
        self._again_s = None
        try:
            if self.fd is None:
                self._open()  # a fencer before this one had it; opening stops it
            else:
                self._stop(self.fd)
        except (OSError, FailedError) as error:
            self._fail(f"it counts and can't be stopped, it will reset this node: {_said_by(error)}")
            return
        self.why = because

    def _stop(self, fd: int) -> None:
        """Stop the device.

        :raises FailedError: it can't be stopped once it counts.
        :raises OSError: it does not work.
        """
        os.write(fd, _MAGIC_CLOSE)
        try:
            fcntl.ioctl(fd, _SETOPTIONS, struct.pack("i", _DISABLECARD))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise FailedError(NO_WAY_OUT) from error
        self._counts = False
        self._mark.unlink(missing_ok=True)

    def _open(self) -> int:
        """Open the device, and stop it: opening starts it. Have a copy kept.

        :raises FailedError: it can't be stopped again, or can't be told how long to count.
        :raises OSError: there is none, somebody else has it, or it is no watchdog.
        """
        if why := objection(Path(self.device)) if self._counts is False else "":
            raise FailedError(why)
        self._touch()
        try:
            fd = os.open(self.device, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            if self._counts is False:
                self._mark.unlink(missing_ok=True)
            raise
        try:
            self._stop(fd)
            (abilities,) = struct.unpack_from("I", fcntl.ioctl(fd, _GETSUPPORT, bytes(_SUPPORT_BYTES)))
            if not abilities & _CAN_SETTIMEOUT:
                raise FailedError("it can't be told how long to count: use another device")
        except (OSError, FailedError):
            os.close(fd)
            if self._counts is False:
                self._mark.unlink(missing_ok=True)
            raise
        self.fd = fd
        self._keep(fd)
        return fd

    def _touch(self) -> None:
        """Leave the mark."""
        self._mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mark.touch()

    def _set(self, until_s: float) -> None:
        """Have the device reset the node at `until_s` at the latest, and less than a second before.

        :raises FailedError: there is no time left, or it counts too coarsely.
        :raises OSError: the device does not work.
        """
        seconds = math.floor(until_s - boottime_s())
        if seconds < 1:
            if self._counts is False:
                raise FailedError("there is no time left to arm it")
            return  # what is set already is shorter than what could be asked for
        fd = self._open() if self.fd is None else self.fd
        set_s = self._count(fd, seconds, until_s)
        again_s = until_s - set_s - EARLY_S
        self._again_s = again_s if again_s > boottime_s() else None

    def _count(self, fd: int, seconds: int, until_s: float) -> int:
        """Have the device count `seconds` from now, or as many fewer as it takes; return how many.

        :raises FailedError: it can't count so few, or resets the node too late whatever it is told.
        :raises OSError: it does not work.
        """
        late_s = 0.0
        while seconds >= 1:
            try:
                told = fcntl.ioctl(fd, _SETTIMEOUT, struct.pack("i", seconds))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                if self._counts is not False and not late_s:
                    return seconds  # it goes on with what is set already, which is shorter
                raise FailedError(f"it can't count {seconds} s: use another device, or longer timings") from error
            if self._counts is not True:
                self._touch()
                fcntl.ioctl(fd, _SETOPTIONS, struct.pack("i", _ENABLECARD))
                self._counts = True
            os.write(fd, _PET)
            (set_s,) = struct.unpack("i", told)
            late_s = boottime_s() + set_s - until_s
            if late_s <= 0:
                return int(set_s)
            seconds -= math.ceil(late_s)
        raise FailedError(f"it would reset this node {late_s:.2f} s too late, whatever it is told")

    def sharpen(self) -> float:
        """Tell the device again if exactly as many seconds are left as it counts; return when that is to be done next,
        CLOCK_BOOTTIME, or infinity.
        """
        if self._again_s is not None and (left_s := self._again_s - boottime_s()) <= 0:
            self._again_s = None
            if self._untils and left_s > -EARLY_S:
                with contextlib.suppress(OSError, FailedError):
                    self._set(min(self._untils.values()))
        return float("inf") if self._again_s is None else self._again_s
