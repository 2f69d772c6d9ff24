"""The Linux watchdog device: resets a node that could not stop its VM.

The device is given *how long from now*, in whole seconds, so that the reset comes at ``until_s`` at the latest;
it is never given more than that. A device that can't count short enough does not protect, and is said not to.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import struct
from pathlib import Path
from typing import Literal

from ..errors import ConfigurationError, FailedError
from .clock import boottime_s

log = logging.getLogger(__name__)

Mode = Literal["required", "automatic", "off"]
MODES = ("required", "automatic", "off")

# linux/watchdog.h
_WDIOC_SETTIMEOUT = 0xC0045706
_WDIOC_KEEPALIVE = 0x80045705
_MAGIC_CLOSE = b"V"

SYSFS = Path("/sys/class/watchdog")
MISC_MAJOR = 10


def check_mode(mode: str) -> str:
    """Return `mode`.

    :raises ConfigurationError: it is no mode; a misspelt word must not switch the watchdog off.
    """
    if mode not in MODES:
        raise ConfigurationError(f"watchdog is {mode!r}: write one of {', '.join(MODES)}")
    return mode


class LinuxWatchdog:
    """One watchdog device, opened only while a VM may be alive: a :class:`mnha.ports.Watchdog`.

    :param mode: ``required`` (no VM without it), ``automatic`` (used if there is one), ``off``.
    :param mark: file that says that the device counts. It outlives the guard, as the counting does: the next
        guard must know to stop it when no VM is there to be protected. Not open, not stop just in case: opening
        starts it.
    :raises ConfigurationError: any other word.
    """

    def __init__(self, mode: str, device: str, mark: Path) -> None:
        self.mode, self.device, self._mark = check_mode(mode), device, mark
        self._fd: int | None = None
        self.why = "off by configuration" if mode == "off" else "no VM here"

    @property
    def armed(self) -> bool:
        """Whether the device is counting."""
        return self._fd is not None

    def arm(self, until_s: float) -> bool:
        """See :class:`mnha.ports.Watchdog`."""
        if self.mode == "off":
            return True
        try:
            self._arm(until_s)
            self.why = ""
        except (OSError, FailedError) as error:
            if self.why != str(error):
                log.warning("watchdog %s: %s", self.device, error)
            self.why = str(error)
            return self.mode != "required"
        return True

    def _arm(self, until_s: float) -> None:
        """Open the device if need be and set it.

        :raises FailedError: it counts too coarsely.
        :raises OSError: there is none, or somebody else has it.
        """
        left_s = math.floor(until_s - boottime_s())
        if left_s < 1:
            if self._fd is None:
                raise FailedError("there is no time left to arm it")
            return  # too late to pet: what is set already is shorter than what could be asked for
        fd = self._open() if self._fd is None else self._fd
        (set_s,) = struct.unpack("i", fcntl.ioctl(fd, _WDIOC_SETTIMEOUT, struct.pack("i", left_s)))
        if set_s > left_s:
            self.disarm()
            raise FailedError(f"it can't count {left_s} s, only {set_s} s: use another device, or longer timings")
        fcntl.ioctl(fd, _WDIOC_KEEPALIVE, struct.pack("i", 0))

    def _open(self) -> int:
        """Open the device, which starts it, and leave the mark.

        :raises FailedError: it could not be stopped again (``nowayout``): the node would be reset after each
            VM.
        :raises OSError: there is none, or somebody else has it.
        """
        device = os.stat(self.device).st_rdev
        # /dev/watchdog is the old name (misc device 130) of the first one.
        name = "watchdog0" if os.major(device) == MISC_MAJOR else f"watchdog{os.minor(device)}"
        flag = SYSFS / name / "nowayout"
        if flag.is_file() and flag.read_text().strip() == "1":
            raise FailedError("it can't be stopped once it counts (nowayout=1): load its driver with nowayout=0")
        self._fd = os.open(self.device, os.O_WRONLY | os.O_CLOEXEC)
        self._mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mark.touch()
        return self._fd

    def disarm(self) -> None:
        """See :class:`mnha.ports.Watchdog`."""
        fd = self._fd
        if fd is None and not self._mark.exists():
            return
        try:
            fd = self._open() if fd is None else fd  # None: a guard before this one armed it
        except (OSError, FailedError) as error:
            log.error("watchdog %s counts since an earlier guard and can't be stopped: %s", self.device, error)
            return
        try:
            os.write(fd, _MAGIC_CLOSE)
        finally:
            os.close(fd)
            self._fd = None
        self._mark.unlink(missing_ok=True)
        self.why = "no VM here"
