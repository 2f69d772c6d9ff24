"""Until when a certificate is valid, by its file. Standard library only; nothing of a key is read."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

SEQUENCE, VERSION, UTC_TIME, GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
BEFORE_VALIDITY = 3
"""What a certificate's body has between version and validity: serial number, algorithm, issuer."""
MOST_BYTES = 1 << 20


def end_of(path: Path) -> datetime.datetime:
    """When the (first) certificate of a PEM file ends.

    :raises OSError: the file can't be read.
    :raises ValueError: it holds no certificate.
    """
    with path.open("rb") as file:
        text = file.read(MOST_BYTES).decode("ascii", "replace")
    begin, end = text.find(ssl.PEM_HEADER), text.find(ssl.PEM_FOOTER)
    if not 0 <= begin < end:
        raise ValueError("it holds no certificate")
    try:
        return _end(ssl.PEM_cert_to_DER_cert(text[begin : end + len(ssl.PEM_FOOTER)]))
    except (IndexError, ValueError) as error:
        raise ValueError(f"its certificate can't be read: {error}") from error


def _end(der: bytes) -> datetime.datetime:
    """RFC 5280, 4.1: Certificate > TBSCertificate > Validity > notAfter."""
    body = _inside(_inside(der, SEQUENCE), SEQUENCE)
    if body[0] == VERSION:
        body = _element(body)[2]
    for _ in range(BEFORE_VALIDITY):
        body = _element(body)[2]
    _, _, after = _element(_inside(body, SEQUENCE))
    tag, value, _ = _element(after)
    if tag not in (UTC_TIME, GENERALIZED_TIME):
        raise ValueError(f"its end has tag {tag:#x}")
    text = value.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC)


def _inside(data: bytes, tag: int) -> bytes:
    """What the first element, which must have this tag, holds."""
    found, value, _ = _element(data)
    if found != tag:
        raise ValueError(f"an element has tag {found:#x}, not {tag:#x}")
    return value


def _element(data: bytes) -> tuple[int, bytes, bytes]:
    """The first DER element: its tag, what it holds, and what follows it."""
    tag, length, begin = data[0], data[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(data[2:begin], "big")
    if len(data) < begin + length:
        raise ValueError("it is cut off")
    return tag, data[begin : begin + length], data[begin + length :]
