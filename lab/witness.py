"""Witnesses of a failover: everything that happens, from all nodes, on one clock.

    with Witness(cluster, tell=print) as witness:
        witness.mark("power cut", "node1", at_ns=cluster.poweroff("node1"))
        witness.wait_for_boot(timeout_s=60)
    print(witness.table())

Three independent sources: the guards' own events (their sockets, reached through /proc), the QEMU processes as this
machine's kernel sees them (lab.monitor), and what the guest writes on its disk (lab.records). A witness is of the
lab: the product does not know that it is watched.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lab import guards
from lab.cluster import Cluster, boottime_ns
from lab.monitor import Life, Monitor
from lab.records import BOOT, OVERLAP, Tail
from lab.settings import LabError

POLL_S = 0.05


@dataclass(frozen=True)
class Event:
    """One thing that happened: `at_s` on CLOCK_BOOTTIME, `kind` one of those that :class:`Failover` looks for."""

    at_s: float
    node: str
    kind: str
    text: str


@dataclass(frozen=True)
class Failover:
    """The moments of one failover, in seconds after the cut; None for what was not seen."""

    old_dead_s: float | None
    expired_s: float | None
    taken_s: float | None
    qemu_s: float | None
    started_s: float | None
    beat_s: float | None
    new_node: str | None


class Witness:
    """Records events from its creation to its end.

    :param tell: called with each event as it comes, in some thread; the command line prints it.
    """

    def __init__(self, cluster: Cluster, tell: Callable[[str], None] | None = None) -> None:
        self._cluster, self._tell = cluster, tell
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._zero_s: float | None = None
        self.monitor = Monitor(on_change=self._on_life)
        self._threads: list[threading.Thread] = []
        self._channels: dict[str, socket.socket] = {}

    def __enter__(self) -> Witness:
        self.monitor.start()
        for name in self._cluster.names:
            self._spawn(self._follow_guard, name)
        self._spawn(self._follow_disk)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for channel in self._channels.copy().values():
            with contextlib.suppress(OSError):  # its end may have been closed by now
                channel.shutdown(socket.SHUT_RDWR)  # else its thread waits for one more line
        self.monitor.stop()
        for thread in self._threads:
            thread.join(timeout=2)

    def mark(self, kind: str, node: str, at_ns: int | None = None, text: str = "") -> float:
        """Record what the caller did; the first mark is the zero of all times. Returns its CLOCK_BOOTTIME in s."""
        at_s = (boottime_ns() if at_ns is None else at_ns) / 1e9
        if self._zero_s is None:
            self._zero_s = at_s
        self._add(Event(at_s, node, kind, text or kind))
        return at_s

    def events(self) -> list[Event]:
        """All events so far, by time."""
        with self._changed:
            return sorted(self._events, key=lambda event: event.at_s)

    def first(self, kind: str, after_s: float = 0.0, node: str | None = None) -> Event | None:
        """The first event of a kind at or after `after_s`, of `node` if given."""
        return next((e for e in self.events() if e.kind == kind and e.at_s >= after_s and node in (None, e.node)), None)

    def wait_for(self, kind: str, timeout_s: float, after_s: float | None = None, node: str | None = None) -> Event:
        """Wait for an event of a kind after `after_s` (default: the first mark).

        :raises LabError: it does not come; the message has all that came instead.
        """
        after_s = (self._zero_s or 0.0) if after_s is None else after_s
        end = time.monotonic() + timeout_s
        while (event := self.first(kind, after_s, node)) is None:
            rest_s = end - time.monotonic()
            if rest_s <= 0:
                raise LabError(f"no {kind!r} within {timeout_s:g} s; this came instead:\n{self.table()}")
            with self._changed:
                self._changed.wait(min(rest_s, 0.5))
        return event

    def failover(self, cut_s: float) -> Failover:
        """The moments of the first failover after `cut_s`."""

        def since(event: Event | None) -> float | None:
            return None if event is None else event.at_s - cut_s

        started = self.first("started", cut_s)
        new_node = started.node if started else None
        return Failover(
            old_dead_s=since(self.first("QEMU ended", cut_s)),
            expired_s=since(self.first("expired", cut_s, new_node)),
            taken_s=since(self.first("taken", cut_s)),
            qemu_s=since(self.first("QEMU began", cut_s)),
            started_s=since(started),
            beat_s=since(self.first("guest up", cut_s)),
            new_node=new_node,
        )

    def table(self) -> str:
        """All events as a table, times relative to the first mark."""
        zero_s = self._zero_s or (self.events()[0].at_s if self._events else 0.0)
        return "\n".join(_line(event, zero_s) for event in self.events())

    # sources

    def _spawn(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name="lab-witness", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _add(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
        if self._tell and self._zero_s is not None:
            self._tell(_line(event, self._zero_s))

    def _on_life(self, life: Life) -> None:
        if life.end_ns is None and life.resumed_ns is not None:
            text = f"QEMU that a migration brought can write, process {life.pid}"
            self._add(Event(life.resumed_ns / 1e9, life.node, "QEMU resumed", text))
        elif life.end_ns is None:
            self._add(Event(life.begin_ns / 1e9, life.node, "QEMU began", f"QEMU began, process {life.pid}"))
        else:
            self._add(Event(life.end_ns / 1e9, life.node, "QEMU ended", f"QEMU ended, process {life.pid}"))

    def _follow_guard(self, name: str) -> None:
        """A guard's stream of events, again and again: nodes and guards come and go."""

        def opened(channel: socket.socket) -> None:
            self._channels[name] = channel

        while not self._stop.is_set():
            with (
                contextlib.suppress(OSError, ValueError, LabError),
                guards.stream(self._cluster, name, {"op": "events"}, opened=opened) as lines,
            ):
                for line in lines:
                    if self._stop.is_set():
                        return
                    self._on_guard(name, json.loads(line).get("result", {}))
            self._stop.wait(0.2)

    def _on_guard(self, name: str, result: dict[str, Any]) -> None:
        """One line of a guard's stream: history records have an `event`, log lines only a text."""
        if not isinstance(result, dict) or "event" not in result:
            return
        timeline = result.get("timeline") or {}
        if result["event"] == "started" and "expired_s" in timeline:
            self._add(Event(timeline["expired_s"], name, "expired", "the lease had expired, by its successor's clock"))
        self._add(Event(result["boottime_s"], name, result["event"], result["text"]))

    def _follow_disk(self) -> None:
        """What the guest writes: its boots, and any sign of a second writer."""
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                tail = Tail(self._cluster.settings.disk_image)
                while not self._stop.wait(POLL_S):
                    for record in tail.poll():
                        if record.kind == BOOT:
                            text = f"the guest is up: boot {record.boot_id[:8]}, epoch {record.epoch}"
                            self._add(Event(boottime_ns() / 1e9, "guest", "guest up", text))
                        elif record.kind == OVERLAP:
                            text = f"OVERLAP: boot {record.boot_id[:8]} found records of {record.other[:8]}"
                            self._add(Event(boottime_ns() / 1e9, "guest", "overlap", text))
            self._stop.wait(POLL_S)


def _line(event: Event, zero_s: float) -> str:
    return f"{event.at_s - zero_s:+9.3f} s  {event.node:<6}  {event.text}"
