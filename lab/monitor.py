"""Watches from outside which node runs the VM, on one clock, and sees any two at once.

All nodes share this machine's kernel, so CLOCK_BOOTTIME here is the same clock as in each of them. New processes are
looked for every 20 ms; the end of a known one is told by the kernel through its pidfd, at once. A zombie is dead:
the kernel has taken its memory, files and CPU away.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from pathlib import Path

from lab.settings import SWITCH, VM_NAME

INTERVAL_S = 0.02
ARRIVING_INTERVAL_S = 0.005
"""How often an incoming process is looked at until it can write."""
WRITE_LOCK_BYTE = 101
"""QEMU's sign on an image that it may write: a lock of this byte, of the open file (block/file-posix.c)."""
YOUNG_S = 3.0
"""A process younger than this is looked at again: libvirt forks first and becomes QEMU later."""

_NODE = re.compile(rf"/{SWITCH}/(node\d+)/")


@dataclass(frozen=True)
class Life:
    """One QEMU process of the VM. `begin_ns` is the moment of its fork (rounded down to 10 ms), so before the guest
    ran anything; `end_ns` the moment the kernel told its end, None while it lives. CLOCK_BOOTTIME."""

    node: str
    pid: int
    begin_ns: int
    end_ns: int | None = None
    incoming: bool = False
    """It was started as the target of a live migration: it cannot write before it is resumed, so until then it may live
    beside the source."""
    resumed_ns: int | None = None
    """Of an incoming one: the last moment at which it did *not* hold the image's write lock yet (QEMU takes it before
    the guest runs, and not while it waits for the rest of a migration); None as long as it never did."""

    @property
    def writes_from_ns(self) -> int | None:
        """From when on it may write; None: it can't."""
        return self.resumed_ns if self.incoming else self.begin_ns


def overlaps(lives: Sequence[Life]) -> list[tuple[Life, Life]]:
    """Pairs of which both could write at the same time. Each counts to the end of its process."""

    def meet(one: Life, two: Life) -> bool:
        begins = [life.writes_from_ns for life in (one, two)]
        ends = [life.end_ns if life.end_ns is not None else 1 << 63 for life in (one, two)]
        return None not in begins and max(begin for begin in begins if begin is not None) < min(ends)

    return [(one, two) for one, two in combinations(lives, 2) if meet(one, two)]


def gaps_s(lives: Sequence[Life]) -> list[float]:
    """Seconds from the end of each life to the begin of the next."""
    ordered = sorted(lives, key=lambda life: life.begin_ns)
    return [(two.begin_ns - one.end_ns) / 1e9 for one, two in pairwise(ordered) if one.end_ns is not None]


