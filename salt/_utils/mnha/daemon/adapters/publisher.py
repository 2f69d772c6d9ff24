"""What the guard writes for people: its node's record, and the history in the order in which it happened."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from typing import Any

from ...consul.client import KEEP
from ...consul.http import Server
from ...errors import FailedError, MnhaError, UnreachableError
from ...host.clock import boottime_s
from ..threads import Forever, KnownFailure
from .consul import Servers

PUBLISH_TIMEOUT_S = 5.0
AGAIN_S = 1.0
LATE_S = 10.0
"""How long a record may wait for Consul before the status says so."""
HANGS_S = 60.0
"""After this time one task is told to hang; a deletion of much that is old takes some seconds."""
PRUNE_EVERY, PRUNE_AT_MOST = 20, 100
PUBLISH_QUEUE = 256


class Publisher:
    """Writes records that nothing depends on (history, the node's record), one after the other, never waiting.

    The newest value of a key replaces an older one that is still waiting; when Consul is away for long the
    oldest go.
    """

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._waiting: dict[str, Callable[[int], None]] = {}
        self._some = threading.Condition()
        self._appended = 0
        self._late, self._due_s = False, 0.0
        self._thread = Forever("consul-publish", self._work)
        self.threads = (self._thread,)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Write `value` at `key` soon."""
        self._add(key, functools.partial(self._put, key, json.dumps(value, sort_keys=True, ensure_ascii=False)))

    def append(self, folder: str, name: str, value: dict[str, Any]) -> None:
        """Write one record of many soon, and now and then delete all but the newest there: a VM that fails again and
        again must not fill Consul while no Salt process tidies up.

        :param folder: their common prefix, with its `/`.
        :param name: sorts by time.
        """
        self.put(folder + name, value)
        self._appended += 1
        if self._appended % PRUNE_EVERY == 0:
            self._add(folder, functools.partial(self._prune, folder))

    def _add(self, key: str, task: Callable[[int], None]) -> None:
        """Let the thread run `task`, in place of an older one of that key."""
        with self._some:
            self._waiting.pop(key, None)
            self._waiting[key] = task
            if len(self._waiting) > PUBLISH_QUEUE:
                self._waiting.pop(next(iter(self._waiting)))
            self._some.notify()

    def drain(self, limit_s: float) -> None:
        """Wait until all is written, for `limit_s` at the most."""
        end_s = boottime_s() + limit_s
        with self._some:
            while self._waiting and boottime_s() < end_s:
                self._some.wait(0.05)

    def _work(self) -> float:
        """Write what has waited longest, once there is something. What Consul refuses for good, and what fails in a way
        that nobody expected, is dropped: it must not hold up all that comes after it.

        :raises FailedError: it was refused.
        """
        with self._some:
            while not self._waiting:
                self._some.wait()
            if not self._late:
                self._due_s = boottime_s() + LATE_S
            key, task = next(iter(self._waiting.items()))
        self._thread.expect(HANGS_S)
        number = self._servers.pick()
        try:
            task(number)
        except FailedError:
            self._drop(key, task)
            raise
        except MnhaError as error:
            self._servers.failed(number)
            self._late = True
            if boottime_s() > self._due_s:
                raise KnownFailure(f"records can't be written: {error.message}", AGAIN_S) from error
            return AGAIN_S
        except Exception:
            self._drop(key, task)
            raise
        self._drop(key, task)
        return 0.0

    def _drop(self, key: str, task: Callable[[int], None]) -> None:
        """Forget a task, unless a newer one has taken its place."""
        self._late = False
        with self._some:
            if self._waiting.get(key) is task:
                del self._waiting[key]

    def _put(self, key: str, body: str, number: int) -> None:
        """Write one key."""
        written = self._servers.ask(number, PUBLISH_TIMEOUT_S, lambda consul: consul.kv.put(key, body.encode()))
        if written is not True:
            raise UnreachableError(f"Consul at {self._servers.name(number)} does not say that it has written {key}")

    def _prune(self, folder: str, number: int) -> None:
        """Delete what is too old below `folder`, not too much at once."""
        _, found = self._servers.ask(number, PUBLISH_TIMEOUT_S, lambda consul: consul.kv.get(folder, keys=True))
        for key in sorted(found or [])[:-KEEP][:PRUNE_AT_MOST]:
            self._servers.ask(number, PUBLISH_TIMEOUT_S, functools.partial(_delete, key))


def _delete(key: str, consul: Server) -> Any:
    """Delete `key`."""
    return consul.kv.delete(key)
