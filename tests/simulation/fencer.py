"""The fencer's process on a node: the product's own rules, behind a socket, on slices and a device of this world.

It may stand still, die or be replaced at any moment, also in the middle of a call. What it wrote down outlives it,
though not the node's boot; the device counts on without it; a slice that it froze stays frozen.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mnha.core.ports import Confirmed
from mnha.errors import MnhaError
from mnha.fencer.rules import Grant, Kind

from .engine import us
from .process import Process

if TYPE_CHECKING:
    from .host import Desk, Host

VM = "mnvm"
LATEST_LOOK_S = 0.1
"""Its loop looks at the slices at least that often (:data:`mnha.fencer.main.LONGEST_SLEEP_S`)."""


class FencerGone(BaseException):
    """The fencer died in the middle of a call. Not an Exception: no handler of its own may see it."""


class FencerProcess(Process):
    """A fencer's process: its loop, its queue, and its ports to the world.

    It is a :class:`mnha.fencer.rules.Slices`, `Watchdog` and `Memory` at once.
    """

    WHO = "fencer"
    GONE = FencerGone

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._queue: deque[tuple[Desk, int, str, float, float, int]] = deque()
        self._answered_us = 0

    def begin(self) -> None:
        """The process begins, with what the one before it has written down."""
        self.world.trace("fencer begins", self.host.name)
        self.busy = True
        try:
            self.rules = self.world.fencer_class(self, self, self, dict(self.host.remembered))
        except FencerGone:
            return
        finally:
            self.busy = False
        self._turn()

    # ---- what it is asked

    def ask(self, desk: Desk, line: int, op: str, until_s: float, kill_s: float, ticket: int) -> None:
        """A request has arrived."""
        if self.alive:
            self._queue.append((desk, line, op, until_s, kill_s, ticket))
            self._turn()

    def granted(self) -> Grant | None:
        """What a guard that begins is told: until when the VM may run."""
        grant = self.host.remembered.get(VM)
        return grant if grant is not None and grant.kind is Kind.RUN else None

    def _obey(self, op: str, until_s: float, kill_s: float) -> bool:
        """Carry out a request; return whether the node is protected as the configuration requires.

        :raises MnhaError: it is refused, or could not be done.
        """
        now_s = self.host.now_s()
        match op:
            case "prepare":
                self.rules.prepare(VM, until_s, kill_s, now_s)
                as_required = True
            case "grant":
                as_required = self.rules.grant(VM, until_s, kill_s, now_s)
            case "expect":
                self.rules.expect(VM, until_s, now_s)
                as_required = True
            case _:
                self.rules.forbid(VM, now_s)
                until_s, as_required = now_s, True
        if as_required:
            self.host.allow(until_s, kill_s)
        return as_required

    # ---- its loop

    def go_on(self) -> None:
        """The process goes on."""
        self._turn()

    def poke(self) -> None:
        """Something has come to the slice: the next look sees it."""
        self.host.after(self.engine.span(0.0, LATEST_LOOK_S), self._turn)

    def _turn(self) -> None:
        """Rounds of the loop, until nothing is asked any more."""
        while self.alive and not self.busy and not self.stands_still:
            self.busy = True
            try:
                next_s = self.rules.look(self.host.now_s())
                answer = self._serve()
            except FencerGone:
                return
            finally:
                self.busy = False
            if answer is None:
                self.wake_at(next_s)
                return
            desk, line, confirmed = answer
            self._answered_us = max(self._answered_us, self.engine.now + self.engine.span(0.0001, 0.003))
            self.host.after(self._answered_us - self.engine.now, self._answer, desk, line, confirmed)

    def _serve(self) -> tuple[Desk, int, Confirmed] | None:
        """Serve one request of whoever still waits for the answer; None: there is none."""
        while self._queue and not self._queue[0][0].is_on(self._queue[0][1]):
            self._queue.popleft()
        if not self._queue:
            return None
        desk, line, op, until_s, kill_s, ticket = self._queue.popleft()
        try:
            as_required = self._obey(op, until_s, kill_s)
        except MnhaError as error:
            return desk, line, Confirmed(ticket, self.host.watchdog.protects(VM), error=error.message)
        return desk, line, Confirmed(ticket, self.host.watchdog.protects(VM), as_required)

    def _answer(self, desk: Desk, line: int, confirmed: Confirmed) -> None:
        """The answer arrives, if this process still lives."""
        if self.alive:
            desk.answer(line, confirmed)

    def on_time(self) -> None:
        """The timer is due."""
        self._turn()

    # ---- faults

    def late_until(self, until_us: int) -> None:
        """It gets no turn before `until_us`."""
        self.host.fencer_is_late_until(until_us)

    def died(self) -> None:
        """systemd starts it again."""
        self.host.fencer_died()

    # ---- ports

    def names(self) -> set[str]:
        """Port: Slices."""
        self.call()
        return {VM} if self.host.hypervisor.has_slice else set()

    def open(self, vm: str) -> None:
        """Port: Slices."""
        self.call()
        self.host.hypervisor.bar(False)

    def bar(self, vm: str) -> None:
        """Port: Slices."""
        self.call()
        self.host.hypervisor.bar(True)

    def is_empty(self, vm: str) -> bool:
        """Port: Slices."""
        self.call()
        return not self.host.hypervisor.is_populated

    def kill(self, vm: str) -> None:
        """Port: Slices."""
        self.call()
        self.host.hypervisor.kill_slice()

    def arm(self, until_s: float, vm: str) -> bool:
        """Port: Watchdog."""
        self.call()
        return self.host.watchdog.arm(until_s)

    def disarm(self, vm: str) -> None:
        """Port: Watchdog."""
        self.call()
        self.host.watchdog.disarm()

    def protects(self, vm: str) -> bool:
        """Port: Watchdog."""
        return self.host.watchdog.protects(vm)

    def save(self, grants: Mapping[str, Grant]) -> None:
        """Port: Memory."""
        self.call()
        if self.host.memory_full_until_us > self.engine.now:
            raise OSError(errno.ENOSPC, "no room")
        self.host.remembered = dict(grants)


def restart_us(host: Host) -> int:
    """How long systemd takes to start a fencer that has ended."""
    return us(0.1) + host.engine.span(0.05, 0.4)
