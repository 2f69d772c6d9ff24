"""Whether the disk below this node's Consul server takes what is written, and what is done when it does not and that
server leads.

A leader whose disk hangs goes on to lead: its heartbeats need no disk. So the others elect nobody, and no lease is
renewed for as long as it hangs. Once it is ended (SIGKILL) they elect one of them.

It is ended by its control group and not by `systemctl`, which would have to be read from that very disk. systemd starts
it again when it has ended, and that is when its thread that hangs in the kernel goes on. A server that begins on a disk
that still hangs does no harm: it has to write before it takes part, and again before it could lead.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ...core.timing import Timings
from ...errors import MnhaError, UnreachableError
from ...fencer.slices import kill_each
from ...host.clock import boottime_s
from ..threads import Fault, Forever
from . import write_through
from .consul import Servers
from .probe import Check
from .processes import birth_of

LOOK_EVERY_S = 0.5
"""Each look writes a block, as often as the holder of a lease or two has Consul write."""
STEP_S = 0.25
LEAST_HANGS_S = 0.5
"""A disk that takes a write within this time does not hang, whatever the deadline: it is busy."""
REST_S = 60.0
"""A server that has run for less is not ended: so one server is ended at most once in this time."""
ASK_S = 0.5
FILE = ".mnha-written-through"
OWN = 0
"""This node's own server is the first one."""


def hangs_s(timings: Timings) -> float:
    """How long a write may take, in seconds, until the disk below Consul's leader is said to hang: half of what the
    deadline leaves beside a renewal. A shorter stall costs nothing if it is left alone, while an election that nobody
    needed may cost a VM; after a longer one a VM that has not lived through it is back sooner for the election.
    """
    return max(LEAST_HANGS_S, (timings.deadline_s - timings.renew_s) / 2)


