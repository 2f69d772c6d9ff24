"""Which folder is the cluster's share: a random id lies in it, and in Consul (`share`).

A folder without that id, or with another, is an empty mount point or some other share: nothing there is looked at,
written or started, and its node is no candidate, no target and no witness.

Who leaves the id
    A guard whose VM runs here, under its lease, and whose QEMU has the very image open that lies in the folder
    (:mod:`.look`): that folder is the right one, whatever is mounted elsewhere. So an existing cluster gets its id by
    itself, and a file that somebody deleted comes back. Of two that do so at once Consul lets one through. The record
    counts from when it says that the file was placed, so no node is found wrong in between. Besides, an operator may
    name the node whose folder is right (:meth:`Share.adopt`).

What is not known makes no good storage bad: while Consul is away the last known id holds (:class:`.record.Record`).
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import FailedError, MnhaError
from ...host import mounts
from . import look
from .probe import Check, Ground, ground
from .record import Record

log = logging.getLogger(__name__)

FIRST_WORD_S = 1.0
"""How long a first look waits for Consul to say which share it should be."""
NOT_KNOWN = "which share is the cluster's is not known yet: Consul has not told since this node has booted"


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a mount must be like.

    :param refuse: whether one without working locks, or that gives up writes, makes the node no candidate; else it is
        told only.
    :param declared: whether the operator vouches for a file system that does not look like a shared one.
    """

    refuse: bool = True
    declared: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Rules:
        """Those of the guard's configuration; a file of an older version has none."""
        return cls(config.get("unsafe_mount") != "warn", bool(config.get("migration", {}).get("unsafe")))


