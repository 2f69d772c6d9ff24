"""What the fencer promises of each VM of its node, without the kernel.

A VM is alive while its slice (a control group that holds its QEMU, with all threads, forks and helpers) is populated.
It may be alive until the moment that was last granted, and not a moment longer:

- **Until T, then dead.** A populated slice with no moment ahead is killed, and killed again until it is empty.
- **Barred unless granted.** Nothing runs in a slice with no moment ahead: it is frozen, so that a start which somebody
  ordered, and which comes late, never gets to execute anything.
- **No grant after T.** A VM that is being killed can't be granted anything before its slice was seen empty: others
  count on its death.
- **Armed before alive.** A VM may run only after `prepare` has armed the watchdog for T + K. An arrival by migration
  stands paused, and needs none: `expect`.
- **Not petted for the undead.** The device is told a later moment by a grant alone, and stopped only when the slice is
  empty and nothing is granted. A grant of which the required device can't be told does not count.
- **Remembered before answered.** A granted moment is written down (in /run: it lives as long as the boot) before it is
  confirmed. So the next fencer knows it, and a populated slice of which nobody knows a moment has none.

All times are CLOCK_BOOTTIME in seconds. Nothing here waits or reads a clock.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any, Protocol

from ..errors import FailedError, InputError, RefusedError

LONGEST_S = 60.0
"""No moment may be granted further ahead: no timing of a lease may be longer (:data:`mnha.core.timing.LONGEST_S`)."""

KILL_EVERY_S = 0.1
"""How often a kill that has not emptied its slice is repeated: a fork may have slipped through, or a child come."""


class Kind(StrEnum):
    """For what a VM may be alive: to run, or to stand paused while a migration brings it."""

    RUN = "run"
    ARRIVE = "arrive"


@dataclasses.dataclass(frozen=True)
class Grant:
    """The moment until which a VM may be alive.

    :param until_s: T.
    :param kill_s: K, in which its slice must be empty after T, or the node is reset.
    """

    kind: Kind
    until_s: float
    kill_s: float


class Slices(Protocol):
    """The groups of this node's VMs."""

    def names(self) -> set[str]:
        """The VMs that have a group now, whoever made it.

        :raises OSError: it can't be known.
        """

    def open(self, vm: str) -> None:
        """Let processes run in the group of a VM; make it if there is none.

        :raises OSError: the kernel refuses.
        """

    def bar(self, vm: str) -> None:
        """Let no process run in the group of a VM, also none that comes to it; make it if there is none.

        :raises OSError: the kernel refuses.
        """

    def is_empty(self, vm: str) -> bool:
        """Whether no process of the VM is left, by the kernel's word; a group that is not there is empty.

        :raises OSError: it can't be known.
        """

    def kill(self, vm: str) -> None:
        """SIGKILL to all in the group, at once.

        :raises OSError: the kernel refuses.
        """


class Watchdog(Protocol):
    """The device that resets the node: see :class:`mnha.fencer.watchdog.LinuxWatchdog`."""

    def arm(self, until_s: float, vm: str) -> bool:
        """Have the node reset at `until_s`; whether it is protected as the configuration requires."""

    def disarm(self, vm: str) -> None:
        """Stop counting for a VM."""

    def protects(self, vm: str) -> bool:
        """Whether it counts for a VM, and took what it was last told."""


class Memory(Protocol):
    """What outlives this process, though not the boot."""

    def save(self, grants: Mapping[str, Grant]) -> None:
        """Write down all grants.

        :raises OSError: that did not work.
        """


