"""Makes the addresses of a guest that runs here those of this node, by its agent. For policy only: nothing of it
touches the lease, and what fails is told and no reason for anything else.

When it is asked stands in :mod:`mnha.guest.moments`, what is set and how in :mod:`mnha.guest.addresses`.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import libvirt
import libvirt_qemu

from ...errors import FailedError, MnhaError
from ...guest import addresses
from ...guest.moments import Begin, Found, Moments
from ...host.clock import boottime_s
from ..threads import Forever
from .health import AGENT_SILENT
from .libvirt import Connection
from .processes import age_s, is_incoming

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is looked whether the VM runs here; nobody is asked for that."""
ANSWER_S = 3
"""How long the agent may take for an answer, in whole seconds."""
EXEC_S = 15.0
"""How long what it runs may take."""
EXEC_LOOK_S = 0.2
HANGS_S = 90.0
"""After this time a round is told to hang. libvirt gives a connection up before that, and the call with it."""
SHOWN = 300
"""So many characters of what the guest said of a failure are told."""


class NotAskedError(Exception):
    """The guest could not be asked, or has not answered: that says nothing of its addresses.

    :param is_silent: whether it is its agent that does not answer.
    """

    def __init__(self, why: str, is_silent: bool) -> None:
        super().__init__(why)
        self.is_silent = is_silent


