"""The words of the guard as frozen data: what is known (View), what shall be done (Decision), how it is called
(State)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from ..errors import ConfigurationError, FailedError
from .timing import Timings

LEASE_VERSION = 1


class LeaseRecordError(FailedError):
    """The lease record can't be read; nobody may run the VM on the strength of it."""


class Phase(StrEnum):
    """What a lease says of its holder."""

    HELD = "held"
    MIGRATING = "migrating"
    RELEASED = "released"


class Run(StrEnum):
    """The desired state: what the operator wants of the VM."""

    STARTED = "started"
    STOPPED = "stopped"


class Vm(StrEnum):
    """What the guard knows of its VM's QEMU process on this node.

    ARRIVING: a live migration brings it here, or has brought it. It is paused and was never resumed on this node.
    """

    OFF = "off"
    ARRIVING = "arriving"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    UNKNOWN = "unknown"

    @property
    def may_write(self) -> bool:
        """Whether a process may exist that can write to the image. Only a confirmed OFF says no."""
        return self is not Vm.OFF


class Pause(StrEnum):
    """Why a VM stands paused, in words for people; NONE while it does not."""

    NONE = ""
    IO_ERROR = "its disk fails (I/O error)"
    NO_SPACE = "its disk has no space left"
    OPERATOR = "somebody has suspended it"
    OTHER = "libvirt has paused it for a reason of its own"