class Fencer:
    """The promises of one node.

    :param remembered: the grants that the fencer before this one wrote down.
    :param known: the VMs of this node by its configuration: their slices are barred before anybody has made them.
    """

    def __init__(
        self,
        slices: Slices,
        watchdog: Watchdog,
        memory: Memory,
        remembered: Mapping[str, Grant] | None = None,
        known: Collection[str] = (),
    ) -> None:
        self._slices, self._watchdog, self._memory = slices, watchdog, memory
        self._grants: dict[str, Grant] = dict(remembered or {})
        self._known = frozenset(known)
        self._doomed: set[str] = set()
        self._armed: set[str] = set()
        self._next_kill_s: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        self._kills: dict[str, int] = {}
        for vm, grant in self._grants.items():
            if grant.kind is Kind.RUN:
                watchdog.arm(grant.until_s + grant.kill_s, vm)
                self._armed |= {vm} if watchdog.protects(vm) else set()

    # ---- what the guard may say

    def prepare(self, vm: str, until_s: float, kill_s: float, now_s: float) -> None:
        """Arm the watchdog for a VM that is about to be started or resumed, and let it run until `until_s`.

        :raises RefusedError: it is being killed, or the required watchdog does not work.
        :raises InputError: that is no moment ahead.
        :raises FailedError: its slice can't be made, or the grant not be written down.
        """
        self._must_be_ahead(until_s, kill_s, now_s)
        self._must_not_be_doomed(vm, now_s)
        is_new = not self._may_run(vm)
        # Armed first, so that it counts before the VM lives. Of one that may live already nothing later is told to the
        # device than what is written down, so that is done first.
        protected = self._arm(vm, until_s + kill_s) if is_new else self.grant(vm, until_s, kill_s, now_s)
        if not protected:
            raise RefusedError(f"{vm} is not to run: the watchdog is required and can't be armed")
        if not is_new:
            return
        try:
            self._remember(vm, Grant(Kind.RUN, until_s, kill_s))
            self._slices.open(vm)
        except (OSError, FailedError) as error:
            raise FailedError(f"{vm} can't be prepared: {error}") from error

    def grant(self, vm: str, until_s: float, kill_s: float, now_s: float) -> bool:
        """Move the moment of a prepared VM, forward or back, and pet the watchdog with it.

        A later moment of which the required device can't be told does not count: what is alive is killed at the
        earlier one, K before the device resets the whole node.

        :returns: whether the node is protected as the configuration requires.
        :raises RefusedError: T is over, or nothing was prepared.
        :raises InputError: that is too far ahead, or no time.
        :raises FailedError: it could not be written down, so it does not count.
        """
        self._must_be_time(until_s, kill_s, now_s)
        self._must_not_be_doomed(vm, now_s)
        if not self._may_run(vm):
            raise RefusedError(f"{vm} was not prepared: prepare it before it runs")
        before = self._grants[vm]
        self._remember(vm, Grant(Kind.RUN, until_s, kill_s))
        protected = self._arm(vm, until_s + kill_s)
        if not protected and before.until_s < until_s:
            self._grants[vm] = before
            # If that can't be written, the next fencer knows the later moment, to which the lease was renewed as well.
            with contextlib.suppress(FailedError):
                self._remember(vm, before)
        return protected

    def expect(self, vm: str, until_s: float, now_s: float) -> None:
        """Let what a migration brings stand here, paused, until `until_s`.

        :raises RefusedError: the VM is being killed, or may run here.
        :raises InputError: that is no moment ahead.
        :raises FailedError: its slice can't be made, or the grant not be written down.
        """
        self._must_be_ahead(until_s, 1.0, now_s)
        self._must_not_be_doomed(vm, now_s)
        if self._may_run(vm):
            raise RefusedError(f"{vm} may run here: nothing is expected to arrive")
        self._remember(vm, Grant(Kind.ARRIVE, until_s, 1.0))
        try:
            self._slices.open(vm)
        except OSError as error:
            raise FailedError(f"the slice of {vm} can't be opened: {error}") from error

    def forbid(self, vm: str, now_s: float) -> None:
        """Take back what was granted, bar the slice, and kill what is alive in it. To kill needs no memory.

        :raises FailedError: the slice is not barred; what is in it is killed all the same.
        """
        self._grants.pop(vm, None)
        try:
            self._memory.save(self._grants)
        except OSError as error:
            self._faults[vm] = f"what was granted can't be struck out: {error}"  # the next fencer knows it, until T
        fault = self._look_at(vm, now_s)
        self._let_the_device_rest()
        if fault:
            raise FailedError(f"{vm} is not barred: {fault}")

    # ---- what time and kernel say

    def look(self, now_s: float) -> float:
        """Kill what may not be alive, let go of what is dead; return when to look again at the latest."""
        for vm in self._all():
            self._look_at(vm, now_s)
        self._let_the_device_rest()
        moments = [grant.until_s for vm, grant in self._grants.items() if vm not in self._doomed]
        return min([*moments, *(self._next_kill_s[vm] for vm in self._doomed)], default=float("inf"))

    def status(self, now_s: float) -> dict[str, Any]:
        """What is known of each VM: `empty` (None: the kernel does not say), `kind`, `until_s`, `until_in_s`, `kill_s`,
        `doomed`, `kills`, `fault`.
        """
        found = {}
        for vm in self._all():
            grant = self._grants.get(vm)
            found[vm] = {
                "empty": self._is_empty(vm, unknown=None),
                "kind": grant.kind.value if grant else None,
                "until_s": grant.until_s if grant else None,
                "until_in_s": grant.until_s - now_s if grant else None,
                "kill_s": grant.kill_s if grant else None,
                "doomed": vm in self._doomed,
                "kills": self._kills.get(vm, 0),
                "fault": self._faults.get(vm, ""),
            }
        return found

    # ---- inside

    def _all(self) -> list[str]:
        """All VMs that may be alive; where the kernel does not name the groups, those that are known."""
        try:
            there = self._slices.names()
        except OSError:
            there = set()
        return sorted(there | set(self._grants) | self._doomed | self._known)

    def _look_at(self, vm: str, now_s: float) -> str:
        """Keep the promise of one VM; return why its slice could not be barred, if it had to be."""
        grant = self._grants.get(vm)
        if grant is not None and now_s < grant.until_s and vm not in self._doomed:
            return ""
        fault = self._bar(vm)
        if self._is_empty(vm):
            self._let_go(vm)
            self._faults |= {vm: fault} if fault else {}
            return fault
        if vm not in self._doomed:
            self._doomed.add(vm)
            self._next_kill_s[vm] = now_s
        if now_s >= self._next_kill_s[vm]:
            self._next_kill_s[vm] = now_s + KILL_EVERY_S
            self._kills[vm] = self._kills.get(vm, 0) + 1
            try:
                self._slices.kill(vm)
            except OSError as error:
                self._faults[vm] = f"its slice can't be killed: {error}"
        return fault

    def _bar(self, vm: str) -> str:
        """Freeze the slice, each time: somebody may have made it anew since. Return why that did not work, if so."""
        try:
            self._slices.bar(vm)
        except OSError as error:
            return f"its slice can't be frozen: {error}"
        return ""

    def _let_go(self, vm: str) -> None:
        """Forget a VM that is dead and has nothing granted any more."""
        self._doomed.discard(vm)
        self._next_kill_s.pop(vm, None)
        self._faults.pop(vm, None)
        self._grants.pop(vm, None)

    def _arm(self, vm: str, until_s: float) -> bool:
        """Tell the device a moment for a VM; whether the node is protected as the configuration requires."""
        self._armed.add(vm)
        return self._watchdog.arm(until_s, vm)

    def _let_the_device_rest(self) -> None:
        """Take from the device's care what is dead, unless something lives that only an earlier fencer has told it of;
        with nothing alive also what that one may have left counting.
        """
        alive = {vm for vm, grant in self._grants.items() if grant.kind is Kind.RUN} | self._doomed
        if alive <= self._armed:
            for vm in self._armed - alive:
                self._watchdog.disarm(vm)
            self._armed &= alive
            if not alive:
                self._watchdog.disarm("")

    def _may_run(self, vm: str) -> bool:
        """Whether a VM was prepared, and is neither dead nor forbidden since."""
        return vm in self._grants and self._grants[vm].kind is Kind.RUN

    def _is_empty(self, vm: str, unknown: bool | None = False) -> Any:
        """Whether the VM is dead; `unknown` where the kernel does not say: not known is not dead."""
        try:
            return self._slices.is_empty(vm)
        except OSError as error:
            self._faults[vm] = f"whether its slice is empty can't be known: {error}"
            return unknown

    def _remember(self, vm: str, grant: Grant) -> None:
        """Write a grant down, then let it count.

        :raises FailedError: it could not be written; what counted before still does.
        """
        try:
            self._memory.save({**self._grants, vm: grant})
        except OSError as error:
            raise FailedError(f"the grant of {vm} can't be written down: {error}") from error
        self._grants[vm] = grant

    def _must_not_be_doomed(self, vm: str, now_s: float) -> None:
        """Refuse what comes after T, also if T has come since the last look.

        :raises RefusedError: the VM is being killed.
        """
        self._look_at(vm, now_s)
        if vm in self._doomed:
            raise RefusedError(f"{vm} is being killed: nothing can be granted before its slice is empty")

    @staticmethod
    def _must_be_time(until_s: float, kill_s: float, now_s: float) -> None:
        """Refuse what is no time of a lease.

        :raises InputError: names the value.
        """
        if not until_s - now_s <= LONGEST_S:  # not a number is not less, either
            raise InputError(f"until_s is {until_s!r}: at most {LONGEST_S:g} s ahead of CLOCK_BOOTTIME {now_s:.3f}")
        if not 0 < kill_s <= LONGEST_S:
            raise InputError(f"kill_s is {kill_s!r}: give seconds, above 0 and up to {LONGEST_S:g}")

    def _must_be_ahead(self, until_s: float, kill_s: float, now_s: float) -> None:
        """Refuse a moment that has passed, too.

        :raises InputError: names the value.
        """
        self._must_be_time(until_s, kill_s, now_s)
        if until_s <= now_s:
            raise InputError(f"until_s is {until_s!r}: that has passed, CLOCK_BOOTTIME is {now_s:.3f}")
