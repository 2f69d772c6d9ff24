"""The Linux watchdog device: resets a node that could not stop its VM.

The device is given *how long from now*, in whole seconds, so that the reset comes at ``until_s`` at the latest; it is
never given more than that. A device that can't count short enough does not protect, and is said not to.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import struct
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


class LinuxWatchdog:
    """One watchdog device, opened only while a VM may be alive: a :class:`mnha.ports.Watchdog`.

    :param mode: ``required`` (no VM without it), ``automatic`` (used if there is one), ``off``.
    :raises ConfigurationError: any other word; a misspelt one must not switch it off.
    """

    def __init__(self, mode: str, device: str = "/dev/watchdog") -> None:
        if mode not in MODES:
            raise ConfigurationError(f"watchdog is {mode!r}: write one of {', '.join(MODES)}")
        self.mode, self.device = mode, device
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
            return  # too late to pet: what is set already is shorter than what could be asked for
        if self._fd is None:
            self._fd = os.open(self.device, os.O_WRONLY | os.O_CLOEXEC)
        (set_s,) = struct.unpack("i", fcntl.ioctl(self._fd, _WDIOC_SETTIMEOUT, struct.pack("i", left_s)))
        if set_s > left_s:
            self.disarm()
            raise FailedError(f"it can't count {left_s} s, only {set_s} s: use another device, or longer timings")
        fcntl.ioctl(self._fd, _WDIOC_KEEPALIVE, struct.pack("i", 0))

    def disarm(self) -> None:
        """See :class:`mnha.ports.Watchdog`."""
        if self._fd is None:
            return
        try:
            os.write(self._fd, _MAGIC_CLOSE)
        finally:
            os.close(self._fd)
            self._fd = None
        self.why = "no VM here"
