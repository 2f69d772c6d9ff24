"""The guard's doors to the world. Everything that does I/O, takes time or reads a clock stands behind one of these.

No method waits. A command is handed over and returns at once; what comes of it arrives later as an event in
:meth:`mnha.core.guard.Guard.handle`. So a hung libvirtd, Consul or disk can't keep the guard from its deadline, and the
simulation runs the same guard, unchanged, without a thread.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import Any, Protocol

from .model import Lease, Op, Pause, Run, Vm

# ---- events: what the world tells the guard


@dataclasses.dataclass(frozen=True)
class LeaseSeen:
    """A lease record was received.

    :param lease: None when the key does not exist.
    :param index: its ModifyIndex.
    :param received_s: CLOCK_BOOTTIME when the answer was received; never earlier than the record's commit.
    :param consistent: whether the leader vouched for it; a stale copy may be older than what was seen already.
    :param asked_s: of a consistent read, CLOCK_BOOTTIME *before* it was asked: it vouches for no moment before that.
    """

    lease: Lease | None
    index: int
    received_s: float
    consistent: bool = False
    asked_s: float = float("-inf")


@dataclasses.dataclass(frozen=True)
class ReadFailed:
    """A consistent read did not succeed."""

    error: str


class Outcome(StrEnum):
    """What became of a compare-and-set. Only GRANTED is a yes, only REFUSED a no."""

    GRANTED = "granted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclasses.dataclass(frozen=True)
class Answered:
    """A compare-and-set has ended.

    :param ticket: the number that the guard gave it.
    :param index: the record's new ModifyIndex when granted.
    """

    ticket: int
    outcome: Outcome
    index: int = 0
    error: str = ""


@dataclasses.dataclass(frozen=True)
class VmSeen:
    """The state of the VM's QEMU process on this node.

    OFF is a promise: no process is left that could write, and no start is under way that could still make one.

    :param generation: the newest :meth:`Hypervisor.start` that this observation took into account.
    :param crashed: with OFF, whether it ended other than by the guest's own shutdown or a kill of ours.
    :param pause: with PAUSED, why.
    """

    vm: Vm
    generation: int
    crashed: bool = False
    pid: int | None = None
    pause: Pause = Pause.NONE


@dataclasses.dataclass(frozen=True)
class StartFailed:
    """A start did not succeed; a :class:`VmSeen` with OFF follows.

    :param locked: somebody else may still have the image open.
    """

    generation: int
    error: str
    locked: bool = False


@dataclasses.dataclass(frozen=True)
class Moved:
    """A migration away from this node has ended.

    :param generation: the one of its :meth:`Hypervisor.migrate`.
    :param error: why it failed; empty when libvirt says that the VM is at the target, complete and paused, and that it
        will not go on here.
    """

    generation: int
    error: str = ""


@dataclasses.dataclass(frozen=True)
class FencerSeen:
    """The fencer can be asked, or can't be any more. Requests without an answer have none by then.

    :param there: whether it can.
    """

    there: bool


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """The fencer has answered a request; in the order in which they were sent.

    :param ticket: the number that the guard gave it.
    :param protected: whether the watchdog counts for the VM.
    :param as_required: whether the node is protected as the configuration requires.
    :param error: why it was not done; empty if it was.
    """

    ticket: int
    protected: bool = False
    as_required: bool = True
    error: str = ""


@dataclasses.dataclass(frozen=True)
class DesiredSeen:
    """The desired state in Consul; None when there is none."""

    run: Run | None


@dataclasses.dataclass(frozen=True)
class MaintenanceSeen:
    """Why this node is in maintenance; empty when it is not."""

    reason: str


@dataclasses.dataclass(frozen=True)
class TurnsSeen:
    """The nodes that may take over without an order, the best first; None while that is not known here."""

    turns: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class AbilitySeen:
    """Whether this node could run the VM.

    :param unable: why not, empty when it could.
    :param storage_lost_s: CLOCK_BOOTTIME since when the folder with the image hangs or fails; None: it is well.
    :param storage_elsewhere: with that, or while the VM is paused here, the nodes whose guards find it well, for
        people; empty if none is known.
    :param storage_full: the folder has no room, for any node.
    """

    unable: str
    storage_lost_s: float | None = None
    storage_elsewhere: str = ""
    storage_full: bool = False


@dataclasses.dataclass(frozen=True)
class Ordered:
    """Somebody asks the guard for something; the answer goes to ``Ports.answer(ticket, …)``.

    :param gentle_s: with RESET, how long the guest may take to shut down before it is killed.
    """

    op: Op
    ticket: int
    reason: str
    wait_s: float
    epoch: int = 0
    target: str = ""
    gentle_s: float = 0.0


@dataclasses.dataclass(frozen=True)
class Ended:
    """The guard's process was asked to end: shut the VM down, give the lease back."""

    reason: str