class Look:
    """A process that looks at the disk of a folder (:mod:`.write_through`), one look after the other.

    :ivar since_s: CLOCK_BOOTTIME of the beginning of the look that is under way; None: none is.
    :raises OSError: the process can't be begun.
    """

    def __init__(self, folder: Path) -> None:
        words = [sys.executable, "-I", "-S", write_through.__file__, str(folder / FILE)]
        self._process = subprocess.Popen(words, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.since_s: float | None = None

    def result(self, wait_s: float) -> str | None:
        """What is wrong with the disk, or nothing; None: the look is still under way after `wait_s`. Begins one if none
        is.

        :raises OSError: the process has ended.
        """
        assert self._process.stdin
        assert self._process.stdout
        if self.since_s is None:
            self.since_s = boottime_s()
            self._process.stdin.write(b"\n")
        if not self.is_over(wait_s):
            return None
        line = self._process.stdout.read(4096)
        if not line:
            raise ChildProcessError("the process that looks at the disk has ended")
        self.since_s = None
        return line.decode(errors="replace").strip()

    def is_over(self, wait_s: float) -> bool:
        """Whether the look that is under way ends within `wait_s`."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], wait_s)[0])

    def close(self) -> None:
        """Have the process end; one that hangs in the kernel does so when that goes on."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()
        self._process.poll()


class ConsulDisk:
    """Watches the disk of this node's Consul server, and ends that server if it leads while the disk hangs.

    :param servers: all Consul servers, this node's own first.
    :param nodes: the node of each, and the address by which the servers know it.
    :param key: of a record that the token may read.
    :param folder: where the own server has its data.
    :param group: its control group.
    :param failing: tells the nodes whose guards find their disks hanging or full.
    :param ended: called, in this class' thread, with why the server was ended.
    """

    def __init__(
        self,
        servers: Servers,
        nodes: Sequence[tuple[str, str]],
        key: str,
        timings: Timings,
        folder: Path,
        group: Path,
        failing: Callable[[], set[str]],
        ended: Callable[[str], None],
    ) -> None:
        self._servers, self._nodes, self._key, self._failing, self._ended = servers, nodes, key, failing, ended
        self._folder, self._group = folder, group
        self._hangs_s, self._told_s = hangs_s(timings), timings.lease_s
        self._look: Look | None = None
        self._wrong = ""
        self._thread, self._fault = Forever("consul-disk", self._turn), Fault("consul-disk-hangs")
        self.threads = (self._thread, self._fault)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def check(self) -> Check:
        """Whether the disk takes what is written. One that hangs counts as such after L: a disk that was busy for a
        moment makes no worse candidate, and by then a VM that has died with Consul's leader was started again in place.
        """
        since_s = self._look.since_s if self._look else None
        if since_s is not None and boottime_s() - since_s > self._told_s:
            return Check(False, f"the disk of {self._folder} hangs: nothing is written there for {self._told_s:g} s")
        return Check(not self._wrong, self._wrong)

    def _turn(self) -> float:
        """Look once, or go on with the look that is under way."""
        look = self._look = self._look or Look(self._folder)
        try:
            said = look.result(STEP_S)
        except OSError:
            look.close()
            self._look = None
            raise
        if said is None:
            self._end_if_right(look)
            return 0.0
        self._wrong = said
        return LOOK_EVERY_S

    def _end_if_right(self, look: Look) -> None:
        """End the own server if the look takes too long, and the server leads and does not get on."""
        left_s = (look.since_s or boottime_s()) + self._hangs_s - boottime_s()
        if left_s > STEP_S or self._leader_of(OWN) != self._nodes[OWN][1]:
            return
        if self._gets_on(max(left_s, STEP_S)) or look.is_over(0.0):
            return
        hangs = f"the disk of {self._folder} hangs, and its server leads Consul"
        if why := self._spared():
            self._fault.tell(f"{hangs}; it is not ended: {why}")
            return
        (self._group / "cgroup.kill").write_text("1", encoding="ascii")
        kill_each(self._group / "cgroup.procs")
        self._fault.tell(f"{hangs}: it was ended, for another one to lead")
        self._ended(self._fault.why)

    def _leader_of(self, number: int) -> str:
        """The address of the leader that a server knows; empty if it knows none, or does not answer."""
        try:
            leader = self._servers.ask(number, ASK_S, lambda consul: consul.status.leader())
        except MnhaError:
            return ""
        return str(leader).rpartition(":")[0]

    def _gets_on(self, wait_s: float) -> bool:
        """Whether the own server vouches for what it holds. As the leader it does not while it waits for its disk."""
        try:
            self._servers.ask(OWN, wait_s, lambda consul: consul.kv.get(self._key, consistency="consistent"))
        except UnreachableError:
            return False
        except MnhaError:
            pass
        return True

    def _spared(self) -> str:
        """Why the own server is not ended though it should be; empty: it is. Without it the others must be a quorum: as
        many as follow it now and have disks of which nothing bad is known.
        """
        runs_s = self._runs_s()
        if runs_s < REST_S:
            return f"it runs only since {runs_s:.0f} s"
        others, failing = range(OWN + 1, len(self._nodes)), self._failing()
        fit = [self._nodes[one][0] for one in others if self._leader_of(one) == self._nodes[OWN][1]]
        needed, fit = len(self._nodes) // 2 + 1, [node for node in fit if node not in failing]
        if len(fit) < needed:
            return f"only {', '.join(fit) or 'nobody'} could elect another one; that takes {needed}"
        return ""

    def _runs_s(self) -> float:
        """How long the own server has been running, in seconds; 0 if it does not."""
        births = []
        for pid in (self._group / "cgroup.procs").read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                births.append(int(birth_of(int(pid)).split()[1]) / os.sysconf("SC_CLK_TCK"))
        return boottime_s() - min(births, default=boottime_s())


def look_once(folder: Path, limit_s: float) -> Check:
    """A single look at the disk of `folder`, for who has no thread; one that takes longer than `limit_s` hangs."""
    look = Look(folder)
    try:
        said = look.result(limit_s)
    except OSError as error:
        said = f"{folder} can't be looked at: {error}"
    finally:
        look.close()
    if said is None:
        said = f"the disk of {folder} hangs: nothing is written there for {limit_s:g} s"
    return Check(not said, said)
