"""Whether a VM's memory fits K: a killed QEMU is dead only when the kernel has freed all of its memory.

Measured with `tests/bench/kill.py` (docs/benchmarks.md has the figures) on one virtual machine of 2 cores: QEMU
processes of 1 to 12 GiB, from the kill of their control group to `populated 0`. It depends on the pages, by far the
most. Huge ones, which QEMU asks for and the kernel gives where it has some, took 0.01 to 0.05 s a GiB from 8 GiB on;
those of 4 KiB 0.4 s and more. The rates here are for huge pages. Another host can be quicker, or slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..core.timing import LONGEST_S, MARGIN_S, PROFILES, SKEW, Timings
from ..errors import Fault
from .fields import join

LEAST_S_PER_GIB = 0.009
"""The best that was measured (12 GiB in 0.112 s), without a margin: what does not even fit this is refused."""

LIKELY_S_PER_GIB = 0.1
"""Twice the worst that was measured, from 8 GiB on, with huge pages beside busy cores (8 GiB in 0.405 s): what does not
fit this is warned of."""

MIB_PER_GIB = 1024


def exit_s(memory_mib: int, s_per_gib: float) -> float:
    """How long a killed VM of so much memory takes to be dead, in seconds."""
    return memory_mib / MIB_PER_GIB * s_per_gib


def too_large(vm: str, memory_mib: int, timings: Timings) -> Iterator[Fault]:
    """The fault of a VM that can't be dead within K.

    :param vm: its name.
    """
    least_s = exit_s(memory_mib, LEAST_S_PER_GIB)
    if least_s > timings.kill_s:
        yield _fault(vm, memory_mib, f"takes {least_s:.2f} s at the very least", timings)


def tight(vm: str, memory_mib: int, timings: Timings) -> Iterator[Fault]:
    """The warning of a VM that may not be dead within K; none if it is :func:`too_large`."""
    likely_s = exit_s(memory_mib, LIKELY_S_PER_GIB)
    if exit_s(memory_mib, LEAST_S_PER_GIB) <= timings.kill_s < likely_s:
        yield _fault(vm, memory_mib, f"may take {likely_s:.2f} s or longer", timings)


def _fault(vm: str, memory_mib: int, takes: str, timings: Timings) -> Fault:
    return Fault(
        join("vms", vm, "memory_mib"),
        memory_mib,
        f"a killed VM of {memory_mib / MIB_PER_GIB:g} GiB {takes} until its memory is freed, and kill_s is "
        f"{timings.kill_s:g}: then its node is reset, where there is a watchdog",
        _remedy(exit_s(memory_mib, LIKELY_S_PER_GIB), timings),
    )


def _remedy(kill_s: float, timings: Timings) -> str:
    """What to write so that `kill_s` is enough: a profile, or timings that differ in K and L."""
    fitting = [name for name, profile in PROFILES.items() if profile.kill_s >= kill_s]
    if fitting:
        return f"use timings: {fitting[0]}"
    kill_s = math.ceil(kill_s)
    lease_s = math.floor((timings.deadline_s + kill_s) * (1 + SKEW) + MARGIN_S) + 1
    if lease_s > LONGEST_S:
        return f"no timing may exceed {LONGEST_S:g} s: give it less memory"
    return f"raise kill_s to {kill_s} and lease_s to {lease_s}, and see that its host gives it huge pages"
