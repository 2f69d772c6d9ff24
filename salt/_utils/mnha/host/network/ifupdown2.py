"""The files of ifupdown2, and what it says of them. Pure.

Why ifupdown2: it changes a running network to what the files say, in place where that can be done (docs of the
alternatives' faults stand in docs/networks.md).

It has traps, which this module knows:

- It takes a port that it does not know out of a bridge, such as a VM's, unless `bridge-ports-condone-regex` names it.
- It exits with 0 after errors: what counts is what it says when it is asked to check.
- It does not check gateways, and makes a route to one that is in no network of the host (`onlink`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import FailedError
from .wanted import Bond, Bridge, Device, Vlan, Wish

HEADER = "# Written by state.apply from the pillar (mnha:cluster:networks): what is changed here is overwritten.\n"
PORTS_OF_VMS = "^(vnet|tap|macvtap)[0-9]+$"
"""The ports that libvirt puts into a bridge, and takes out again."""
OWN_BELOW = "\n# Asked for by states of this host (bond.present, netbridge.present):\n"
"""Stands between the stanzas of the cluster's networks and those of a host's own states."""
OPENING = re.compile(r"\s*(iface|auto|allow-\S+|no-auto-down|no-scripts|mapping|source|source-directory)\b(.*)")


def text(devices: Sequence[Device]) -> str:
    """The stanzas of `devices`, in their order."""
    return HEADER + _stanzas(devices)


def _stanzas(devices: Sequence[Device]) -> str:
    return "".join(f"\n{_stanza(device)}" for device in devices)


def _stanza(device: Device) -> str:
    lines = [f"auto {device.name}", f"iface {device.name} inet {'static' if device.address else 'manual'}"]
    lines += [f"    {key} {value}" for key, value in _attributes(device)]
    return "\n".join(lines) + "\n"


def _attributes(device: Device) -> Iterator[tuple[str, str]]:
    if device.address:
        yield "address", device.address
    if device.gateway:
        yield "gateway", device.gateway
    match device:
        case Bond():
            yield "bond-slaves", " ".join(device.links)
            yield "bond-mode", device.mode
            for key, value in device.options.items():
                yield f"bond-{key.replace('_', '-')}", value
        case Vlan():
            yield "vlan-raw-device", device.below
            yield "vlan-id", str(device.tag)
        case Bridge():
            yield "bridge-ports", device.port
            yield "bridge-ports-condone-regex", PORTS_OF_VMS
            yield "bridge-stp", "off"
            yield "bridge-fd", "0"
    yield "mtu", str(device.mtu)


def without(text_: str, names: Iterable[str]) -> str:
    """What is left of a file of interfaces(5) when the stanzas of some devices are taken out; comments stay."""
    gone, kept, inside = set(names), [], False
    for line in text_.splitlines(keepends=True):
        opening = OPENING.match(line)
        if opening:
            word, rest = opening[1], opening[2].split()
            inside = word == "iface" and bool(rest) and rest[0] in gone
            if word == "auto" or word.startswith(("allow-", "no-")):
                left = [name for name in rest if name not in gone]
                if len(left) < len(rest):
                    if left:
                        kept.append(f"{word} {' '.join(left)}\n")
                    continue
        if not inside or (not opening and not line.strip()) or line.lstrip().startswith("#"):
            kept.append(line)
    return "".join(kept)


def declared(text_: str) -> set[str]:
    """The devices that a file of interfaces(5) has stanzas of."""
    openings = [OPENING.match(line) for line in text_.splitlines()]
    return {rest[0] for one in openings if one and one[1] == "iface" and (rest := one[2].split())}


Said = Mapping[str, Mapping[str, Collection[str]]]
"""What files say of devices: the values of each attribute, by device and attribute."""


def attributes(texts: Iterable[str]) -> dict[str, dict[str, set[str]]]:
    """What files of interfaces(5) say of each device."""
    found: dict[str, dict[str, set[str]]] = {}
    for text_ in texts:
        device: dict[str, set[str]] = {}
        for line in text_.splitlines():
            if opening := OPENING.match(line):
                rest = opening[2].split()
                device = found.setdefault(rest[0], {}) if opening[1] == "iface" and rest else {}
            elif line.strip() and not line.lstrip().startswith("#"):
                key, *words = line.split()
                device.setdefault(key, set()).add(" ".join(words))
    return found


def differences(answer: str, said: Said) -> list[str]:
    """What `ifquery --check -o json` finds different from the files, a sentence each; empty if nothing is.

    :param said: what the files say.
    :raises FailedError: it has answered something else.
    """
    try:
        found = json.loads(answer)
    except ValueError:
        raise FailedError(f"ifquery has not said how the network is: {answer.strip()[:200] or 'nothing'}") from None
    if not isinstance(found, list):
        raise FailedError(f"ifquery has not said how the network is: {answer.strip()[:200]}")
    return [sentence for one in found for sentence in _differences(one, said.get(str(one.get("name")), {}))]


def _differences(one: Mapping[str, Any], said: Mapping[str, Collection[str]]) -> Iterator[str]:
    if one.get("status") == "pass":
        return
    config, status = one.get("config", {}), one.get("config_status", {})
    wrong = [
        _difference(key, str(value), said.get(key, ()))
        for key in status
        for value, state in zip(_list(config.get(key)), _list(status[key]), strict=False)
        if state not in ("pass", "unknown")
    ]
    yield f"{one.get('name')} {'; '.join(wrong) or 'is not as its stanza says'}"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _difference(key: str, told: str, said: Collection[str]) -> str:
    """What is wrong with an attribute. ifquery tells what the device has, or, of an address or a bond's links that it
    has not, what it should have.

    :param said: what the files say of it.
    """
    word = key.upper() if key == "mtu" else key
    if told in said:
        return f"has not {word} {told}"
    wanted = f", {' and '.join(sorted(said))} is wanted" if said else ", which no file says"
    return f"has {word} {told}{wanted}"


MAIN, OWN = "/etc/network/interfaces", "/etc/network/interfaces.d/mnha"
EMPTY = "auto lo\niface lo inet loopback\n"
ADDRESS = re.compile(r"\s+address\s+([0-9.]+)")
SOURCED = re.compile(r"^\s*source(-directory)?\s+/etc/network/interfaces\.d\b", re.MULTILINE)


def files_with(current: Mapping[str, str], wish: Wish) -> dict[str, str]:
    """The files of the network as they are to be: OWN has all stanzas of what is asked for, and no other file has one.

    Of whom the wish says nothing, what OWN has of them stays as it is.

    :param current: the text of each file by its path, MAIN and those in the folder beside it.
    """
    if wish.cluster is None and wish.own is None:
        return dict(current)
    cluster, own = _kept(current, wish)
    if wish.cluster is not None:
        cluster = _stanzas(wish.cluster)
    if wish.own is not None:
        own = _stanzas(wish.own)
    if OWN not in current and not cluster and not own:
        return dict(current)
    names = [device.name for device in wish.devices]
    files = {path: without(text_, names) for path, text_ in current.items() if path != OWN}
    main = files.get(MAIN, EMPTY)
    if not SOURCED.search(main):
        main = f"{main.rstrip()}\n\nsource /etc/network/interfaces.d/*\n"
    return files | {MAIN: main, OWN: HEADER + cluster + (OWN_BELOW + own if own else "")}


def _kept(current: Mapping[str, str], wish: Wish) -> tuple[str, str]:
    """What stays in OWN of the cluster's networks, and of the host's own states, because nothing is said of them."""
    cluster, _, own = current.get(OWN, "").removeprefix(HEADER).partition(OWN_BELOW)
    names = [device.name for device in wish.devices]
    return (
        "" if wish.cluster is not None else without(cluster, names),
        "" if wish.own is not None else without(own, names),
    )


def made(current: Mapping[str, str], wish: Wish) -> set[str]:
    """The devices that an earlier configuration has made, and of which `wish` has a say: they may change, and go."""
    kept = {name for text_ in _kept(current, wish) for name in declared(text_)}
    return declared(current.get(OWN, "")) - kept


def addresses(text_: str) -> set[str]:
    """The addresses that a file of interfaces(5) gives to devices, without their prefixes."""
    return {found[1] for line in text_.splitlines() if (found := ADDRESS.match(line))}
