"""A delay line in a node's cable: what passes it arrives some milliseconds later.

Not every kernel has netem. So a process of the lab takes the frames off the cable's end at the switch, keeps each for
as long as asked, and hands it on through a TAP device that takes the cable's place at the bridge; and the other way
round. Order is kept, nothing is altered: both ends speak with the kernel's own offload header, so that large frames and
unfinished checksums pass as they are. A line that can't get rid of its frames loses them, as a switch does.

Nothing about it is kept in files: the process lies in a control group that is named for the cable.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups
from lab.network import NETNS, ip, tap_of
from lab.settings import REPOSITORY, SWITCH, LabError
from lab.shell import run, wait_until

ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
SO_RCVBUFFORCE = 33
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
OFFLOADS = 0x1 | 0x2 | 0x4  # checksum, TCP segmentation of IPv4 and of IPv6

FRAME_BYTES = 65536 + 256
AT_ONCE = 64
"""Frames that are read from one end before the other has its turn."""
MOST_WAITING = 20_000
"""Frames that a direction holds at most: more than a gigabit of full frames in 200 ms; beyond that they are lost."""
RECEIVE_BYTES = 8 << 20
PRIORITY = 60
"""Of real time, above the guard: the line delays by its own figure, not by the load that a test puts on the machine."""
LONGEST_MS = 60_000


@dataclass(frozen=True)
class Delay:
    """How much later frames arrive, by direction as seen from the node: what it sends, what it would receive."""

    out_ms: float = 0.0
    in_ms: float = 0.0

    @classmethod
    def of(cls, milliseconds: float, direction: str) -> Delay:
        """The delay in one direction, or in both.

        :raises LabError: an unknown direction, or no sensible time.
        """
        if not 0 < milliseconds <= LONGEST_MS:
            raise LabError(f"a delay of {milliseconds:g} ms makes no sense: give 1 to {LONGEST_MS}")
        if direction not in ("in", "out", "both"):
            raise LabError(f"unknown direction {direction!r}: one of in, out, both")
        return cls(
            out_ms=milliseconds if direction in ("out", "both") else 0.0,
            in_ms=milliseconds if direction in ("in", "both") else 0.0,
        )


# ---- for whoever wants one


def start(cable: str, bridge: str, delay: Delay, log: Path) -> None:
    """Put a delay line between a node's cable and its bridge, in place of one that may be there.

    :param log: where its complaints go.
    :raises LabError: it does not start; what it said is in `log`.
    """
    stop(cable, bridge)
    cgroups.create(_group(cable))
    words = ["nsenter", f"--net={NETNS}", sys.executable, "-m", "lab.delay", cable, str(delay.out_ms), str(delay.in_ms)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            words, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    tap = tap_of(cable)

    def is_there() -> bool:
        if process.poll() is not None:
            raise LabError(f"the delay line of {cable} ended with {process.returncode}: see {log}")
        return run(["ip", "-n", SWITCH, "link", "show", tap], check=False).returncode == 0

    wait_until(is_there, 10, f"the delay line of {cable} does not make its device {tap}: see {log}")
    ip("link", "set", cable, "nomaster")
    ip("link", "set", tap, "master", bridge, "up")


def stop(cable: str, bridge: str) -> None:
    """Take a cable's delay line away, and what is still in it; nothing happens where there is none."""
    if not cgroups.folders(_group(cable))[0].is_dir():
        return
    forget(cable)
    ip("link", "set", cable, "master", bridge, check=False)  # the node may be off


def forget(cable: str) -> None:
    """End the process of a cable's delay line, whatever becomes of the cable."""
    cgroups.kill(_group(cable))
    cgroups.remove(_group(cable))


def read(cable: str) -> Delay | None:
    """The delay that is in force on a cable, None without one."""
    for pid in cgroups.pids(_group(cable)):
        with contextlib.suppress(OSError, ValueError):
            out_ms, in_ms = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-3:-1]
            return Delay(float(out_ms), float(in_ms))
    return None


def _group(cable: str) -> str:
    return f"delay-{cable}"


# ---- the process


class Lane:
    """One direction of a line: frames wait here, each until its own moment."""

    def __init__(self, source: int, sink: int, delay_s: float) -> None:
        self.source, self._sink, self._delay_s = source, sink, delay_s
        self._waiting: deque[tuple[float, bytes]] = deque()
        self.lost = 0

    def take(self, now_s: float) -> None:
        """Take in what has come, up to a limit so that the other direction has its turn."""
        for _ in range(AT_ONCE):
            try:
                frame = os.read(self.source, FRAME_BYTES)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ENETDOWN):
                    raise
                return
            if len(self._waiting) < MOST_WAITING:
                self._waiting.append((now_s + self._delay_s, frame))
            else:
                self.lost += 1

    def hand_on(self, now_s: float) -> None:
        """Let those go whose time has come."""
        while self._waiting and self._waiting[0][0] <= now_s:
            _, frame = self._waiting.popleft()
            try:
                os.write(self._sink, frame)
            except OSError:  # the queue is full, or the other end is down: lost, as on a wire
                self.lost += 1

    def due_s(self) -> float:
        """When the next frame is to go; infinity while none waits."""
        return self._waiting[0][0] if self._waiting else float("inf")


def open_cable(name: str) -> int:
    """Everything that comes over a cable, with the offload header before each frame."""
    channel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    channel.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    channel.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    channel.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
    channel.bind((name, ETH_P_ALL))
    channel.setblocking(False)
    return channel.detach()


def open_tap(name: str) -> int:
    """A new TAP device that goes when the descriptor is closed."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(descriptor, TUNSETOFFLOAD, OFFLOADS)
    return descriptor


def carry(lanes: Sequence[Lane]) -> None:
    """Carry frames for ever."""
    poll = select.epoll()
    by_source = {lane.source: lane for lane in lanes}
    for source in by_source:
        poll.register(source, select.EPOLLIN)
    while True:
        due_s = min(lane.due_s() for lane in lanes)
        pause_s = None if due_s == float("inf") else max(0.0, due_s - time.monotonic())
        for source, _ in poll.poll(pause_s):
            by_source[source].take(time.monotonic())
        now_s = time.monotonic()
        for lane in lanes:
            lane.hand_on(now_s)


def keep_quiet(cable: str) -> None:
    """Let the switch itself not answer on a cable that is out of its bridge: its answers would not be delayed."""
    Path(f"/proc/sys/net/ipv4/conf/{cable}/arp_ignore").write_text("8")


def become_hardware() -> None:
    """Come before every load of the machine; in the root group of the CPU, for the lab's have no real time to spare."""
    with contextlib.suppress(FileNotFoundError):
        Path("/sys/fs/cgroup/cpu/cgroup.procs").write_text(str(os.getpid()))
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))


def main() -> None:
    """The process of one line, in the switch's network namespace; ends when it is killed."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.delay", description=__doc__)
    parser.add_argument("cable")
    parser.add_argument("out_ms", type=float)
    parser.add_argument("in_ms", type=float)
    options = parser.parse_args()
    cgroups.enter(_group(options.cable))
    become_hardware()
    keep_quiet(options.cable)
    cable = open_cable(options.cable)
    tap = open_tap(tap_of(options.cable))
    carry([Lane(cable, tap, options.out_ms / 1000), Lane(tap, cable, options.in_ms / 1000)])


if __name__ == "__main__":
    main()
