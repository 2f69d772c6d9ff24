"""Whether this node could run a VM, asked again and again.

The look at the storage runs in a process of its own that may hang for ever (NFS does); one that has not come back in
time says so.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..core.ports import AbilitySeen
from ..host.clock import boottime_s
from . import checks
from .adapters.probe import Check, Ground
from .checks import Sight
from .threads import Fault, Forever

log = logging.getLogger(__name__)

STORAGE_LIMIT_S = 4.0
PROBE_EVERY_S = 2.0
LOOK_AGAIN_S = 0.05
SETTLE_S = 5.0
HANGS_S = 15.0
"""A look that takes longer hangs where nobody expected it, and what was seen before says nothing of now."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """What others of this guard know of the VM and its node: each is asked anew with every probe, and answers at once.

    :param is_running: whether the VM runs here.
    :param is_paused: whether it stands paused here.
    :param qemu: the process of the VM that runs here under this node's lease; 0: there is none.
    :param written: the file that it writes to.
    :param disk_error: why a start from its image must not be; empty where it may.
    :param libvirt_error: why libvirt does not answer, empty when it does.
    :param fencer_error: why the fencer can't be relied on for it, empty when it can.
    :param watchdog_error: why a required watchdog would not work, empty when it would.
    :param lack: why its memory is not to be had here, empty when it is.
    :param disk: the newest look at the disk of this node's Consul server.
    :param storage_elsewhere: the other nodes whose storage is well, for people; asked while it is not well here, or the
        VM is paused here.
    """

    is_running: Callable[[], bool]
    is_paused: Callable[[], bool]
    qemu: Callable[[], int]
    written: Callable[[], str]
    disk_error: Callable[[], str]
    libvirt_error: Callable[[], str]
    fencer_error: Callable[[], str]
    watchdog_error: Callable[[], str]
    lack: Callable[[], str]
    disk: Callable[[], Check]
    storage_elsewhere: Callable[[], str]


class Storage(Protocol):
    """Where a VM's image is: a shared folder (:class:`.share.Share`) or Ceph (:class:`.rbd.Rbd`).

    :ivar is_of_vm: whether it is of this VM alone: what is wrong with it is no matter of the node's.
    """

    is_of_vm: bool

    def look(self, folder: Path, who: str, images: Sequence[Path], pid: int = 0, file: str = "") -> Ground:
        """Look at it, and at images there. May hang."""

    def mount(self, seen: Ground | None) -> Check:
        """Whether it is mounted as it should be, by the newest look."""

    def objection(self, seen: Ground | None) -> str:
        """Why the newest look does not hold at this moment; empty: it does. Never waits."""

    def keep(self, image: Path, pid: int, seen: Ground) -> None:
        """Leave there by what it is known again. May hang."""


class Prober:
    """Runs one VM's probes for ever; :attr:`checks` has the newest results, :meth:`unable` their sum.

    :param vm: its part of the guard's configuration.
    :param storage: where its image is.
    :param changed: called, in the prober's thread, when anything of it has changed.
    """

    def __init__(
        self, node: str, vm: dict[str, Any], storage: Storage, sources: Sources, changed: Callable[[AbilitySeen], None]
    ) -> None:
        self._node, self._vm, self._storage, self._sources, self._changed = node, vm, storage, sources, changed
        self._ground: tuple[float, Ground | None] = (float("-inf"), None)
        self._seen: Ground | None = None
        self._lost_s: float | None = None
        self._last: AbilitySeen | None = None
        self._settled_s = float("inf")
        self._thread = Forever(f"probe-{vm['name']}", self._turn, limit_s=HANGS_S)
        self._fault = Fault(f"probe-{vm['name']}-checks")
        self._share_fault = Fault(f"probe-{vm['name']}-share")
        self.threads = (self._thread, self._fault, self._share_fault)
        self.checks: dict[str, Check] = {}
        self.moved: tuple[int, str, str | None] = (0, "", None)
        """By the newest look: QEMU, the file that it writes to, and that this does not lie there any more; empty: it
        does; None: it is not known."""

    def start(self) -> None:
        """Start to probe."""
        self._thread.start()

    def overdue(self) -> AbilitySeen | None:
        """What to think of the node while the probes hang; None if they don't."""
        hangs = self._thread.hangs
        if not hangs:
            return None
        self._last = None  # told again when they go on
        return self._unknown(f"the guard's probes do not come to an end: {hangs}")

    def probe(self) -> AbilitySeen:
        """Probe once, waiting for the storage at most :data:`STORAGE_LIMIT_S`."""
        self._probe_ground()
        began_s, ground = self._ground
        seen = ground or Ground.failed(f"the storage does not answer within {STORAGE_LIMIT_S:g} s", 1)
        self._seen = ground or self._seen
        if seen.storage.ok:
            self._lost_s = None
        elif self._lost_s is None and seen.lost:
            self._lost_s = began_s
        ask = self._sources
        error, unkept, unprotected = ask.libvirt_error(), ask.fencer_error(), ask.watchdog_error()
        overlaid = ask.disk_error()
        storage, image = seen.by_whom(self._storage.is_of_vm)
        self.checks = checks.look(
            Sight(
                self._vm,
                storage=storage,
                mount=self._storage.mount(self._seen),
                image=image,
                overlay=Check(not overlaid, overlaid),
                libvirt=Check(not error, error),
                fencer=Check(not unkept, unkept),
                watchdog=Check(not unprotected, unprotected),
                disk=ask.disk(),
                running=ask.is_running(),
                lack=ask.lack(),
            )
        )
        # Where no node could start it, none does better.
        is_asked = not overlaid and (self._lost_s is not None or ask.is_paused())
        elsewhere = ask.storage_elsewhere() if is_asked else ""
        is_full = seen.storage.ok and bool(seen.storage.why)
        return AbilitySeen(checks.unable(self.checks), self._lost_s, elsewhere, storage_full=is_full)

    def objection(self) -> str:
        """Why the VM must not be started, resumed or received here at this very moment, whatever the last probe said;
        empty: nothing speaks against it. Never waits: of the storage it is asked only whether it still is what the
        newest look has seen.
        """
        return self._storage.objection(self._seen) or self._sources.disk_error()

    def objection_by_now(self) -> str:
        """As :meth:`objection`, for who may wait a moment: where something else was mounted since the newest look, the
        next one decides.
        """
        end_s = boottime_s() + PROBE_EVERY_S + STORAGE_LIMIT_S / 4
        while self._storage.objection(self._seen) and self._seen and self._seen.storage.ok and boottime_s() < end_s:
            time.sleep(LOOK_AGAIN_S)
        return self.objection()

    def run(self) -> None:
        """Probe for ever, telling of changes. In the first moments only of good news: libvirt is still being
        asked, and a lease that is held here would be given back.
        """
        self._thread.run()

    def _turn(self) -> float:
        """Probe once and tell what has changed."""
        self._settled_s = min(self._settled_s, boottime_s() + SETTLE_S)
        seen = self._probe_whatever_comes()
        if seen != self._last and (not seen.unable or boottime_s() > self._settled_s):
            self._last = seen
            self._changed(seen)
        return PROBE_EVERY_S if not seen.unable else PROBE_EVERY_S / 4

    def _probe_whatever_comes(self) -> AbilitySeen:
        """Probe once; what nobody expected makes the node unable, until it is over."""
        try:
            seen = self.probe()
        except Exception as error:
            self._fault.note(error)
            return self._unknown(f"the guard's probes fail: {error!r}; see its log")

        self._fault.over()
        return seen

    def _unknown(self, why: str) -> AbilitySeen:
        """What was seen before says nothing of now; but that the storage is lost stays so, until it is seen well."""
        self.checks = dict.fromkeys(checks.CHECKS, Check(False, why))
        return AbilitySeen(why, self._lost_s)

    def _probe_ground(self) -> None:
        """Start a look at the storage and at the image on it, unless one still hangs, and wait for its result."""
        before = began_s, result = self._ground
        if result is not None or began_s == float("-inf"):
            done = threading.Event()
            self._ground = (boottime_s(), None)

            def work() -> None:
                path, pid, file = Path(self._vm["image"]), self._sources.qemu(), self._sources.written()
                try:
                    seen = self._storage.look(path.parent, f"{self._node}-{self._vm['name']}", [path], pid, file)
                except Exception as error:  # never said to hang because of it
                    log.exception("looking at %s", path.parent)
                    seen = Ground.failed(f"{path.parent} can't be looked at: {error!r}", 1)
                self._ground, self.moved = (self._ground[0], seen), (pid, file, seen.moved)
                done.set()
                self._keep_share(path, seen)

            self._begin(work, before)
            done.wait(STORAGE_LIMIT_S)

    def _begin(self, work: Callable[[], None], before: tuple[float, Ground | None]) -> None:
        """Begin a look."""
        try:
            threading.Thread(target=work, name="probe-storage", daemon=True).start()
        except RuntimeError:  # no thread left: none has begun, and the next probe begins one
            self._ground = before
            raise

    def _keep_share(self, image: Path, seen: Ground) -> None:
        """Leave the share's id, if that is this node's to do. Nobody waits for it."""
        try:
            self._storage.keep(image, self._sources.qemu(), seen)
        except Exception as error:
            self._share_fault.note(error)
        else:
            self._share_fault.over()