@dataclasses.dataclass(frozen=True)
class Lease:
    """The record in Consul: who may run the VM.

    :param holder: the node's name; empty when the lease is free.
    :param epoch: grows by one each time the lease changes hands (the fencing token).
    :param phase: held, migrating or released.
    :param target: the node a migration goes to.
    :param source: the node that handed the lease over after a migration, until the VM runs here.
    :param seq: grows by one with each write.
    :param timings: those in force at the holder; observers wait by the longer of these and their own.
    :param reason: why it was last taken or released; for people.
    """

    holder: str
    epoch: int
    phase: Phase
    seq: int
    timings: Timings
    target: str | None = None
    source: str | None = None
    reason: str = ""

    def to_json(self) -> str:
        """Return the record's value."""
        data = dataclasses.asdict(self)
        return json.dumps({"v": LEASE_VERSION, **data}, sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Lease:
        """Read a record's value.

        :raises LeaseRecordError: it is no lease of a version known here.
        """
        try:
            data = json.loads(text)
            version = data.pop("v")
            if version != LEASE_VERSION:
                raise LeaseRecordError(
                    f"the lease has version {version!r}, this guard knows {LEASE_VERSION}: upgrade the guard"
                )
            lease = cls(
                **{**data, "phase": Phase(data["phase"]), "timings": Timings.from_dict(data["timings"])},
            )
        except (KeyError, TypeError, ValueError, AttributeError, ConfigurationError) as error:
            raise LeaseRecordError(f"the lease record can't be read: {error}; repair it by hand: {text!r}") from error
        if not isinstance(lease.epoch, int) or not isinstance(lease.seq, int) or not isinstance(lease.holder, str):
            raise LeaseRecordError(f"the lease record has a field of a wrong type; repair it by hand: {text!r}")
        return lease


@dataclasses.dataclass(frozen=True)
class Sighting:
    """A lease as this node saw it.

    :param index: its ModifyIndex, the handle of every compare-and-set.
    :param received_s: CLOCK_BOOTTIME of this node when it first *received* this index.
    """

    lease: Lease
    index: int
    received_s: float


class Op(StrEnum):
    """What may be ordered from a guard."""

    TAKEOVER = "takeover"
    RELEASE = "release"
    RESET = "reset"
    MIGRATE = "migrate"


class Move(StrEnum):
    """How the live migration away from this node stands, as libvirt tells it."""

    NONE = "none"
    UNDER_WAY = "under way"
    DONE = "done"


@dataclasses.dataclass(frozen=True)
class Order:
    """An order that is not yet done.

    :param epoch: with TAKEOVER, the epoch of the lease that is to be replaced.
    :param index: the lease's ModifyIndex when the order came; a renewal changes it and voids a TAKEOVER.
    :param until_s: CLOCK_BOOTTIME after which the order is void; a migration under way is then aborted.
    :param target: with MIGRATE, the node that shall have the VM.
    :param kill_s: with RESET, CLOCK_BOOTTIME until which the guest may shut down by itself.
    """

    op: Op
    reason: str
    until_s: float
    epoch: int = 0
    index: int = 0
    ticket: int = 0
    target: str = ""
    kill_s: float = float("-inf")


@dataclasses.dataclass(frozen=True)
class View:
    """Everything a decision depends on, at one moment of one node. Times are CLOCK_BOOTTIME seconds of that node.

    :param sighting: the newest lease seen; None before the first.
    :param missing: a consistent read found no lease record at all.
    :param granted_until_s: until when this node may run the VM; None: it may not.
    :param unanswered: how many lease requests (renew, take, release) are unanswered.
    :param next_ask_s: no further lease request before this moment.
    :param must_read: something was refused or lost: only a consistent read tells how things stand.
    :param next_read_s: no further consistent read before this moment.
    :param next_kill_s: no further kill before this moment (the last one is under way).
    :param start_asked_s: when the start that is under way was sent.
    :param start_limit_s: how long a start may take before it is voided.
    :param shutdown_asked_s: when the guest was first asked to shut down, while that is still wanted.
    :param next_shutdown_s: it is not asked again before this moment.
    :param desired: the desired state; None while unknown.
    :param desired_since_s: since when this node knows of that.
    :param shutdown_limit_s: how long a guest may take to shut down before it is killed.
    :param unable: why this node can't run the VM (image, bridge, storage …); empty when it can.
    :param storage_lost_s: since when the folder with the image does not answer, or fails; None while it is well.
    :param storage_elsewhere: the nodes whose guards find it well; empty: nobody could do better.
    :param storage_limit_s: how long a VM that runs here is left alone with that.
    :param storage_full: the folder is well, and has no room.
    :param pause: with PAUSED, why.
    :param troubled_s: since when a failing disk pauses the VM here, now and again; None: it does not.
    :param calm_s: a pause after this moment is another trouble.
    :param resumes: how often it was resumed in this trouble.
    :param next_resume_s: it is not resumed before this moment.
    :param resuming: it is being resumed.
    :param gave_up_s: when a VM was last given to another node for that.
    :param give_up_every_s: it is not done more often than that.
    :param ending: why the guard's process is to end; empty unless it is.
    :param probed: whether `unable` was found out; until then nothing is started here, and nothing given back for it.
    :param failed_starts: starts that failed or VMs that died soon, in a row.
    :param failed_starts_limit: with so many the lease is given back, for another node to try.
    :param armed: the watchdog counts: if it is told nothing more, the node is reset.
    :param fencer_there: whether the fencer can be asked.
    :param fencer_owes: how many requests it has not answered.
    :param promised_until_s: the moment to which the fencer lets the VM run; None: it lets nothing run.
    :param expected_until_s: the moment to which it was last asked to let a migration bring the VM, and has answered;
        None: it was not.
    :param next_bar_s: no bar is asked for before this moment (the last one failed).
    :param barred: whether the fencer has confirmed that nothing of the VM can come to life here.
    :param unprotected: renewals in a row with which the required watchdog could not be armed.
    :param not_before_s: no start and no take-over before this moment (back-off).
    :param move: how the migration away from this node stands.
    :param offered_s: since when the record says that the VM may move from here.
    :param move_until_s: no waiting for its end after this moment.
    :param launched_epoch: the epoch in which this guard last started or resumed the VM.
    :param move_aborted: libvirt was asked to abort it.
    :param masterless_s: how long the lease is to be had, and nobody orders a take-over, before one is done without an
        order; 0: never.
    :param ranking: all nodes, the preferred ones first.
    :param turns: the nodes that may do so, the best first, by the choice of :mod:`.placement`; None: it can't be made
        here.
    :param last_until_s: a lease that was seen before this moment is left to the others first, as the VM could not run
        here. Masters leave it to them, too: the node's record says `failed_here`.
    :param maintenance: why this node, which could run the VM, is to take nothing without an order; empty when it may.
    """

    now_s: float
    node: str
    timings: Timings
    vm: Vm = Vm.UNKNOWN
    sighting: Sighting | None = None
    missing: bool = False
    granted_until_s: float | None = None
    unanswered: int = 0
    next_ask_s: float = float("-inf")
    must_read: bool = False
    next_read_s: float = float("-inf")
    next_kill_s: float = float("-inf")
    start_asked_s: float | None = None
    start_limit_s: float = 30.0
    shutdown_asked_s: float | None = None
    next_shutdown_s: float = float("-inf")
    shutdown_limit_s: float = 60.0
    desired: Run | None = None
    desired_since_s: float = float("-inf")
    order: Order | None = None
    unable: str = ""
    storage_lost_s: float | None = None
    storage_elsewhere: str = ""
    storage_limit_s: float = float("inf")
    storage_full: bool = False
    pause: Pause = Pause.NONE
    troubled_s: float | None = None
    calm_s: float = float("inf")
    resumes: int = 0
    next_resume_s: float = float("-inf")
    resuming: bool = False
    gave_up_s: float = float("-inf")
    give_up_every_s: float = 600.0
    probed: bool = True
    ending: str = ""
    failed_starts: int = 0
    failed_starts_limit: int = 3
    armed: bool = False
    fencer_there: bool = True
    fencer_owes: int = 0
    promised_until_s: float | None = None
    expected_until_s: float | None = None
    barred: bool = True
    next_bar_s: float = float("-inf")
    unprotected: int = 0
    not_before_s: float = float("-inf")
    move: Move = Move.NONE
    offered_s: float = float("-inf")
    move_until_s: float = float("inf")
    move_aborted: bool = False
    launched_epoch: int = -1
    masterless_s: float = 0.0
    ranking: tuple[str, ...] = ()
    turns: tuple[str, ...] | None = None
    last_until_s: float = float("-inf")
    maintenance: str = ""

    @property
    def lease(self) -> Lease | None:
        """The newest lease seen."""
        return self.sighting.lease if self.sighting else None

    def but(self, **changes: Any) -> View:
        """This view with `changes`: ``dataclasses.replace``, several times faster, which the simulation lives on."""
        view = object.__new__(View)
        fields = vars(view)
        fields |= vars(self)
        count = len(fields)
        fields |= changes
        if len(fields) != count:
            raise TypeError(f"a view has no {', '.join(sorted(set(changes) - set(vars(self))))}")
        return view


class Action(StrEnum):
    """What a guard can do."""

    KILL = "kill"
    READ = "read"
    RENEW = "renew"
    TAKE = "take"
    RELEASE = "release"
    PREPARE = "prepare"
    EXPECT = "expect"
    BAR = "bar"
    START = "start"
    SHUTDOWN = "shutdown"
    MIGRATE = "migrate"
    ABORT = "abort the migration"
    HAND_OVER = "hand over"
    RESUME = "resume"
    UNPAUSE = "unpause"
    VOID_ORDER = "void order"


@dataclasses.dataclass(frozen=True)
class Decision:
    """An action and why: the sentence is what the operator reads."""

    action: Action
    reason: str


NOT_PROBED = "the first probes are under way"
"""Why a guard that has just started can't run its VM."""

MAX_UNANSWERED = 6
"""Lease requests in flight at once. With the usual timings that many are of use before the deadline: a limit that is
reached earlier would stop the renewals after a few lost requests, though the network is back in time."""


MAX_UNPROTECTED = 3
"""Renewals in a row with which the required watchdog could not be armed, after which the VM is handed over. One or two
may be a hiccup; after so many what was armed before covers K at least, as three renewals fit into D."""


class State(StrEnum):
    """How a guard stands, in a word; :data:`SENTENCES` has the sentence."""

    NO_QUORUM = "no-quorum"
    UNINITIALISED = "uninitialised"
    STANDBY = "standby"
    WAITING = "waiting"
    TAKING_OVER = "taking-over"
    STARTING = "starting"
    RUNNING = "running"
    DEGRADED = "degraded"
    PAUSED = "paused"
    MIGRATING_OUT = "migrating-out"
    MIGRATING_IN = "migrating-in"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SELF_FENCING = "self-fencing"
    RENEWING = "renewing"


SENTENCES = {
    State.NO_QUORUM: "has not seen the lease: Consul does not answer",
    State.UNINITIALISED: "the lease has not been created: run guard.create_lease",
    State.STANDBY: "watches the lease and may take it",
    State.WAITING: "is to take the lease as soon as it is free or expired",
    State.TAKING_OVER: "asks Consul for the lease",
    State.STARTING: "holds the lease, the VM is starting",
    State.RUNNING: "holds the lease, the VM is running",
    State.DEGRADED: "holds the lease, the VM is not running",
    State.PAUSED: "holds the lease, the VM is paused: nothing in it goes on",
    State.MIGRATING_OUT: "holds the lease, the VM is being migrated away",
    State.MIGRATING_IN: "the VM is being migrated to this node, paused until the lease is handed over",
    State.STOPPING: "holds the lease, the VM is shutting down",
    State.STOPPED: "the VM is stopped, as desired",
    State.SELF_FENCING: "may not run the VM and is killing it",
    State.RENEWING: "is named by the lease but may not run the VM before it has renewed it",
}


def json_of(value: Any) -> Any:
    """Return `value` with its dataclasses, enums and infinities made JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_of(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): json_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_of(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return None
    return value
