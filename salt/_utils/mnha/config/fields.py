"""The kinds of values a configuration is made of: names, addresses, paths. Pure, and free of pydantic.

Each ``check_*`` function takes what the pillar holds, returns the canonical form, and raises :class:`Wrong` with the
problem and the remedy otherwise. None of them looks at the machine: whether a file or bridge exists is not asked here.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import uuid as uuid_module
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from ..errors import Fault

NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
VM_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
INTERFACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")
MODULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,55}")
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
SHA256 = re.compile(r"[0-9a-f]{64}")

PATH_MAX = 4095
"""Linux' limit, in bytes."""

PerNode = str | dict[str, str]
"""A value that is either one for all nodes, or one for each node by the node's name."""
LinksPerNode = tuple[str, ...] | dict[str, tuple[str, ...]]
T = TypeVar("T")


class Wrong(ValueError):
    """One or more faults in a value; their paths are relative to it ("" is the value itself)."""

    def __init__(self, problem: str = "", remedy: str = "", *, faults: tuple[Fault, ...] = ()) -> None:
        self.faults = faults or (Fault("", None, problem, remedy),)
        super().__init__("; ".join(str(fault) for fault in self.faults))


def show(value: Any) -> str:
    """A value as a fault quotes it: short, on one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_text(value: Any, what: str) -> str:
    """Any non-empty string on one line."""
    if value is None:
        raise Wrong("is empty", f"give {what}")
    if not isinstance(value, str):
        raise Wrong(f"{show(value)} is not {what} but of type {type(value).__name__}", "put it in quotes")
    if not value.strip() or value != value.strip() or "\n" in value:
        raise Wrong(f"{show(value)} is not {what}", "write one line with no blanks around it")
    if hidden := sorted({f"U+{ord(one):04X}" for one in value if not one.isprintable()}):
        raise Wrong(f"{show(value)} has what can't be seen ({', '.join(hidden[:5])})", "write it anew, by hand")
    return value


def matching(pattern: re.Pattern[str], what: str, remedy: str) -> Callable[[Any], str]:
    """A check that accepts the strings which `pattern` matches as a whole."""

    def check(value: Any) -> str:
        text = check_text(value, what)
        if not pattern.fullmatch(text):
            raise Wrong(f"{show(value)} is not {what}", remedy)
        return text

    return check


check_cluster_name = matching(
    CLUSTER_NAME, "a cluster name", "use 1 to 40 lower-case letters, digits and inner hyphens"
)
check_node_name = matching(
    NODE_NAME,
    "a node name",
    "use the host's short name (lower-case letters, digits, inner hyphens, at most 63): it is minion id, hostname and "
    "Consul node name at once",
)
check_vm_name = matching(VM_NAME, "a VM name", "use lower-case letters, digits and . _ - (at most 63)")
check_interface_name = matching(
    INTERFACE_NAME, "the name of a network interface", "use at most 15 letters, digits and . _ -, as `ip link` shows it"
)
check_module_name = matching(
    MODULE_NAME, "a kernel module's name", "write it as modprobe takes it, such as softdog or iTCO_wdt"
)
check_sha256 = matching(SHA256, "a SHA-256 sum", "give the 64 lower-case hex digits that sha256sum prints")
check_suite = matching(
    re.compile(r"[a-z0-9][a-z0-9./_-]*"), "an apt suite", "give the release's code name, such as bookworm"
)


def check_url(value: Any) -> str:
    """An http(s) URL."""
    text = check_text(value, "a URL")
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise Wrong(f"{show(value)} is not a URL", "write https://HOST/PATH")
    return text.rstrip("/")


def check_ipv4(value: Any) -> str:
    """A unicast IPv4 address of a host, without a prefix length."""
    text = check_text(value, "an IPv4 address")
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        remedy = "leave the /prefix away" if "/" in text else "write four numbers from 0 to 255, such as 192.168.93.3"
        raise Wrong(f"{show(value)} is not an IPv4 address", remedy) from None
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_reserved:
        raise Wrong(f"{text} can not be the address of a host in a network", "give a unicast address of that network")
    return str(address)


def check_interface_address(value: Any) -> str:
    """A host's IPv4 address in its network, with the prefix's length."""
    text = check_text(value, "an IPv4 address with a prefix")
    remedy = "write it with the prefix's length, such as 192.168.93.3/24"
    address, slash, prefix = text.partition("/")
    if not slash or not prefix.isdigit() or not 8 <= int(prefix) <= 30:
        raise Wrong(f"{show(value)} has no prefix of a network of hosts (8 to 30)", remedy)
    one = ipaddress.IPv4Interface(f"{check_ipv4(address)}/{int(prefix)}")
    if one.ip in (one.network.network_address, one.network.broadcast_address):
        raise Wrong(f"{address} is no host's address in {one.network}", "give one in between")
    return str(one)


def not_a_host(address: str, network: ipaddress.IPv4Network) -> bool:
    """Whether an address is that of the network itself, or its broadcast address."""
    return ipaddress.IPv4Address(address) in (network.network_address, network.broadcast_address)


def check_listen_address(value: Any) -> str:
    """An IPv4 address a server may listen on: a host's own, loopback or 0.0.0.0."""
    if value in ("0.0.0.0", "127.0.0.1"):
        return str(value)
    return check_ipv4(value)


