"""What the bench reads of the kernel's accounting of memory, of real processes. Takes root."""

from __future__ import annotations

import mmap
import os
import signal

import pytest

from tests.bench import usage

SHARED_MIB = 32


def test_a_page_that_two_processes_have_is_counted_once() -> None:
    shared = mmap.mmap(-1, SHARED_MIB * usage.MIB)
    shared.write(b"x" * len(shared))
    mine = usage.together_mib([os.getpid()])
    assert mine == pytest.approx(usage.memory([os.getpid()]).rss_mib, abs=4)
    child = os.fork()
    if not child:
        shared[:: usage.PAGE]
        signal.pause()
        os._exit(0)
    try:
        both = usage.together_mib([os.getpid(), child])
        assert both < mine + SHARED_MIB / 2
        assert usage.together_mib([os.getpid(), os.getpid()]) == pytest.approx(mine, abs=4)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_process_that_is_gone_has_no_memory() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert usage.together_mib([child]) == 0
