"""A VM's disk in Ceph: whether it can be reached, and that nobody else writes to it when the VM is started.

Nothing here takes the place of the lease, which says who may run the VM. This is what lies below it, as QEMU's lock of
an image file does. RBD's own exclusive lock is no such net: a client that wants it asks, and who has it gives it away.
So before each start by the guard, whoever has the image open, or has locked it, is shut out by Ceph: by the full
address of that one client, with its nonce, so no other client of that host is hit.

Before *each* start, not only after a failover that was unclean: after a clean stop nobody has it open, and nothing is
done. So there is no knowledge that could be wrong. A VM that migrates is not started: both QEMUs have the image open
then, and hand its lock over.

The folder of :mod:`.share` has an id and a mount that may be another one; a pool is what its cluster says.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import FailedError
from ...host.clock import boottime_s
from .probe import Check, Ground

log = logging.getLogger(__name__)

PYTHON = "/usr/bin/python3"
"""The system's own, to which python3-rados belongs."""
CLIENT = Path(__file__).with_name("ceph_client.py")
LOOK_AGAIN_S = 0.02
ANSWER_S = 30.0
"""So long a question may take; each of its steps fails after 5 s (:data:`mnha.host.ceph.ANSWER_S`)."""
SHUT_OUT_S = 86400
"""For how long a client is refused. It has to outlast whoever may come back and write: a host that was stopped for a
night in a debugger, not one that lies in a store room. The price is 100 bytes of Ceph's map for each; an address has a
random nonce, and does not come back."""


class Silent(FailedError):
    """Ceph has not answered in time."""


class Rbd:
    """One VM's disk in Ceph.

    :param image: as POOL/NAME.
    :param user: of Ceph, without `client.`.
    :param conf: the configuration file of Ceph's programs for it.
    """

    is_of_vm = True

    def __init__(self, image: str, user: str, conf: str, program: Sequence[str] = ()) -> None:
        self.image = image
        self._words = [conf, user, *image.split("/", 1)]
        self._program = list(program) or [PYTHON, "-I", str(CLIENT)]

    @classmethod
    def of(cls, vm: Mapping[str, Any]) -> Rbd | None:
        """That of a VM, by its part of the guard's configuration; None: its disk is a file."""
        ceph = vm.get("ceph")
        return cls(vm["image"], ceph["user"], ceph["conf"]) if ceph else None

    # ---- what the prober asks of a VM's storage (:class:`mnha.daemon.prober.Storage`)

    def look(self, folder: Path, who: str, images: Sequence[Path], pid: int = 0, file: str = "") -> Ground:
        """Look at the pool and the image. Waits for as long as that hangs."""
        try:
            found = self._ask("look", f"mnha-probe-{who}")
        except FailedError as error:  # one that could not be asked says nothing of what runs from there
            found = {"storage": error.message, "lost": isinstance(error, Silent)}
        if wrong := found["storage"]:
            return dataclasses.replace(Ground.failed(wrong, len(images)), lost=bool(found["lost"]))
        return Ground(Check(True, found["full"]), [Check(not found["image"], found["image"])] * len(images))

    def mount(self, seen: Ground | None) -> Check:
        """Nothing is mounted."""
        return Check(True)

    def objection(self, seen: Ground | None) -> str:
        """Why the newest look lets nothing be started; empty: it does."""
        if seen is None:
            return "the storage has not been looked at yet"
        return "" if seen.storage.ok else seen.storage.why

    def keep(self, image: Path, pid: int, seen: Ground) -> None:
        """A pool needs no id."""

    # ---- the start

    def shut_others_out(self, until_s: Callable[[], float | None], is_void: Callable[[], bool]) -> list[str]:
        """Have Ceph refuse each client that has the image open or locked, and make sure that it does; returns their
        addresses.

        Never the client of a VM that another node runs by right: those that are refused had it open while this node had
        the lease. That is looked at when they are known, so a node that stood still meanwhile refuses nobody.

        :param until_s: until when this node may run the VM, CLOCK_BOOTTIME in seconds; None: it may not.
        :param is_void: asked again and again: whether nobody wants it any more.
        :raises FailedError: it can't be known or done, or was void: the VM must not be started.
        """
        clients = self._ask("clients", is_void=is_void)["clients"]
        if not clients:
            return []
        if boottime_s() >= (until_s() or 0.0):
            raise FailedError("the lease was not renewed meanwhile: who has the image open may have it by right")
        log.warning("%s is open or locked by %s: shutting out", self.image, ", ".join(clients))
        done = self._ask("block", str(SHUT_OUT_S), *clients, is_void=is_void)
        log.warning("%s: Ceph refuses %s from epoch %s on", self.image, ", ".join(clients), done["epoch"])
        return list(clients)

    def _ask(self, verb: str, *words: str, is_void: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The answer of :mod:`.ceph_client`.

        :raises FailedError: there is none, or it tells an error.
        """
        command = [*self._program, verb, *self._words, *words]
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise FailedError(f"Ceph can't be asked about {self.image}: {error}") from error
        with child:
            try:
                output, told = self._ended(child, is_void)
            finally:
                child.kill()
        try:
            answer: dict[str, Any] = json.loads(output)
        except ValueError:
            said = (told.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
            raise FailedError(f"Ceph can't be asked about {self.image}: {said}") from None
        if wrong := answer.get("error"):
            raise FailedError(f"the image {self.image} in Ceph: {wrong}")
        return answer

    def _ended(self, child: subprocess.Popen[str], is_void: Callable[[], bool]) -> tuple[str, str]:
        """What a child has printed, when it has ended.

        :raises FailedError: it takes too long, or is not wanted any more.
        """
        end_s = time.monotonic() + ANSWER_S
        while True:
            try:
                return child.communicate(timeout=LOOK_AGAIN_S)
            except subprocess.TimeoutExpired:
                if is_void():
                    raise FailedError("the start was voided before it began") from None
                if time.monotonic() > end_s:
                    raise Silent(f"Ceph does not answer within {ANSWER_S:g} s about {self.image}") from None