class Monitor:
    """A thread that records the lives of a VM's QEMU processes on all nodes. Use it as a context manager.

    with Monitor() as monitor:
        ...
    assert not monitor.overlaps()
    """

    def __init__(self, vm: str = VM_NAME, on_change: Callable[[Life], None] | None = None) -> None:
        self.vm = vm
        self.on_change = on_change
        self._lives: dict[tuple[int, int], Life] = {}
        self._watched: dict[int, tuple[int, int]] = {}
        self._passed_over: set[int] = set()
        self._unresumed_ns: dict[tuple[int, int], int] = {}
        self._poll = select.poll()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="lab-monitor", daemon=True)
        self.error: BaseException | None = None

    def __enter__(self) -> Monitor:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._look()
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; raises what ended it, if it did not live until now (its record would have holes)."""
        self._stop.set()
        self._thread.join()
        for descriptor in list(self._watched):
            os.close(descriptor)
        self._watched.clear()
        if self.error:
            raise self.error

    def lives(self) -> list[Life]:
        """All that were seen so far, by the moment of their begin."""
        with self._changed:
            return sorted(self._lives.values(), key=lambda life: (life.begin_ns, life.pid))

    def living(self) -> list[Life]:
        return [life for life in self.lives() if life.end_ns is None]

    def overlaps(self) -> list[tuple[Life, Life]]:
        return overlaps(self.lives())

    def wait_for(self, question: Callable[[list[Life]], bool], timeout_s: float) -> bool:
        """Waits until `question(lives)` is true; false if it is not within `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not question(self.lives()):
            rest_s = end - time.monotonic()
            if rest_s <= 0 or self.error:
                return False
            with self._changed:
                self._changed.wait(min(rest_s, 0.5))
        return True

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                arriving = [key for key in self._watched.values() if self._is_arriving(key)]
                pause_s = ARRIVING_INTERVAL_S if arriving else INTERVAL_S
                for descriptor, _ in self._poll.poll(pause_s * 1000):
                    self._ended(descriptor)
                for key in arriving:
                    self._look_for_resumption(key)
                self._look()
        except BaseException as error:  # raised where the record is used
            self.error = error

    def _ended(self, descriptor: int) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._poll.unregister(descriptor)
        os.close(descriptor)
        key = self._watched.pop(descriptor)
        self._note(key, replace(self._lives[key], end_ns=now_ns))

    def _note(self, key: tuple[int, int], life: Life) -> None:
        with self._changed:
            self._lives[key] = life
            self._changed.notify_all()
        if self.on_change:
            self.on_change(life)

    def _is_arriving(self, key: tuple[int, int]) -> bool:
        life = self._lives[key]
        return life.incoming and life.resumed_ns is None

    def _look_for_resumption(self, key: tuple[int, int]) -> None:
        """Note it once an incoming process can write; what counts is the moment of the look before."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if may_write(key[0]):
            self._note(key, replace(self._lives[key], resumed_ns=self._unresumed_ns.get(key, key[1])))
        else:
            self._unresumed_ns[key] = now_ns

    def _look(self) -> None:
        present = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        self._passed_over &= present
        known = {key[0] for key in self._watched.values()}
        for pid in present - self._passed_over - known:
            self._consider(pid)

    def _consider(self, pid: int) -> None:
        try:
            folder = Path("/proc") / str(pid)
            begin_ns = fork_moment_ns((folder / "stat").read_text())
            words = (folder / "cmdline").read_bytes().split(b"\0")
            node = _NODE.search((folder / "cgroup").read_text())
        except (FileNotFoundError, ProcessLookupError):
            return
        if not node or not is_vm(words, self.vm):
            if time.clock_gettime_ns(time.CLOCK_BOOTTIME) - begin_ns > YOUNG_S * 1e9:
                self._passed_over.add(pid)
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        key = (pid, begin_ns)
        if key in self._lives:  # seen dying before: a zombie that nobody has reaped yet
            os.close(descriptor)
            return
        self._watched[descriptor] = key
        self._note(key, Life(node[1], pid, begin_ns, None, b"-incoming" in words))
        self._poll.register(descriptor, select.POLLIN)


def is_vm(words: Iterable[bytes], vm: str) -> bool:
    """Whether a command line is that of QEMU with this VM (and not, say, libvirt asking QEMU what it can do)."""
    first, *rest = list(words) or [b""]
    name = f"guest={vm}".encode()
    return b"qemu-system" in first and any(word == name or word.startswith(name + b",") for word in rest)


def may_write(pid: int) -> bool:
    """Whether a QEMU holds the write lock of an image, as the kernel tells it of each of its open files."""
    folder = Path("/proc") / str(pid) / "fdinfo"
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if holds_write_lock((folder / name).read_text()):
                    return True
    return False


def holds_write_lock(fdinfo: str) -> bool:
    """Whether the text of a /proc/PID/fdinfo file tells of a lock that covers the byte by which QEMU says *I write*."""
    ranges = re.findall(r"^lock:.* OFDLCK .* (\d+) (\d+|EOF)$", fdinfo, re.MULTILINE)
    return any(
        int(first) <= WRITE_LOCK_BYTE and (last == "EOF" or int(last) >= WRITE_LOCK_BYTE) for first, last in ranges
    )


def fork_moment_ns(stat: str) -> int:
    """Field starttime of /proc/PID/stat: when the process was forked, CLOCK_BOOTTIME in steps of 10 ms."""
    ticks = int(stat.rpartition(")")[2].split()[19])
    return ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