def check_host(value: Any) -> str:
    """An IPv4 address or a host name."""
    text = check_text(value, "an address")
    if re.fullmatch(r"[0-9./]+", text):
        return check_ipv4(text)
    if not HOST_NAME.fullmatch(text):
        raise Wrong(f"{show(value)} is neither an IPv4 address nor a host name", "give one of the two")
    return text


def check_netmask(value: Any) -> str:
    """An IPv4 netmask in dotted form."""
    remedy = "write it dotted, such as 255.255.255.0"
    text = check_text(value, "a netmask")
    try:
        bits = int(ipaddress.IPv4Address(text))
    except ValueError:
        raise Wrong(f"{show(value)} is not a netmask", remedy) from None
    host_bits = ~bits & 0xFFFFFFFF
    if host_bits & (host_bits + 1) or not 8 <= 32 - host_bits.bit_length() <= 30:
        raise Wrong(f"{text} is not the mask of a network of hosts", remedy)
    return text


def check_mac(value: Any) -> str:
    """A unicast MAC address, in lower case with colons."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise Wrong(f"{value} is a number", "put it in quotes: YAML reads a MAC of digits only as a number")
    text = check_text(value, "a MAC address").lower().replace("-", ":")
    if not MAC.fullmatch(text):
        raise Wrong(f"{show(value)} is not a MAC address", "write six hex pairs, such as 52:54:00:5a:01:01")
    if int(text[:2], 16) & 1:
        raise Wrong(f"{text} is a multicast address", "make its first pair even, such as 52:54:00:…")
    if text == "00:00:00:00:00:00":
        raise Wrong(f"{text} is no address", "make one up once, such as 52:54:00 and three random pairs")
    return text


def check_uuid(value: Any) -> str:
    """A UUID in its usual form, lower case."""
    text = check_text(value, "a UUID")
    remedy = "make one with uuidgen, once, and keep it"
    try:
        parsed = uuid_module.UUID(text)
    except ValueError:
        raise Wrong(f"{show(value)} is not a UUID", remedy) from None
    if parsed.int == 0:
        raise Wrong("the nil UUID names nothing", remedy)
    return str(parsed)


def check_absolute_path(value: Any) -> str:
    """An absolute path of a file or folder, normalized; not the root itself."""
    text = check_text(value, "a path")
    if not text.startswith("/"):
        raise Wrong(f"{show(value)} is a relative path", "write it from / on")
    path = posixpath.normpath("/" + text.lstrip("/"))
    if path == "/":
        raise Wrong("the root folder is not a place for this", "name a folder below it")
    if len(path.encode()) > PATH_MAX:
        raise Wrong(f"{show(value)} is longer than a path can be", f"give one of at most {PATH_MAX} bytes")
    return path


def check_relative_path(value: Any) -> str:
    """The path of a file below the image folder, normalized."""
    text = check_text(value, "a file in image_folder")
    path = posixpath.normpath(text)
    if text.startswith("/") or path in (".", "..") or path.startswith("../") or text.endswith("/"):
        raise Wrong(
            f"{show(value)} is not a file in image_folder", "give its name relative to image_folder, without .."
        )
    return path


BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")
"""By the number that the kernel gives them."""


def bond_mode(value: Any) -> Any:
    """A bond's mode by its name, also where it is given by its number, quoted or not; anything else as it is."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(BOND_MODES):
        return BOND_MODES[value]
    return value