class GuestNetwork:
    """Looks after the addresses of one VM's guest for ever, while it runs here.

    :param node: this one's name.
    :param vm: its part of the guard's configuration. Without `guest` in it nothing is done.
    :param pid: the VM's process on this node, None while it does not run here.
    """

    def __init__(self, connection: Connection, node: str, vm: dict[str, Any], pid: Callable[[], int | None]) -> None:
        self._connection, self._node, self._vm, self._pid = connection, node, vm, pid
        self._wanted: dict[str, Any] | None = vm.get("guest")
        self._boot_s: float = vm["health"]["boot_grace_s"]
        self._seen_pid: int | None = None
        self._moments: Moments | None = None
        self._reboots = self._reboots_seen = 0
        self._why = ""
        self._thread = Forever(f"guest-{vm['name']}", self._turn, limit_s=HANGS_S)
        self.threads = (self._thread,) if self._wanted else ()

    def start(self) -> None:
        """Start to look. A thread of its own: the agent may hang, and libvirtd with it."""
        if self._wanted:
            self._connection.listen_for_reboots(self.note_reboot)
            self._thread.start()

    def note_reboot(self, vm: str) -> None:
        """The guest begins anew, in the same process. From any thread."""
        if vm == self._vm["name"]:
            self._reboots += 1

    def told(self) -> dict[str, Any]:
        """What is known now: `why` its addresses are not those of this node (empty: nothing is known of that), and
        whether they were `set`, or found so, since it runs here.
        """
        pid = self._pid()
        is_known = pid is not None and (pid, self._reboots) == (self._seen_pid, self._reboots_seen)
        moments = self._moments if is_known else None
        return {"why": self._why if moments else "", "set": bool(moments and moments.is_right)}

    def _turn(self) -> float:
        """Ask, if it is time for that."""
        self._round()
        return LOOK_S

    def _round(self) -> None:
        """Ask, and set what is to be set, if it is time."""
        if (pid := self._pid()) is None:
            return
        if pid != self._seen_pid or self._reboots != self._reboots_seen:
            how = Begin.RUNNING if self._reboots == self._reboots_seen and self._has_booted(pid) else Begin.BOOT
            self._seen_pid, self._reboots_seen = pid, self._reboots
            self._moments, self._why = Moments(how, boottime_s()), ""
        moments = self._moments
        if moments is None or boottime_s() < moments.next_s:
            return
        try:
            self._look_after(moments)
        except NotAskedError as failure:
            moments.silent(boottime_s())
            self._why = self._overdue(moments, str(failure)) if failure.is_silent else self._why
        except MnhaError as failure:
            moments.was_set(boottime_s(), well=False)
            self._tell(failure.message)

    def _has_booted(self, pid: int) -> bool:
        """Whether a VM that is new to this guard has booted before: elsewhere, or here for a while."""
        return is_incoming(pid) or age_s(pid) > self._boot_s

    def _look_after(self, moments: Moments) -> None:
        """Ask once, and set the addresses if they are to be set.

        :raises NotAskedError: it could not be asked.
        :raises FailedError: they can't be set.
        """
        assert self._wanted is not None, "without it there is no thread"
        found = addresses.devices_of(self._ask("guest-network-get-interfaces"))
        state = addresses.state(self._wanted, found)
        if not moments.answered(boottime_s(), state):
            if state is Found.RIGHT and moments.is_right:
                self._why = ""
            return
        if faults := addresses.differences(self._wanted, found):
            log.warning("%s: its addresses are set: %s", self._vm["name"], "; ".join(faults))
        self._run(addresses.script(self._wanted, found, self._vm["name"], self._node))
        found = addresses.devices_of(self._ask("guest-network-get-interfaces"))
        if faults := addresses.differences(self._wanted, found):
            raise FailedError("; ".join(faults))
        moments.was_set(boottime_s(), well=True)
        if self._why:
            log.warning("%s: its addresses are those of %s", self._vm["name"], self._node)
        self._why = ""

    def _tell(self, why: str) -> None:
        """It has failed, and will be tried again."""
        why = f"{self._node}'s addresses could not be set: {why}"
        if why != self._why:
            log.warning("%s: %s", self._vm["name"], why)
        self._why = why

    def _overdue(self, moments: Moments, error: str) -> str:
        """What is told of a silent agent: something if it is needed, and should have been heard by now."""
        assert self._wanted is not None, "without it there is no thread"
        if not addresses.differs_by_node(self._wanted) or not moments.is_overdue(boottime_s(), self._boot_s):
            return self._why
        return (
            f"{self._node}'s addresses could not be set: its agent does not answer ({error}): is qemu-guest-agent "
            "running in it?"
        )

    def _ask(self, command: str, **arguments: Any) -> Any:
        """What the agent returns.

        :raises NotAskedError: libvirtd or the agent does not answer.
        :raises FailedError: it refuses.
        """
        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        try:
            domain = self._connection.get().lookupByUUIDString(self._vm["uuid"])
            return json.loads(libvirt_qemu.qemuAgentCommand(domain, request, ANSWER_S, 0))["return"]
        except libvirt.libvirtError as error:
            code = error.get_error_code()
            if code == libvirt.VIR_ERR_INTERNAL_ERROR and command in str(error):
                remedy = f"allow its agent {command}" if "disabled" in str(error) else "see the guest's journal"
                raise FailedError(f"{error}; {remedy}") from error
            raise NotAskedError(str(error), code in AGENT_SILENT) from error
        except MnhaError as error:
            raise NotAskedError(error.message, is_silent=False) from error
        except (ValueError, KeyError, TypeError) as error:
            raise FailedError(f"what its agent returned of {command} can't be understood: {error!r}") from error

    def _run(self, script: str) -> None:
        """Run a shell script in the guest, to its end.

        :raises NotAskedError: the agent does not answer (any more).
        :raises FailedError: it can't be run, or fails.
        """
        arguments: dict[str, Any] = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        number = self._ask("guest-exec", **arguments)["pid"]
        end_s = boottime_s() + EXEC_S
        while not (status := self._ask("guest-exec-status", pid=number)).get("exited"):
            if boottime_s() > end_s:
                raise FailedError(f"the script in the guest (process {number}) does not end within {EXEC_S:g} s")
            time.sleep(EXEC_LOOK_S)
        if status.get("exitcode") != 0:
            said = base64.b64decode(status.get("err-data", "")).decode("utf-8", "replace").strip()[-SHOWN:]
            ended = f"exit code {status['exitcode']}" if "exitcode" in status else f"signal {status.get('signal')}"
            raise FailedError(f"the script in the guest ends with {ended}: {said or 'it says nothing'}")
