"""What the bench reads of the kernel's accounting of memory, of real processes. Takes root."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench import usage

SHARED_MIB = 32
TWO = f"""
import mmap, os, signal
shared = mmap.mmap(-1, {SHARED_MIB * usage.MIB})
shared.write(b"x" * len(shared))
child = os.fork()
if child == 0:
    shared[::{usage.PAGE}]
    os.write(1, b"there\\n")
    signal.pause()
os.write(1, b"%d\\n" % child)
os.waitpid(child, 0)
"""


def test_a_page_that_two_processes_have_is_counted_once() -> None:
    with subprocess.Popen([sys.executable, "-c", TWO], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        (child,) = [int(line) for line in (parent.stdout.readline(), parent.stdout.readline()) if line != "there\n"]
        try:
            one = usage.together_mib([parent.pid])
            assert one == pytest.approx(usage.memory([parent.pid]).rss_mib, abs=4)
            assert one <= usage.together_mib([parent.pid, child]) < one + SHARED_MIB / 2
            assert usage.together_mib([parent.pid, parent.pid]) == pytest.approx(one, abs=4)
        finally:
            os.kill(child, 9)


def test_a_process_that_is_gone_has_no_memory() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    assert usage.together_mib([child]) == 0