class Share:
    """The cluster's share, as this node sees it.

    :param folder: `image_folder`.
    :param record: `share` in Consul.
    """

    is_of_vm = False

    def __init__(self, node: str, folder: Path, record: Record, rules: Rules) -> None:
        self._node, self._folder, self._record, self._rules = node, folder, record, rules
        self._told = ""
        self._keeping = threading.Lock()

    @property
    def id(self) -> str:
        """The id that a folder must have to be the share; empty: none counts yet."""
        return id_of(self._record.value)

    def look(self, folder: Path, who: str, images: Sequence[Path], pid: int = 0, file: str = "") -> Ground:
        """Look at a folder with images, and at the share that it lies in. Waits for as long as that hangs.

        :param pid: QEMU, which writes to `file`; 0: none.
        """
        if not self._record.is_known(FIRST_WORD_S):
            return Ground.foreign(NOT_KNOWN, len(images))
        return ground(folder, who, images, self._folder, self.id, pid, file, may_be_root=self._rules.declared)

    def mount(self, seen: Ground | None) -> Check:
        """Whether the mount of the newest look is fit for images; well while none is known."""
        return fitness(seen.mount, self._folder, self._rules) if seen and seen.mount else Check(True)

    def objection(self, seen: Ground | None) -> str:
        """Why what the newest look has seen says nothing of this very moment: something else is mounted there by now,
        or the cluster has another share; or why it was not well. Empty: it holds. By the kernel's table alone, so this
        never waits.
        """
        if seen is None:
            return "the storage has not been looked at yet"
        if not seen.storage.ok:
            return seen.storage.why
        if self.id and seen.share != self.id:
            return f"{self._folder} has not been looked at since the cluster's share was named; try again"
        now = mounts.parse(look.mount_of(seen.path, look.mountinfo()))
        if (now and now.key) == (seen.mount and seen.mount.key):
            return ""
        return f"what is mounted at {seen.path} is not what was there at the last look; is the share mounted?"

    def keep(self, image: Path, pid: int, seen: Ground) -> None:
        """Leave the share's id where there is none, if this node is the one to do so. May hang like a look.

        :param pid: the VM's QEMU, which runs under this node's lease; 0: none.
        :param seen: the newest look at its folder.
        """
        before = self._record.value
        placed = bool(before and before.get("placed"))
        if not pid or not seen.is_readable or (placed and seen.share) or not self._record.is_known():
            return
        if not self._keeping.acquire(blocking=False):
            return
        try:
            self._place(before, seen.share, str(image), str(pid))
        except MnhaError as error:
            self._tell(f"the share's id can't be kept: {error.message}")
        else:
            self._tell("")
        finally:
            self._keeping.release()

    def adopt(self, running: Mapping[str, int]) -> str:
        """Make the folder that is mounted here the cluster's share, whatever it was before; its id. May hang like a
        look.

        :param running: image -> QEMU, of the VMs that run here; these must run from there.
        :raises MnhaError: it can't be.
        """
        if not self._folder.is_absolute():
            raise FailedError("the cluster has no image_folder: its disks are in Ceph")
        if not (self._record.is_known() or self._record.fault):
            raise FailedError(NOT_KNOWN)
        seen = ground(self._folder, f"{self._node}-adopt", (), self._folder, "", may_be_root=self._rules.declared)
        if not seen.storage.ok:
            raise FailedError(seen.storage.why)
        before = self._record.value
        for image, pid in running.items():
            _mark(str(self._folder), "", image, str(pid))
        name = _mark(str(self._folder), seen.share or secrets.token_hex(16))
        said = self._said(name, placed=True)
        if not (self._record.overwrite(said) if self._record.fault else self._record.replace(before, said)):
            raise FailedError("another node has written the share's id meanwhile; see mnha.status")
        return name

    def _place(self, before: Mapping[str, Any] | None, found: str, *image_and_pid: str) -> None:
        """Write record and file, each if it lacks.

        :raises MnhaError: it can't be done.
        """
        there = _mark(str(self._folder), "", *image_and_pid)
        if before is None:
            pending = self._said(there or found or secrets.token_hex(16), placed=False)
            if not self._record.replace(None, pending):
                return
            before = pending
        there = _mark(str(self._folder), str(before["id"]), *image_and_pid)
        if not before["placed"]:
            self._record.replace(before, self._said(there, placed=True))
        log.warning("%s: the share's id is %s", self._folder, there)

    def _said(self, name: str, *, placed: bool) -> dict[str, Any]:
        """A record."""
        return {"v": 1, "id": name, "placed": placed, "node": self._node}

    def _tell(self, why: str) -> None:
        """Log it once."""
        if why and why != self._told:
            log.warning("%s", why)
        self._told = why


def fitness(mount: mounts.Mount, folder: Path, rules: Rules) -> Check:
    """Whether a mount is fit for images: locks that hold between nodes, no writes given up. A file system that can't be
    shared is told only, unless somebody vouches for it: the id tells whether it is the share.
    """
    where = f"{folder} ({mount.kind} at {mount.point})"
    if faults := mount.faults:
        text = f"{where}: {'; '.join(faults)}"
        return Check(not rules.refuse, text + (" (or set unsafe_mount)" if rules.refuse else ""))
    if mount.is_local and not rules.declared:
        return Check(True, f"{where}: no two nodes share such a file system; is the share mounted?")
    return Check(True)


def id_of(record: Mapping[str, Any] | None) -> str:
    """The id that a folder must have to be the share, by the record; empty: none counts yet."""
    return str(record.get("id", "")) if record and record.get("placed") else ""


def _mark(*words: str) -> str:
    """Have :mod:`.look` write the share's id, or only look; the id that lies there then.

    :raises FailedError: it can't.
    """
    command = [sys.executable, "-I", "-S", look.__file__, "mark", *words]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as error:
        raise FailedError(f"{words[0]} can't be looked at: {error}") from error
    lines = done.stdout.split("\n")[:-1]
    if done.returncode or len(lines) != len(("wrong", "there")):
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FailedError(f"{words[0]} can't be looked at: {said}")
    wrong, there = lines
    if wrong:
        raise FailedError(wrong)
    return there
