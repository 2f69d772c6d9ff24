"""Asks the guest whether it lives, by its agent and its TCP port, and the kernel, whether its virtual CPUs run. For
policy only; nothing of it touches the lease. What it means stands in :mod:`mnha.core.hang`.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
from collections.abc import Callable
from typing import Any

import libvirt
import libvirt_qemu

from ...core.hang import Health, Patience, Reply, Word, judge
from ...errors import MnhaError
from ...host.clock import boottime_s
from ..threads import Forever
from .libvirt import Connection
from .processes import vcpu_turns

PING = '{"execute":"guest-ping"}'
HANGS_S = 30.0
"""How much longer than its time limits a round may take before the status says that it hangs. libvirt gives a
connection up before that, and the call with it."""

REPORT, RESET = "report", "reset"
"""What may be done about a guest that hangs (`on_hung`)."""
GENTLE_S = 30.0
"""How long a guest that hangs, and whose virtual CPUs run, may take to shut down before it is reset: it may hear
ACPI."""

AGENT_SILENT = {
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    libvirt.VIR_ERR_AGENT_UNSYNCED,
    getattr(libvirt, "VIR_ERR_AGENT_COMMAND_TIMEOUT", libvirt.VIR_ERR_AGENT_UNRESPONSIVE),  # newer than Debian 12
}
"""libvirt's errors that say that the guest's agent was asked, or is not there. All others say nothing of the guest."""
PORT_SILENT = {errno.ETIMEDOUT, errno.EHOSTUNREACH}

Way = Callable[[], Reply]
"""One way to ask the guest."""


class GuestHealth:
    """Asks one VM's guest for ever, while it runs here.

    :param vm: its part of the guard's configuration.
    :param pid: the VM's process on this node, None while it does not run here; a new one is a new start.
    """

    def __init__(self, connection: Connection, vm: dict[str, Any], pid: Callable[[], int | None]) -> None:
        self._connection, self._vm, self._pid = connection, vm, pid
        self._wanted = vm["health"]
        self._patience = Patience(self._wanted["failures"], self._wanted["boot_grace_s"])
        self._seen_pid: int | None = None
        self._since_s = self._asked_s = boottime_s()
        self._turns: dict[str, str] | None = None
        self._begins_anew = self._knows_how = False
        self.health = Health()
        self.on_hung = self._wanted.get("on_hung", RESET)
        limit_s = 2 * self._wanted["timeout_s"] + HANGS_S
        self._thread = Forever(f"health-{vm['name']}", self._turn, limit_s=limit_s)
        self.threads = (self._thread,)

    def start(self) -> None:
        """Start to ask. A thread of its own: the agent may hang, and libvirtd with it."""
        self._connection.listen_for_reboots(self.note_reboot)
        self._thread.start()

    def told(self) -> Health:
        """What is known now: nothing of another process than was asked, and nothing while asking hangs."""
        if hangs := self._thread.hangs:
            return Health(why=f"whether it answers is not known: asking hangs: {hangs}")
        return self.health if self._pid() == self._seen_pid and not self._begins_anew else Health()

    def note_reboot(self, vm: str) -> None:
        """The guest begins anew, in the same process: it may take as long as after a start. From any thread."""
        if vm == self._vm["name"]:
            self._begins_anew = True

    def objection(self) -> str:
        """Why the guest is not to be reset for that it hangs; empty if it is."""
        if self.on_hung != RESET:
            return f"on_hung is {self.on_hung}: a guest that hangs is told of, and not reset"
        return "" if self.told().hung else f"{self._vm['name']} does not hang (any more)"

    def gentle_s(self) -> float:
        """How long it may take to shut down before it is reset; 0: its virtual CPUs stand still, it hears nothing."""
        return 0.0 if self.told().still >= self._patience.failures else GENTLE_S

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
            self._seen_pid, self._begins_anew, self._knows_how = pid, True, False
        if self._begins_anew:
            self._begins_anew = False
            self._since_s, self._asked_s, self._turns, self.health = boottime_s(), boottime_s(), None, Health()
        if pid is None:
            return
        replies = {name: way() for name, way in self._ways().items()}
        overdue = boottime_s() - self._since_s > self._patience.boot_s
        before = self.health
        if overdue and self._knows_how:  # before it began anew: then silence is silence
            before = dataclasses.replace(before, answered=True)
        ran, passed_s = self._look(pid)
        health = judge(before, replies, self._patience, ran=ran, passed_s=passed_s, overdue=overdue)
        if self._pid() == pid and not self._begins_anew:  # else it was another VM that answered, or did not
            self.health = health
            self._knows_how |= health.answered

    def _look(self, pid: int) -> tuple[bool | None, float]:
        """Whether a virtual CPU has run since the last look (None: not known), and how long ago that was in seconds."""
        before, before_s = self._turns, self._asked_s
        self._turns, self._asked_s = vcpu_turns(pid), boottime_s()
        known = bool(before) and bool(self._turns)
        return (before != self._turns if known else None), self._asked_s - before_s

    def _ways(self) -> dict[str, Way]:
        """The ways that are configured."""
        ways: dict[str, Way] = {}
        if self._wanted["agent"]:
            ways["guest agent"] = self._ask_agent
        if self._wanted["tcp_port"] and self._vm["address"]:
            ways[f"port {self._wanted['tcp_port']}"] = self._ask_port
        return ways

    def _ask_agent(self) -> Reply:
        """Ping the guest agent."""
        try:
            domain = self._connection.get().lookupByUUIDString(self._vm["uuid"])
            libvirt_qemu.qemuAgentCommand(domain, PING, max(1, round(self._wanted["timeout_s"])), 0)
        except libvirt.libvirtError as error:
            return Reply(Word.SILENT if error.get_error_code() in AGENT_SILENT else Word.NOT_ASKED, str(error))
        except MnhaError as error:
            return Reply(Word.NOT_ASKED, error.message)
        return Reply(Word.ANSWERED)

    def _ask_port(self) -> Reply:
        """Connect to the guest's port. A refusal is an answer of its kernel."""
        try:
            with socket.create_connection(
                (self._vm["address"], self._wanted["tcp_port"]), timeout=self._wanted["timeout_s"]
            ):
                return Reply(Word.ANSWERED)
        except ConnectionRefusedError as error:
            return Reply(Word.ANSWERED, str(error))
        except OSError as error:
            silent = isinstance(error, TimeoutError) or error.errno in PORT_SILENT
            return Reply(Word.SILENT if silent else Word.NOT_ASKED, str(error))
