"""The clock by which leases live."""

from __future__ import annotations

import time


def boottime_s() -> float:
    """CLOCK_BOOTTIME in seconds.

    Not CLOCK_MONOTONIC, which stands still while the host is suspended, and not the wall clock, which may be
    set.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)
