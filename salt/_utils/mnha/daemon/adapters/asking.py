"""How a guest is asked to shut down, and what is told of one that was asked and is off.

Its agent is asked first, for it tells the guest's init. Where no agent takes the order, ACPI's power button is pressed
at once; where one took it and the guest is still there when the guard asks again, the button is pressed as well: an
agent may wait for ever. When to give up, and kill, is the guard's matter.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from typing import Any

import libvirt

from ...core.guard import SHUTDOWN_RETRY_S
from ...errors import FailedError
from ...host.clock import boottime_s

log = logging.getLogger(__name__)

AGENT, ACPI = "agent", "acpi"
WAYS = {AGENT: "through its agent", ACPI: "by ACPI"}
SHUTDOWN_STALE_S = SHUTDOWN_RETRY_S
"""An order to shut down that has waited for longer, behind one with which libvirtd hung, is not carried out."""
FORGET_S = 2.5 * SHUTDOWN_RETRY_S
"""The guard asks each SHUTDOWN_RETRY_S while it is wanted: after a longer pause it is another wish."""


@dataclasses.dataclass(frozen=True)
class Told:
    """How a guest ended that was asked to shut down.

    :param text: a sentence for people.
    :param how: `agent` or `acpi`, the last way in which it was asked before it shut down by itself; or `killed`.
    :param after_s: how long after it was first wanted.
    """

    text: str
    how: str
    after_s: float


@dataclasses.dataclass(frozen=True)
class Asking:
    """One wish that the guest shuts down. Times are CLOCK_BOOTTIME, in seconds.

    :param first_s: when the guard first asked for it; None: it does not.
    :param last_s: when it last did.
    :param ways: in which the guest was asked, one after the other.
    :param failed: why it could not be asked in other ways.
    """

    first_s: float | None = None
    last_s: float = float("-inf")
    ways: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    def again(self, now_s: float) -> Asking:
        """The guard asks for it now."""
        if self.first_s is None or now_s - self.last_s > FORGET_S:
            return Asking(now_s, now_s)
        return dataclasses.replace(self, last_s=now_s)

    def asked(self, way: str) -> Asking:
        """The guest was asked so."""
        failed = tuple(one for one in self.failed if one[0] != way)
        return dataclasses.replace(self, ways=tuple(dict.fromkeys([*self.ways, way])), failed=failed)

    def refused(self, way: str, why: str) -> Asking:
        """The guest could not be asked so."""
        ways = tuple(one for one in self.ways if one != way)
        return dataclasses.replace(self, ways=ways, failed=tuple({**dict(self.failed), way: why}.items()))

    def told(self, now_s: float, *, killed: bool) -> Told | None:
        """What is to be told when the guest is off now; None: nobody had asked it."""
        if self.first_s is None or now_s - self.last_s > FORGET_S:
            return None
        after_s = round(now_s - self.first_s, 1)
        ways = " and ".join(WAYS[way] for way in self.ways)
        missed = "; ".join(f"not {WAYS[way]}: {why}" for way, why in self.failed)
        end = "was killed" if killed else "shut down by itself"
        asked = f"asked {ways}" if ways else "and could not be asked"
        text = f"the guest {end} after {after_s:g} s, {asked}{f' ({missed})' if missed else ''}"
        return Told(text, "killed" if killed else self.ways[-1] if self.ways else "", after_s)


class Asker:
    """Asks one VM's guest to shut down.

    :param name: the VM's.
    :param domain: its libvirt domain, over a connection of the thread that asks.
    :param is_off: whether the VM is off.
    :ivar last: how the guest ended last that was asked.
    """

    def __init__(self, name: str, domain: Callable[[], Any], is_off: Callable[[], bool]) -> None:
        self._name, self._domain, self._is_off = name, domain, is_off
        self._lock = threading.Lock()
        self._asking, self._busy = Asking(), False
        self.last: Told | None = None

    def begin(self) -> float:
        """The guard wants the guest to shut down; this moment, CLOCK_BOOTTIME in seconds."""
        now_s = boottime_s()
        self._note(lambda asking: asking.again(now_s))
        return now_s

    def ask(self, asked_s: float) -> None:
        """Ask the guest, unless that was wanted so long ago, at `asked_s`, that the guard has asked again since, if it
        still wants it.
        """
        if boottime_s() > asked_s + SHUTDOWN_STALE_S:
            return
        with self._lock:
            by_agent = not self._busy and AGENT not in self._asking.ways
            self._busy = self._busy or by_agent
        if not by_agent:
            self._press_button()
            return
        try:
            threading.Thread(target=self._ask_agent, name=f"vm-{self._name}-agent", daemon=True).start()
        except RuntimeError:  # no thread left
            self._busy = False
            self._press_button()

    def over(self, *, killed: bool) -> Told | None:
        """The guest is off, by itself or `killed`; what is to be told of that."""
        with self._lock:
            asking, self._asking = self._asking, Asking()
        self.last = asking.told(boottime_s(), killed=killed)
        return self.last

    def forget(self) -> None:
        """What was told last is no matter any more."""
        self.last = None

    def _ask_agent(self) -> None:
        """Ask through the agent, in a thread of its own: libvirt waits for a minute for the guest to end."""
        try:
            self._note(lambda asking: asking.asked(AGENT))
            self._domain().shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
        except (libvirt.libvirtError, FailedError) as error:
            if not self._is_off():
                log.info("no shutdown through the guest agent (%s); asking through ACPI", error)
                self._refuse(AGENT, error)
                self._press_button()
        finally:
            self._busy = False

    def _press_button(self) -> None:
        """Ask by ACPI."""
        try:
            self._domain().shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        except (libvirt.libvirtError, FailedError) as error:
            log.warning("can't ask %s to shut down: %s", self._name, error)
            self._refuse(ACPI, error)
        else:
            self._note(lambda asking: asking.asked(ACPI))

    def _refuse(self, way: str, error: Exception) -> None:
        self._note(lambda asking: asking.refused(way, str(error)))

    def _note(self, change: Callable[[Asking], Asking]) -> None:
        """Fold something into what is known."""
        with self._lock:
            self._asking = change(self._asking)
