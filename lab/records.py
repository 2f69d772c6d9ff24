"""The records that the guest's heartbeat writer (lab/guest/heartbeat.c) leaves on the VM's disk."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import disk

SLOT_BYTES = 512
MAGIC = b"MNHAHB01"
BOOT, BEAT, OVERLAP = 1, 2, 3
KINDS = {BOOT: "boot", BEAT: "beat", OVERLAP: "overlap"}

_LAYOUT = struct.Struct("<8sIIQ16sQQQQ16s")


@dataclass(frozen=True)
class Record:
    """One heartbeat. `seq` numbers all records of the disk; `counter` those of one boot; the clocks are the guest's."""

    kind: int
    seq: int
    boot_id: str
    epoch: int
    counter: int
    boottime_ns: int = 0
    realtime_ns: int = 0
    other: str = "0" * 32


def encode(record: Record) -> bytes:
    """The record as one slot of the disk."""

    def pack(crc: int) -> bytes:
        return _LAYOUT.pack(
            MAGIC, record.kind, crc, record.seq, bytes.fromhex(record.boot_id), record.epoch, record.counter,
            record.boottime_ns, record.realtime_ns, bytes.fromhex(record.other),
        ).ljust(SLOT_BYTES, b"\0")  # fmt: skip

    return pack(zlib.crc32(pack(0)))


def decode(slot: bytes) -> Record | None:
    """The record in a slot; None if there never was one. ValueError if there is a torn or altered one."""
    if len(slot) != SLOT_BYTES or not slot.startswith(MAGIC):
        if any(slot):
            raise ValueError("not a heartbeat record")
        return None
    _magic, kind, crc, seq, boot_id, epoch, counter, boottime_ns, realtime_ns, other = _LAYOUT.unpack_from(slot)
    if zlib.crc32(slot[:12] + bytes(4) + slot[16:]) != crc or kind not in KINDS:
        raise ValueError(f"the record {seq} is torn or altered")
    return Record(kind, seq, boot_id.hex(), epoch, counter, boottime_ns, realtime_ns, other.hex())


@dataclass(frozen=True)
class Ring:
    """All that is on the disk: the records by rising `seq`, the number of slots, and slots that hold something else."""

    records: tuple[Record, ...]
    slots: int
    broken: tuple[str, ...] = ()


def read_ring(data: bytes) -> Ring:
    """Every record of the guest's disk, whatever order its slots are in.

    A record in a slot that is not its own (seq % slots) is listed as broken, for the writer never puts one there.
    """
    slots = len(data) // SLOT_BYTES
    found: list[Record] = []
    broken: list[str] = []
    empty = bytes(SLOT_BYTES)
    for slot in range(slots):
        raw = data[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES]
        if raw == empty:
            continue
        try:
            record = decode(raw)
        except ValueError as error:
            broken.append(f"slot {slot}: {error}")
            continue
        if record and record.seq % slots != slot:
            broken.append(f"slot {slot}: holds record {record.seq}, whose slot is {record.seq % slots}")
        elif record:
            found.append(record)
    return Ring(tuple(sorted(found, key=lambda record: record.seq)), slots, tuple(broken))


class Tail:
    """Follows the newest record of a disk image that a running VM writes, with one small read a question."""

    def __init__(self, image: Path) -> None:
        self.image = image
        lies = disk.window(image)
        self.slots, self._offset = lies.length // SLOT_BYTES, lies.offset
        records = read_ring(disk.read(image)).records
        self.last: Record | None = records[-1] if records else None

    def poll(self) -> list[Record]:
        """The records written since the last question, oldest first."""
        return list(self._new())

    def _new(self) -> Iterator[Record]:
        descriptor = os.open(self.image, os.O_RDONLY)
        try:
            while True:
                seq = self.last.seq + 1 if self.last else 0
                try:
                    record = decode(os.pread(descriptor, SLOT_BYTES, self._offset + seq % self.slots * SLOT_BYTES))
                except ValueError:
                    return
                if record is None or record.seq != seq:
                    return
                self.last = record
                yield record
        finally:
            os.close(descriptor)