Event = (
    LeaseSeen
    | ReadFailed
    | Answered
    | VmSeen
    | StartFailed
    | Moved
    | FencerSeen
    | Confirmed
    | DesiredSeen
    | MaintenanceSeen
    | TurnsSeen
    | AbilitySeen
    | Ordered
    | Ended
)

# ---- commands: what the guard asks of the world


class LeaseStore(Protocol):
    """The lease record in Consul."""

    def cas(self, lease: Lease, index: int, ticket: int) -> None:
        """Write `lease` if the record still has ModifyIndex `index`. Ends as :class:`Answered`, or never."""

    def read(self) -> None:
        """Read the record, vouched for by the leader. Ends as :class:`LeaseSeen` or :class:`ReadFailed`, or never."""


class Hypervisor(Protocol):
    """The VM on this node. Reports each change as :class:`VmSeen`."""

    def start(self, epoch: int, generation: int) -> None:
        """Start the VM, telling it its epoch. Ends as :class:`VmSeen`, or :class:`StartFailed` and VmSeen."""

    def migrate(self, target: str, generation: int) -> None:
        """Migrate the VM, live, to the node `target`, where it stays paused. Ends as :class:`Moved`, or never."""

    def abort(self) -> None:
        """Ask libvirt to abort the migration; its end is reported as ever."""

    def resume(self, generation: int) -> None:
        """Resume a VM that a migration has brought. Ends like :meth:`start`."""

    def unpause(self, generation: int) -> None:
        """Resume a VM that QEMU has paused for its disk's sake, and no other. Ends as :class:`VmSeen`, whatever came of
        it; a kill voids it as it does a start.
        """

    def shutdown(self) -> None:
        """Ask the guest to shut down."""

    def kill(self) -> None:
        """SIGKILL the VM's QEMU and void a start that is under way. Ends as :class:`VmSeen` OFF once *confirmed*."""


class Fencer(Protocol):
    """The fencer of this node, for one VM: *until T, then dead*, whatever becomes of the guard (:mod:`mnha.fencer`).

    Each request ends as :class:`Confirmed`, or never; times are CLOCK_BOOTTIME.
    """

    def prepare(self, until_s: float, kill_s: float, ticket: int) -> None:
        """Let the VM run until `until_s`, with the watchdog armed for `kill_s` later; before it starts or resumes."""

    def grant(self, until_s: float, kill_s: float, ticket: int) -> None:
        """Move the moment of a VM that was prepared."""

    def expect(self, until_s: float, ticket: int) -> None:
        """Let what a migration brings stand here, paused, until `until_s`."""

    def forbid(self, ticket: int) -> None:
        """Let nothing be alive, nor come to life, until it is prepared or expected again."""


class Journal(Protocol):
    """Logs, history and the answers to orders."""

    def note(self, event: str, text: str, **data: Any) -> None:
        """Write one event for people and for the cluster's history; must not wait."""

    def log(self, text: str) -> None:
        """Write one line to this node's log only."""

    def answer(self, ticket: int, kind: str, message: str, data: dict[str, Any]) -> None:
        """Answer an order; `kind` is ``ok`` or a kind of the socket's errors."""
