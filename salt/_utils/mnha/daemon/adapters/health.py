"""Whether the guest answers: its agent, or its TCP port. For policy only; nothing of it touches the lease.

A guest is *hung* when it has answered since its start and then none of the ways that are configured brought an answer
several times in a row. One that never answered is not hung: it may have no agent, or a firewall. Resetting it again and
again would be worse than telling.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Mapping
from typing import Any

import libvirt
import libvirt_qemu

from ...errors import MnhaError
from ...host.clock import boottime_s
from ..threads import Forever
from .libvirt import Connection

PING = '{"execute":"guest-ping"}'
HANGS_S = 30.0
"""How much longer than its time limits a round may take before the status says that it hangs. libvirt gives a
connection up before that, and the call with it."""

Way = Callable[[], str]
"""One way to ask the guest: returns why there was no answer, empty if there was one."""


@dataclasses.dataclass(frozen=True)
class Health:
    """What is known of the guest.

    :param answered: whether it has answered since its start.
    :param failures: questions in a row without any answer.
    """

    answered: bool = False
    failures: int = 0
    hung: bool = False
    why: str = ""


def judge(before: Health, failures: Mapping[str, str], limit: int, *, overdue: bool) -> Health:
    """The health after one more round of questions. Pure.

    :param failures: way -> why it brought no answer, empty where it did; any answer is an answer.
    :param limit: so many rounds in a row without an answer make a guest that had answered count as hung.
    :param overdue: whether a guest that never answered should have by now.
    """
    why = "; ".join(f"{way}: {reason}" for way, reason in failures.items() if reason)
    if not failures or not all(failures.values()):
        return Health(answered=True, why=why)
    if not before.answered:
        return Health(failures=before.failures + 1, why=f"it has never answered: {why}" if overdue else "")
    count = before.failures + 1
    return Health(answered=True, failures=count, hung=count >= limit, why=why)


class GuestHealth:
    """Asks one VM's guest for ever, while it runs here.

    :param vm: its part of the guard's configuration.
    :param pid: the VM's process on this node, None while it does not run here; a new one is a new start.
    """

    def __init__(self, connection: Connection, vm: dict[str, Any], pid: Callable[[], int | None]) -> None:
        self._connection, self._vm, self._pid = connection, vm, pid
        self._wanted = vm["health"]
        self._seen_pid: int | None = None
        self._since_s = boottime_s()
        self.health = Health()
        limit_s = 2 * self._wanted["timeout_s"] + HANGS_S
        self._thread = Forever(f"health-{vm['name']}", self._turn, limit_s=limit_s)
        self.threads = (self._thread,)

    def start(self) -> None:
        """Start to ask. A thread of its own: the agent may hang, and libvirtd with it."""
        self._thread.start()

    def told(self) -> Health:
        """What is known now: nothing of another process than was asked, and nothing while asking hangs."""
        if hangs := self._thread.hangs:
            return Health(why=f"whether it answers is not known: asking hangs: {hangs}")
        return self.health if self._pid() == self._seen_pid else Health()

    def _turn(self) -> float:
        """Ask once. How it stands is not known when that fails in a way nobody expected: it does not count as hung."""
        try:
            self._round()
        except Exception as error:
            answered = self.health.answered
            self.health = Health(answered=answered, why=f"whether it answers is not known: asking fails: {error!r}")
            raise
        return float(self._wanted["interval_s"])

    def _round(self) -> None:
        """One round of questions."""
        pid = self._pid()
        if pid != self._seen_pid:
            self._seen_pid, self._since_s, self.health = pid, boottime_s(), Health()
        if pid is None:
            return
        failures = {name: way() for name, way in self._ways().items()}
        overdue = boottime_s() - self._since_s > self._wanted["boot_grace_s"]
        health = judge(self.health, failures, self._wanted["failures"], overdue=overdue)
        if self._pid() == pid:  # else it was another VM that answered, or did not
            self.health = health

    def _ways(self) -> dict[str, Way]:
        """The ways that are configured."""
        ways: dict[str, Way] = {}
        if self._wanted["agent"]:
            ways["guest agent"] = self._ask_agent
        if self._wanted["tcp_port"] and self._vm["address"]:
            ways[f"port {self._wanted['tcp_port']}"] = self._ask_port
        return ways

    def _ask_agent(self) -> str:
        """Ping the guest agent."""
        try:
            domain = self._connection.get().lookupByUUIDString(self._vm["uuid"])
            libvirt_qemu.qemuAgentCommand(domain, PING, max(1, round(self._wanted["timeout_s"])), 0)
        except (libvirt.libvirtError, MnhaError) as error:
            return str(error)
        return ""

    def _ask_port(self) -> str:
        """Connect to the guest's port."""
        try:
            with socket.create_connection(
                (self._vm["address"], self._wanted["tcp_port"]), timeout=self._wanted["timeout_s"]
            ):
                return ""
        except OSError as error:
            return str(error)
