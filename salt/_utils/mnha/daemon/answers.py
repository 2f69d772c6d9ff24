"""Where a request that gave an order waits for its outcome."""

from __future__ import annotations

import queue
import threading
from typing import Any

from ..errors import DeadlineError, from_wire


class Answers:
    """Where those who gave an order wait for its end."""

    def __init__(self) -> None:
        self._waiting: dict[int, queue.SimpleQueue[tuple[str, str, dict[str, Any]]]] = {}
        self._last = 0
        self._lock = threading.Lock()

    def ticket(self) -> int:
        """A new number to wait for."""
        with self._lock:
            self._last += 1
            self._waiting[self._last] = queue.SimpleQueue()
            return self._last

    @property
    def awaited(self) -> int:
        """How many have no answer yet."""
        with self._lock:
            return sum(waiting.empty() for waiting in self._waiting.values())

    def put(self, ticket: int, answer: tuple[str, str, dict[str, Any]]) -> None:
        """Answer; nobody may be waiting any more."""
        if waiting := self._waiting.get(ticket):
            waiting.put(answer)

    def wait(self, ticket: int, timeout_s: float) -> dict[str, Any]:
        """Return the answer's data with its message.

        :raises MnhaError: of the answer's kind; DeadlineError when none came.
        """
        try:
            kind, message, data = self._waiting[ticket].get(timeout=timeout_s)
        except queue.Empty:
            raise DeadlineError(f"no outcome within {timeout_s:g} s; see the guard's status") from None
        finally:
            with self._lock:
                self._waiting.pop(ticket, None)
        if kind != "ok":
            raise from_wire({"kind": kind, "message": message})
        return {"message": message, **data}
