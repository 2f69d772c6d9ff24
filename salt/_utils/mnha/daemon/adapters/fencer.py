"""The fencer as the guards of a node know it: a socket on which each request is answered in its turn.

A guard waits for nothing here. What it asks is sent at once or not at all; a thread takes the answers, and connects
again when the connection is gone. With the connection goes all that was not answered.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...core.ports import Confirmed, Event, FencerSeen
from ...errors import DeadlineError, MnhaError, UnreachableError, from_wire
from ...fencer.rules import LONGEST_S, Kind
from ...host.clock import boottime_s
from ..threads import Forever

log = logging.getLogger(__name__)

VERSION = 1
MOST_BYTES = 65536
RECONNECT_S = 0.1
ANSWER_S = 0.2
"""How long a question waits for its answer. The fencer answers within a millisecond; one that does not is stopped."""
SILENT_S = 1.0
"""A fencer that owes an answer for so long is not there."""
LOOK_EVERY_S = 0.5
HANGS_S = UNTOLD_S = 5.0
"""How long it may tell nothing of how it stands before it can't be relied on, though it answers."""
OLD_S = 2.0
"""How long what it told last counts: longer than its restart takes, for the device counts on meanwhile."""


class Link:
    """The connection of a guard's process to the fencer.

    :param path: the fencer's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._posts: dict[str, Callable[[Event], None]] = {}
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._owed: deque[tuple[str, int, float]] = deque()
        self._why = "not connected yet"
        self._told_s, self._untold = float("inf"), ""
        self._seen: dict[str, Any] = {}
        self._taker = Forever("fencer", self._connect)
        self.threads = (self._taker, Forever("fencer-status", self._look, limit_s=HANGS_S))

    @property
    def seen(self) -> Mapping[str, Any]:
        """Its newest status; empty before the first, and when it has told none for :data:`OLD_S`."""
        return {} if boottime_s() - self._told_s > OLD_S else self._seen

    def for_vm(self, vm: str, post: Callable[[Event], None]) -> Desk:
        """The fencer of one VM; `post` takes the events, from the link's thread."""
        self._posts[vm] = post
        return Desk(self, vm)

    def start(self) -> None:
        """Connect, and stay connected."""
        self._told_s = boottime_s()
        for thread in self.threads:
            thread.start()

    @property
    def error(self) -> str:
        """Why the fencer can't be relied on now; empty if it can."""
        with self._lock:
            if self._channel is not None:
                is_old = boottime_s() - self._told_s > UNTOLD_S
                return f"the fencer does not tell how it stands: {self._untold}" if is_old else ""
        return f"the fencer does not answer at {self._path}: {self._why}; see `systemctl status mnha-fencer`"

    def watchdog(self) -> dict[str, Any]:
        """What it tells of the watchdog: `mode`, `device`, `armed`, `failing`, `why`, `objection`."""
        unknown = {"mode": "unknown", "device": "", "armed": False, "failing": False, "why": self.error}
        return {**unknown, "objection": "", **self.seen.get("watchdog", {})}

    def fault(self, vm: str) -> str:
        """What the fencer finds wrong with a VM; empty if nothing."""
        return str(self.seen.get("vms", {}).get(vm, {}).get("fault", ""))

    def send(self, vm: str, ticket: int, op: str, **fields: Any) -> None:
        """Send a request of a VM's guard, or lose it: then the connection is, or is being, lost as well."""
        packet = json.dumps({"v": VERSION, "op": op, "vm": vm, **fields}).encode()
        with self._lock:
            if self._channel is None:
                return
            try:
                self._channel.send(packet, socket.MSG_DONTWAIT)
                self._owed.append((vm, ticket, boottime_s()))
            except Exception as error:  # whatever it was, the guard must not take it for sent
                self._why = getattr(error, "strerror", None) or str(error)
                with contextlib.suppress(OSError):
                    self._channel.shutdown(socket.SHUT_RDWR)  # its thread takes it from here

    def _connect(self) -> float:
        """Connect, and take answers until the connection is gone.

        :raises UnreachableError: by nonsense, which lets the next attempt wait longer each time.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
                channel.settimeout(ANSWER_S)
                channel.connect(str(self._path))
                channel.send(json.dumps({"v": VERSION, "op": "status"}).encode())
                if packet := channel.recv(MOST_BYTES):  # one that is stopped is connected to, and answers nothing
                    read(packet)
                    self._take_answers(channel)
        except TimeoutError:
            self._why = f"no answer within {ANSWER_S:g} s"
        except OSError as error:
            self._why = error.strerror or str(error)
        except MnhaError as error:
            self._why = error.message
            raise
        except Exception as error:
            self._why = repr(error)
            raise
        return RECONNECT_S

    def _take_answers(self, channel: socket.socket) -> None:
        """Take answers until the connection breaks, or one is owed for too long."""
        with self._lock:
            self._channel = channel
        self._post_all(FencerSeen(True))
        try:
            while (packet := self._next_answer(channel)) is not None:
                answer = read(packet)
                with self._lock:
                    if not self._owed:
                        raise UnreachableError("the fencer has answered what nobody has asked")
                    vm, ticket, _ = self._owed.popleft()
                self._posts[vm](confirmed(ticket, answer))
                self._taker.well()
        finally:
            with self._lock:
                self._channel = None
                self._owed.clear()
            self._post_all(FencerSeen(False))

    def _next_answer(self, channel: socket.socket) -> bytes | None:
        """The next packet; None: there will be none."""
        while True:
            try:
                packet = channel.recv(MOST_BYTES)
            except TimeoutError:
                with self._lock:
                    silent_s = boottime_s() - self._owed[0][2] if self._owed else 0.0
                if silent_s < SILENT_S:
                    continue
                self._why = f"no answer within {SILENT_S:g} s"
                return None
            self._why = "it has ended"
            return packet or None

    def _post_all(self, event: Event) -> None:
        for post in self._posts.values():
            post(event)

    def _look(self) -> float:
        """Ask for its status, on a connection of its own."""
        try:
            self._seen = status_of(ask(self._path, "status"))
            self._told_s = boottime_s()
        except Exception as error:
            self._untold = error.message if isinstance(error, MnhaError) else repr(error)
            if not isinstance(error, MnhaError):
                raise
        return LOOK_EVERY_S


class Desk:
    """The fencer of one VM: a :class:`mnha.core.ports.Fencer`."""

    def __init__(self, link: Link, vm: str) -> None:
        self._link, self._vm = link, vm

    def prepare(self, until_s: float, kill_s: float, ticket: int) -> None:
        """See :class:`mnha.core.ports.Fencer`."""
        self._link.send(self._vm, ticket, "prepare", until_s=until_s, kill_s=kill_s)

    def grant(self, until_s: float, kill_s: float, ticket: int) -> None:
        """See :class:`mnha.core.ports.Fencer`."""
        self._link.send(self._vm, ticket, "grant", until_s=until_s, kill_s=kill_s)

    def expect(self, until_s: float, ticket: int) -> None:
        """See :class:`mnha.core.ports.Fencer`."""
        self._link.send(self._vm, ticket, "expect", until_s=until_s)

    def forbid(self, ticket: int) -> None:
        """See :class:`mnha.core.ports.Fencer`."""
        self._link.send(self._vm, ticket, "kill")


def read(packet: bytes) -> dict[str, Any]:
    """An answer of the fencer: either `ok` is true, or it is false and `error` says why.

    :raises UnreachableError: it is none.
    """
    try:
        answer = json.loads(packet)
        if answer["ok"] is not True and (answer["ok"] is not False or not isinstance(answer["error"]["message"], str)):
            raise ValueError("neither a yes nor a no")
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UnreachableError(f"the fencer's answer can't be read: {packet!r:.100}: {error}") from error
    return dict(answer)


def status_of(answer: dict[str, Any]) -> dict[str, Any]:
    """A status of the fencer.

    :raises UnreachableError: it is none.
    """
    vms, watchdog = answer.get("vms"), answer.get("watchdog")
    if not (
        isinstance(vms, dict) and all(isinstance(one, dict) for one in vms.values()) and isinstance(watchdog, dict)
    ):
        raise UnreachableError(f"the fencer's status can't be read: {answer!r:.100}")
    return answer


def confirmed(ticket: int, answer: Mapping[str, Any]) -> Confirmed:
    """An answer of the fencer as the guard's event. Only its own yes is one."""
    error = "" if answer["ok"] is True else answer["error"]["message"] or "it says no, and not why"
    protected = answer.get("protected") is True
    return Confirmed(ticket, protected, answer.get("as_required", True) is True, error)


