"""Keeps the record of the file that a VM which runs here writes to (:mod:`mnha.guest.disk`).

libvirt tells of no event when a snapshot has a VM go on in another file, so it is asked again and again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import libvirt

from ...errors import FailedError, MnhaError
from ...guest import disk
from ..threads import Forever, KnownFailure
from .libvirt import Connection
from .record import Record

log = logging.getLogger(__name__)

EVERY_S, HANGS_S = 1.0, 30.0
AGAIN_S = 2.0
ATTEMPTS = 3
NOT_KNOWN = "which file {} last wrote to is not known yet: Consul has not told since this node has booted"


class DiskWatch:
    """The watch of one VM.

    :param image: what a start of it would take.
    :param record: `vms/<vm>/disk` in Consul.
    :param qemu: the process of the VM that runs here under this node's lease; 0: there is none.
    :param moved: what the newest look has found (:attr:`mnha.daemon.prober.Prober.moved`).
    """

    def __init__(
        self,
        connection: Connection,
        vm: str,
        uuid: str,
        image: str,
        record: Record,
        qemu: Callable[[], int],
        moved: Callable[[], tuple[int, str, str | None]],
    ) -> None:
        self._connection, self._vm, self._uuid, self._image = connection, vm, uuid, image
        self._record, self._qemu, self._moved = record, qemu, moved
        self.threads = (Forever(f"vm-{vm}-disk", self._look, limit_s=HANGS_S), *record.threads)

    def start(self) -> None:
        """Start the watch, and that of the record."""
        self._record.start()
        self.threads[0].start()

    def refresh(self) -> None:
        """Learn what was recorded until now; waits for Consul for a moment."""
        self._record.refresh()

    def objection(self) -> str:
        """Why the VM must not be started from its image; empty: it may. Never waits."""
        if not (self._record.is_known() or self._record.fault):
            return NOT_KNOWN.format(self._vm)
        return self.known_objection()

    def known_objection(self) -> str:
        """As :meth:`objection`; that nothing is known is none: what is to be done can wait for a start's own look."""
        return disk.objection({} if self._record.fault else self._record.value, self._vm, self._image)

    def written(self) -> str:
        """The file that the VM writes to, as was recorded last; its image if nothing was."""
        return disk.written(self._record.value) or self._image

    def accept(self) -> None:
        """Let the VM, which is off, be started from its image, whatever it last wrote to.

        :raises MnhaError: Consul does not answer, or others write it, too.
        """
        for _ in range(ATTEMPTS):
            if self._record.overwrite(disk.accepted(self._image)):
                return
        raise FailedError(f"the record of the disk of {self._vm} keeps changing: does it run?")

    def _look(self) -> float:
        """Look once, and record what has changed; over what can't be read, too: who runs the VM knows."""
        if not (pid := self._qemu()) or not (self._record.is_known() or self._record.fault):
            return EVERY_S
        try:
            found = disk.running(self._connection.get().lookupByUUIDString(self._uuid).XMLDesc(0))
            if found is None:
                return EVERY_S
            before, fault = self._record.value, self._record.fault
            *look, moved = self._moved()
            is_moved = None if moved is None or look != [pid, found.chain[0]] else bool(moved)
            after = disk.recorded(before, found, self._image, is_moved)
            if after == before and not fault:
                return EVERY_S
            if self._record.overwrite(after) if fault else self._record.replace(before, after):
                log.warning("%s writes to %s%s", self._vm, found.chain[0], f": {moved}" if is_moved else "")
        except libvirt.libvirtError as error:
            raise KnownFailure(f"which file {self._vm} writes to is not known: {error}", AGAIN_S) from error
        except MnhaError as error:
            raise KnownFailure(f"which file {self._vm} writes to is not known: {error.message}", AGAIN_S) from error
        return EVERY_S
