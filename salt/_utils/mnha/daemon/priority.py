"""What makes the guard's process prompt on a busy node: real-time priority and locked memory."""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import subprocess

log = logging.getLogger(__name__)

REALTIME_PRIORITY = 50
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4


@dataclasses.dataclass(frozen=True)
class Priority:
    """What the process was given."""

    realtime: bool = False
    memory_locked: bool = False


def become_prompt() -> Priority:
    """Ask for real-time priority and locked memory; refused in containers, which status shows.

    The threads begun after this have that priority too: they renew and they kill, and one that is kept waiting for
    a core may hold Python's lock meanwhile. Only those that serve clients give it back (`server`).

    And no thread that begins a program holds that lock until the program is read from its disk, which may hang: with
    vfork(2) it would, and nobody would renew.
    """
    subprocess._USE_VFORK = False  # type: ignore[misc]  # Python's documentation names it for this
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME_PRIORITY))
        realtime = True
    except OSError as error:
        log.info("no real-time priority: %s", error)
        realtime = False
    libc = ctypes.CDLL(None, use_errno=True)
    # ONFAULT: what is used stays in memory; the unused part of the threads' stacks takes none.
    memory_locked = libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0
    if not memory_locked:
        log.info("memory is not locked: %s", os.strerror(ctypes.get_errno()))
    return Priority(realtime, memory_locked)