def ask(path: Path, op: str, timeout_s: float = ANSWER_S, **fields: Any) -> dict[str, Any]:
    """Ask the fencer something, on a connection of its own.

    :raises UnreachableError: it can't be reached.
    :raises DeadlineError: it does not answer within `timeout_s`.
    :raises MnhaError: of the kind that it answers.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
            channel.settimeout(timeout_s)
            channel.connect(str(path))
            channel.send(json.dumps({"v": VERSION, "op": op, **fields}).encode())
            packet = channel.recv(MOST_BYTES)
    except TimeoutError as error:
        raise DeadlineError(f"the fencer does not answer within {timeout_s:g} s at {path}") from error
    except OSError as error:
        raise UnreachableError(
            f"the fencer can't be reached at {path}: {error}; see `systemctl status mnha-fencer`"
        ) from error
    if not packet:
        raise UnreachableError(f"the fencer at {path} has ended")
    answer = read(packet)
    if answer["ok"] is not True:
        raise from_wire(answer["error"])
    return answer


def granted(path: Path, wait_s: float) -> dict[str, tuple[float, float]]:
    """What the fencer lets run now: VM -> (until, K). For a guard that begins, which waits for it for a moment.

    Nothing if it does not answer, or can't be understood: what is found running is then killed by the guard, for nobody
    else may.
    """
    end_s = time.monotonic() + wait_s
    while True:
        try:
            return granted_by(status_of(ask(path, "status"))["vms"])
        except MnhaError as error:
            if time.monotonic() > end_s:
                log.warning("what the fencer lets run is not known: %s", error.message)
                return {}
            time.sleep(RECONNECT_S / 2)


def granted_by(vms: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Of a status of the fencer: VM -> (until, K) of those that may run.

    :raises UnreachableError: they have a moment that no fencer grants.
    """
    try:
        found = {
            vm: (float(one["until_s"]), float(one["kill_s"])) for vm, one in vms.items() if one["kind"] == Kind.RUN
        }
    except (LookupError, TypeError, ValueError) as error:
        raise UnreachableError(f"the fencer's status can't be read: {error!r}") from error
    if not all(until_s - boottime_s() <= LONGEST_S and 0 < kill_s <= LONGEST_S for until_s, kill_s in found.values()):
        raise UnreachableError(f"the fencer's status has a moment that can't be: {found!r:.100}")
    return found
