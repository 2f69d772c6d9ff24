"""Shared file systems mounted by systemd: the units, and whether what is mounted is what is wanted. Pure.

A mount unit is tried again for as long as it fails: after a power cut of all, the file server may be the last to come.
It comes before the guard and libvirt, and keeps neither from starting.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from .mounts import NFS, Mount

NFS_OPTIONS = ("vers=4.2", "hard", "noatime")
"""`hard`: writes are never given up, for the server may carry them out after another node's. 4.2: locks that end with
the lease of a dead node."""
START_S = 30
"""So long a server may take to answer a mount; then it is tried again."""
AGAIN_S = 10
AGAIN = "mnha-mount-again@"
"""The unit that tries another one again."""
UNSHOWN = ("_netdev", "auto", "bg", "comment=", "fg", "intr", "nofail", "noauto", "nointr", "retry=", "x-")
"""Options that are not the kernel's: they are not in its table."""
FOUND_OUT = ("addr=", "clientaddr=", "mountaddr=", "mountport=", "mountproto=", "mountvers=", "namlen=")
CONTRARY = {"rw": "ro", "hard": "soft", "lock": "nolock", "atime": "noatime", "exec": "noexec", "dev": "nodev",
            "suid": "nosuid", "async": "sync", "diratime": "nodiratime", "ac": "noac", "cto": "nocto",
            "resvport": "noresvport", "fsc": "nofsc"}  # fmt: skip
"""Options that are the default, each in force while its contrary is not shown."""
AT_MOST = ("rsize", "wsize")
"""Sizes that the server may lower."""
SPELT = {"tcp": ("proto", "tcp"), "udp": ("proto", "udp")}
VERSION = re.compile(r"v([234](?:\.\d+)?)")
SIZE = re.compile(r"(\d+)([kmgt])", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A mount that is wanted.

    :param folder: where.
    :param source: what, as `mount` takes it.
    :param kind: the file system's type, as `mount` takes it.
    """

    folder: str
    source: str
    kind: str
    options: tuple[str, ...] = ()


def with_defaults(kind: str, options: Iterable[str]) -> tuple[str, ...]:
    """The options of a mount: those that are given, and of the defaults those that they do not speak of."""
    given = [option for option in options if option]
    if kind not in NFS:
        return tuple(given)
    spoken = {subject(option) for option in given}
    if "minorversion" in spoken:
        spoken.add("vers")
    return (*(one for one in NFS_OPTIONS if subject(one) not in spoken), *given)


def subject(option: str) -> str:
    """What an option is about: `soft` and `hard` are about the same."""
    name, _ = _normal(option)
    return {off: on for on, off in CONTRARY.items()}.get(name, {"softerr": "hard", "relatime": "atime"}.get(name, name))


def spelt(option: str) -> str:
    """An option as the kernel spells it."""
    name, value = _normal(option)
    return f"{name}={value}" if value else name


def _normal(option: str) -> tuple[str, str]:
    """Name and value of an option, as the kernel spells it."""
    name, _, value = option.partition("=")
    if short := VERSION.fullmatch(option):
        return "vers", short[1]
    if whole := SIZE.fullmatch(value):
        value = str(int(whole[1]) << 10 * ("kmgt".index(whole[2].lower()) + 1))
    return ("vers", value) if name == "nfsvers" else SPELT.get(option, (name, value))


def unit(wanted: Wanted, before: Iterable[str]) -> str:
    """The text of the mount unit.

    :param before: the services that come after it.
    """
    return (
        "# Managed by Salt (sharedfs.mounted): changes are lost at the next state.apply.\n"
        "[Unit]\n"
        f"Description=Shared file system at {_unit_text(wanted.folder)}\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        f"Before={' '.join(before)} remote-fs.target\n"
        f"OnFailure={AGAIN}%n.service\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Mount]\n"
        f"What={_unit_text(wanted.source)}\n"
        f"Where={_unit_text(wanted.folder)}\n"
        f"Type={wanted.kind}\n"
        f"Options={_unit_text(','.join(('_netdev', *wanted.options)))}\n"
        f"TimeoutSec={START_S}\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def source_of(text: str) -> str:
    """What a mount unit mounts, by its text; empty: it does not say."""
    found = re.search(r"^What=(.*)$", text, re.MULTILINE)
    return found[1].replace("%%", "%") if found else ""


def is_tried_again(text: str) -> bool:
    """Whether a mount unit, by its text, is one that is tried again."""
    return f"OnFailure={AGAIN}" in text


def _unit_text(text: str) -> str:
    """A text as a unit has it, in which % begins a specifier."""
    return text.replace("%", "%%")


def again() -> str:
    """The text of the unit, a template, that tries a mount unit again."""
    return (
        "# Managed by Salt (sharedfs.mounted): changes are lost at the next state.apply.\n"
        "[Unit]\n"
        "Description=Tries %i again\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"ExecStart=/bin/sleep {AGAIN_S}\n"
        "ExecStart=/bin/systemctl --no-block start %i\n"
    )


def differences(wanted: Wanted, live: Mount) -> list[str]:
    """In what a mount is another one than is wanted, a sentence each; empty: they agree in meaning."""
    found = []
    if _place(wanted.source) != _place(live.source):
        found.append(f"it is {live.source}, not {wanted.source}")
    if type_of(wanted.kind) != type_of(live.kind):
        return [*found, f"it is of type {live.kind}, not {wanted.kind}"]
    return found + [f"{option} is not in force" for option in wanted.options if not _holds(option, live)]


def unseen(wanted: Wanted, live: Mount) -> list[str]:
    """The options of which the kernel's table does not tell whether they are in force. NFS shows all of its own."""
    shown = {_normal(one)[0] for one in live.options}
    return [
        option
        for option in wanted.options
        if live.kind not in NFS
        and _normal(option)[0] not in (*shown, *CONTRARY, "defaults")
        and not option.startswith(UNSHOWN)
    ]


def own_options(live: Mount) -> list[str]:
    """The options by which a mount can be made again: without what NFS has found out and shows as if it was given."""
    return sorted(one for one in live.options if not one.startswith(FOUND_OUT))


def _place(source: str) -> str:
    return source.rstrip("/") or "/"


def type_of(kind: str) -> str:
    """The type without how it is spelt: FUSE's are shown with `fuse.` before, NFSv4 as `nfs4`."""
    kind = kind.removeprefix("fuse.")
    return "nfs" if kind in NFS else kind


def _holds(option: str, live: Mount) -> bool:
    """Whether an option is in force, as far as the kernel shows that; of other file systems than NFS it need not."""
    name, value = _normal(option)
    shown = dict(_normal(one) for one in live.options)
    if name == "defaults" or option.startswith(UNSHOWN):
        return True
    if name in CONTRARY:
        return CONTRARY[name] not in shown and not (name == "hard" and "softerr" in shown)
    if name == "minorversion" and live.kind in NFS:
        return shown.get("vers", "").partition(".")[2] == value
    if name not in shown:
        return live.kind not in NFS
    if name == "vers":  # "4" is any of them
        return shown[name] == value or shown[name].partition(".")[0] == value
    if name in AT_MOST and value.isdigit() and shown[name].isdigit():
        return int(shown[name]) <= int(value)
    return shown[name] == value
