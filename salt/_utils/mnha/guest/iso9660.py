"""A small CD image: a few files in its root folder, readable by whatever reads CDs. Pure.

Equal files give equal bytes, for every date in it is the same one, and every image is as long as every other. So a run
of states that changes nothing can say so by comparing, before it has written anything. That is why no library writes
it: pycdlib puts the time of day into it and can't be told another. xorriso can (`SOURCE_DATE_EPOCH`), but it puts its
version into it, too, and is a package more on each node. What pycdlib, blkid and isosize read of it the tests compare.

It has each name twice, as the standard wants it (capitals, eight of them) and, by Joliet, as it is. Linux, Windows and
the BSDs show the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

SECTOR = 2048
SIZE = 64 * SECTOR
"""Of every image, in bytes: 128 KiB."""

_SYSTEM_AREA = 16
_PRIMARY, _JOLIET, _END, _FIRST_TABLE = range(_SYSTEM_AREA, _SYSTEM_AREA + 4)
_ROOT, _JOLIET_ROOT = _FIRST_TABLE + 4, _FIRST_TABLE + 5
_FIRST_FILE = _JOLIET_ROOT + 1
_DATE = bytes([100, 1, 1, 0, 0, 0, 0])
_LONG_DATE = b"2000010100000000\0"
"""The first moment of 2000, UTC, in both of the standard's forms."""
_NO_DATE = b"0" * 16 + b"\0"
_FOLDER = 2
_UCS2 = b"%/E"
_ORDERS: tuple[Literal["little"], Literal["big"]] = ("little", "big")


def image(label: str, files: Mapping[str, bytes]) -> bytes:
    """An image with these files in its root folder.

    :param label: of the volume, as `blkid` shows it; at most 16 characters of ASCII.
    :param files: name, of ASCII, -> content.
    :raises ValueError: they do not fit, or two names are the same in their first eight letters or digits.
    """
    names = {_short(name): name for name in files}
    if len(names) < len(files) or len(label) > 16:
        raise ValueError(f"these names, or the label, can't stand in an image: {label}, {', '.join(files)}")
    places, data = dict[str, tuple[int, int]](), bytearray()
    for name in sorted(files):
        places[name] = _FIRST_FILE + len(data) // SECTOR, len(files[name])
        data += _padded(files[name])
    volume = b"".join(
        (
            bytes(_SYSTEM_AREA * SECTOR),
            _descriptor(label, _FIRST_TABLE, _ROOT, is_joliet=False),
            _descriptor(label, _FIRST_TABLE + 2, _JOLIET_ROOT, is_joliet=True),
            _padded(b"\xffCD001\x01"),
            *(_padded(_path_table(root, order)) for root in (_ROOT, _JOLIET_ROOT) for order in _ORDERS),
            _folder(_ROOT, {short.encode("ascii"): places[name] for short, name in names.items()}),
            _folder(_JOLIET_ROOT, {name.encode("utf-16-be"): place for name, place in places.items()}),
            bytes(data),
        )
    )
    if len(volume) > SIZE:
        raise ValueError(f"the files take {len(data)} bytes: {len(volume) - SIZE} too many for an image of {SIZE}")
    return volume.ljust(SIZE, b"\0")


def _short(name: str) -> str:
    """A name as the standard's lowest level allows it."""
    return "".join(letter for letter in name.upper() if letter.isalnum())[:8] + ".;1"


def _both16(number: int) -> bytes:
    return number.to_bytes(2, "little") + number.to_bytes(2, "big")


def _both32(number: int) -> bytes:
    return number.to_bytes(4, "little") + number.to_bytes(4, "big")


def _padded(data: bytes) -> bytes:
    """Filled up to whole sectors."""
    return data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")


def _record(name: bytes, sector: int, size: int, flags: int = 0) -> bytes:
    """An entry of a folder."""
    body = b"\0" + _both32(sector) + _both32(size) + _DATE + bytes([flags, 0, 0]) + _both16(1)
    body += bytes([len(name)]) + name
    body += b"\0" * ((len(body) + 1) % 2)  # each entry is of an even length
    return bytes([len(body) + 1]) + body


def _folder(sector: int, entries: Mapping[bytes, tuple[int, int]]) -> bytes:
    """The root folder: itself, its parent, which it is as well, and its files by name."""
    records = [_record(name, sector, SECTOR, _FOLDER) for name in (b"\0", b"\1")]
    folder = b"".join([*records, *(_record(name, *entries[name]) for name in sorted(entries))])
    if len(folder) > SECTOR:
        raise ValueError(f"{len(entries)} files are too many for the one folder of an image")
    return _padded(folder)


def _path_table(root: int, order: Literal["little", "big"]) -> bytes:
    """All folders: the root."""
    return bytes([1, 0]) + root.to_bytes(4, order) + (1).to_bytes(2, order) + b"\0\0"


def _descriptor(label: str, table: int, root: int, *, is_joliet: bool) -> bytes:
    """What describes the volume: the primary one, or Joliet's."""

    def text(value: str, length: int) -> bytes:
        if is_joliet:
            return value.ljust(length // 2).encode("utf-16-be").ljust(length, b"\0")
        return value.ljust(length).encode("ascii")

    return _padded(
        b"".join(
            (
                bytes([2 if is_joliet else 1]) + b"CD001" + bytes([1, 0]),
                text("", 32) + text(label, 32) + bytes(8) + _both32(SIZE // SECTOR),
                (_UCS2 if is_joliet else b"").ljust(32, b"\0"),
                _both16(1) + _both16(1) + _both16(SECTOR) + _both32(len(_path_table(root, "little"))),
                table.to_bytes(4, "little") + bytes(4) + (table + 1).to_bytes(4, "big") + bytes(4),
                _record(b"\0", root, SECTOR, _FOLDER),
                *(text("", 128) for _ in range(4)),
                *(text("", 37) for _ in range(3)),
                _LONG_DATE + _LONG_DATE + _NO_DATE + _NO_DATE + bytes([1, 0]),
            )
        )
    )
