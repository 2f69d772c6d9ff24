"""Client of the guard's unix socket: one request and its answer, or the stream of its events.

Silence and refusal are never mixed up: what cannot be reached is an UnreachableError with the remedy, what was
asked and not answered in time a DeadlineError (the outcome is not known), and what the guard itself answers as
an error comes out as the class it went in (:func:`mnha.errors.from_wire`). No call waits longer than its
`timeout_s` in all.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

from ..errors import BugError, DeadlineError, FailedError, UnreachableError, from_wire

SOCKET = "/run/mnha/guard.sock"
PROTOCOL = 1
MAX_LINE = 4 * 1024 * 1024
"""A longer answer is a fault of the guard: it would make the reader swell instead of failing."""


def request(op: str, *, path: str = SOCKET, timeout_s: float = 5.0, **fields: Any) -> dict[str, Any]:
    """Ask the guard for `op` and return its result.

    :param fields: further fields of the request; those that are None are left out.
    :raises UnreachableError: no guard listens there; nothing happened.
    :raises DeadlineError: no answer within `timeout_s`; what was ordered may still happen.
    :raises MnhaError: what the guard answered (refused, invalid, failed, …).
    """
    with _Line(path, timeout_s) as line:
        line.send({"v": PROTOCOL, "op": op, **{name: value for name, value in fields.items() if value is not None}})
        return _result(line.receive(), op)


def stream(*, path: str = SOCKET, timeout_s: float = 5.0) -> Iterator[dict[str, Any]]:
    """The present status, then each transition as it happens, until the guard or the caller closes.

    `timeout_s` bounds the connection and the first line only; between events silence is normal.
    """
    with _Line(path, timeout_s) as line:
        line.send({"v": PROTOCOL, "op": "events"})
        yield _result(line.receive(), "events")
        line.wait_for_ever()
        while True:
            try:
                answer = line.receive()
            except UnreachableError:
                return
            if event := _result(answer, "events"):  # an empty one only shows that both ends are there
                yield event


def _result(answer: dict[str, Any], op: str) -> dict[str, Any]:
    """The result of an answer, or the error in it, raised."""
    result = answer.get("result")
    if answer.get("ok") is True and isinstance(result, dict):
        return result
    if answer.get("ok") is False and isinstance(answer.get("error"), dict):
        raise from_wire(answer["error"])
    raise BugError(
        f"the guard's answer to {op!r} does not follow the protocol; are guard and Salt modules of one version?"
    )


class _Line:
    """A connection that speaks JSON lines, with one deadline for everything."""

    def __init__(self, path: str, timeout_s: float) -> None:
        self._path, self._timeout_s = path, timeout_s
        self._until_s: float | None = time.monotonic() + timeout_s
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> _Line:
        try:
            self._limit()
            self._socket.connect(self._path)
        except OSError as error:
            self._socket.close()
            raise self._explained(error) from error
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send one object."""
        try:
            self._limit()
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise self._explained(error) from error

    def receive(self) -> dict[str, Any]:
        """The next object."""
        while b"\n" not in self._buffer:
            try:
                self._limit()
                part = self._socket.recv(65536)
            except OSError as error:
                raise self._explained(error) from error
            if not part:
                raise UnreachableError(
                    f"the guard closed {self._path} without an answer; see `journalctl -u mnha-guard`"
                )
            self._buffer += part
            if len(self._buffer) > MAX_LINE:
                raise BugError(f"the guard's answer at {self._path} is longer than {MAX_LINE} bytes")
        text, self._buffer = self._buffer.split(b"\n", 1)
        try:
            message = json.loads(text)
        except ValueError as error:
            raise BugError(f"the guard's answer at {self._path} is not JSON: {error}") from error
        if not isinstance(message, dict):
            raise BugError(f"the guard's answer at {self._path} is no JSON object")
        return message

    def wait_for_ever(self) -> None:
        """From now on silence is normal."""
        self._until_s = None

    def _limit(self) -> None:
        """Let the next step take what is left of the time; none left is the time-out itself."""
        if self._until_s is None:
            self._socket.settimeout(None)
            return
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._socket.settimeout(left_s)

    def _explained(self, error: OSError) -> Exception:
        """The error of this project for what the system says, with the remedy."""
        match error:
            case FileNotFoundError():
                return UnreachableError(
                    f"the guard's socket {self._path} is not there: the guard does not run on this node. "
                    "`systemctl start mnha-guard`; state.apply states.guard installs it"
                )
            case ConnectionRefusedError() | ConnectionResetError() | BrokenPipeError():
                return UnreachableError(
                    f"nobody answers at the guard's socket {self._path}: the guard has ended. "
                    "`systemctl restart mnha-guard`, and see `journalctl -u mnha-guard` for why"
                )
            case PermissionError():
                return FailedError(f"the guard's socket {self._path} is for root only: run this as root")
            case TimeoutError() | BlockingIOError():
                return DeadlineError(
                    f"the guard did not answer at {self._path} within {self._timeout_s:g} s; an order may still "
                    "be carried out: read guard.status before repeating it"
                )
        return UnreachableError(f"the guard's socket {self._path} fails: {error.strerror or error}")