def check_links(value: Any) -> tuple[str, ...]:
    """The names of one or more network interfaces, each once."""
    if not isinstance(value, list | tuple):
        raise Wrong(f"{show(value)} is not a list", "write a list of interfaces, also around a single one: [eth0]")
    if not value:
        raise Wrong("is empty", "name the interfaces, as `ip link` shows them")
    faults: list[Fault] = []
    links: list[str] = []
    for index, single in enumerate(value):
        try:
            links.append(check_interface_name(single))
        except Wrong as wrong:
            faults.extend(Fault(str(index), single, fault.problem, fault.remedy) for fault in wrong.faults)
    twice = sorted({name for name in links if links.count(name) > 1})
    if twice:
        faults.append(Fault("", value, f"names {', '.join(twice)} twice", "name every interface once"))
    if faults:
        raise Wrong(faults=tuple(faults))
    return tuple(links)


def check_links_per_node(value: Any) -> LinksPerNode:
    """The same interfaces on all nodes, or a mapping ``{node: [interface, …]}`` where they are called differently."""
    if not isinstance(value, Mapping):
        return check_links(value)
    return _each_node(value, check_links)


def check_per_node(value: Any, check: Callable[[Any], str]) -> PerNode:
    """One value for all nodes, or one for each: a mapping ``{node: value}``, or ``"value@node, value@node"``.

    The second form is the old suite's; the mapping is canonical. Whether the nodes exist is checked elsewhere.
    """
    if isinstance(value, str) and "@" in value:
        value = _split_per_node(value)
    if not isinstance(value, Mapping):
        return check(value)
    return _each_node(value, check)


def _each_node(value: Mapping[Any, Any], check: Callable[[Any], T]) -> dict[str, T]:
    """A mapping from nodes, each value checked."""
    if not value:
        raise Wrong("the mapping names no node", "give one value for each node, or a single value")
    result: dict[str, T] = {}
    faults: list[Fault] = []
    for node, single in value.items():
        try:
            result[check_node_name(node)] = check(single)
        except Wrong as wrong:
            faults.extend(Fault(join(node, f.path), single, f.problem, f.remedy) for f in wrong.faults)
    if faults:
        raise Wrong(faults=tuple(faults))
    return result


def _split_per_node(text: str) -> dict[str, str]:
    remedy = "write value@node, value@node, … with every node once"
    result: dict[str, str] = {}
    for part in text.split(","):
        value, at, node = part.strip().partition("@")
        if not (value and at and node):
            raise Wrong(f"{show(part.strip())} is not of the form value@node", remedy)
        if node.strip() in result:
            raise Wrong(f"node {node.strip()} is named twice", remedy)
        result[node.strip()] = value.strip()
    return result


def value_at(value: T | dict[str, T], node: str) -> T:
    """The value in force at `node`. A node that a mapping does not name is a :class:`KeyError`; `load` excludes it."""
    return value[node] if isinstance(value, dict) else value


def nested(value: Any, *path: str | int) -> Any:
    """What stands at `path` in nested mappings and lists, or None where it ends early."""
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return None
    return value


def join(*path: str | int) -> str:
    """A path as Salt writes it: keys with colons between."""
    return ":".join(str(key) for key in path if key != "")


def items(value: Any) -> Iterator[tuple[Any, Any]]:
    """The items of a mapping, the indexed elements of a list, nothing of anything else."""
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
