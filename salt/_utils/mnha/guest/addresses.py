"""Whether a running guest has the addresses that it is to have where it runs, and what makes it so. Pure.

A guest gets them from its seed when it boots (:mod:`mnha.guest.seed`). One that was migrated did not boot: it has the
addresses of the node that it left, and the guest agent is who can change that. What it runs is a POSIX shell script for
`ip` of iproute2 or of busybox. Only that is taken away which the configuration gives to another node, or which such a
script had set before: an address that somebody else has put there, IPv6 and link-local ones stay. What it sets lasts
until the guest's next boot.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import FailedError
from .moments import Found

TOLD_FILE = "/run/mnha-guest.json"
"""In the guest: what it is told of the node that it runs at."""
NOTED_FILE = "/run/mnha-guest.addresses"
"""In the guest: what was set last, a line `MAC ADDRESS/PREFIX` each."""

_SCRIPT = """\
PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin
failed=0
attempt() { "$@" || failed=1; }
has() { ip -4 address show dev "$1" | grep -q -F "inet $2 "; }
noted() {
    [ -f @NOTED@ ] || return 0
    while read -r mac address; do [ "$mac" != "$1" ] || echo "$address"; done <@NOTED@
}
set_address() {  # device, MAC, address, those of other nodes
    device=$1 mac=$2 wanted=$3
    shift 3
    attempt ip link set dev "$device" up
    has "$device" "$wanted" || attempt ip address add "$wanted" broadcast + dev "$device"
    # An address that goes would take others of its subnet along, but for this.
    promote=/proc/sys/net/ipv4/conf/$device/promote_secondaries
    before=$(cat "$promote" 2>/dev/null) && echo 1 >"$promote"
    for old in "$@" $(noted "$mac"); do
        [ "$old" = "$wanted" ] || ! has "$device" "$old" || attempt ip address del "$old" dev "$device"
    done
    [ -z "$before" ] || echo "$before" >"$promote"
    has "$device" "$wanted" || attempt ip address add "$wanted" broadcast + dev "$device"
}
set_route() {  # device, gateway, those of other nodes
    device=$1 gateway=$2
    shift 2
    for old in "$@"; do
        while ip route del default via "$old" dev "$device" 2>/dev/null; do :; done
    done
    ip route show | grep -q -E "^default via $gateway dev $device( |$)" ||
        attempt ip route replace default via "$gateway" dev "$device"
}
set_dns() {  # device, servers
    device=$1 missing=
    shift
    for server in "$@"; do
        grep -q -E "^nameserver[[:space:]]+$server([[:space:]]|$)" /etc/resolv.conf 2>/dev/null || missing=$server
    done
    [ -n "$missing" ] || return 0
    case $(readlink /etc/resolv.conf) in
    *systemd*) attempt resolvectl dns "$device" "$@" ;;
    *)
        {
            for server in "$@"; do echo "nameserver $server"; done
            grep -v "^nameserver" /etc/resolv.conf
        } >@TOLD@.dns 2>/dev/null
        attempt cp @TOLD@.dns /etc/resolv.conf
        rm -f @TOLD@.dns
        ;;
    esac
}
"""


@dataclasses.dataclass(frozen=True)
class Device:
    """A network device of the guest, as its agent tells it.

    :param addresses: its IPv4 addresses, each with the length of its prefix.
    """

    name: str
    mac: str
    addresses: tuple[str, ...]


def devices_of(told: Any) -> list[Device]:
    """What the agent's `guest-network-get-interfaces` has returned.

    :raises FailedError: it can't be understood.
    """
    try:
        return [
            Device(
                str(one["name"]),
                str(one.get("hardware-address", "")).lower(),
                tuple(
                    f"{address['ip-address']}/{address['prefix']}"
                    for address in one.get("ip-addresses", ())
                    if address["ip-address-type"] == "ipv4"
                ),
            )
            for one in told
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise FailedError(f"the guest agent's list of network devices can't be understood: {error!r}") from error


def differences(wanted: Mapping[str, Any], found: Sequence[Device]) -> list[str]:
    """What of the guest's addresses is not as wanted, one clause each; empty: all is.

    :param wanted: the VM's `guest` in the guard's configuration (:func:`mnha.config.guest_networks.wanted`).
    """
    faults = []
    for one in wanted["interfaces"]:
        if (device := _device(one, found)) is None:
            faults.append(f"it has no network device {one['mac']}")
            continue
        if one["address"] not in device.addresses:
            faults.append(f"{device.name} has not {one['address']}")
        faults += [f"{device.name} has {other} still" for other in one["elsewhere"] if other in device.addresses]
    return faults


def state(wanted: Mapping[str, Any], found: Sequence[Device]) -> Found:
    """How the guest's addresses are, all together."""
    if not differences(wanted, found):
        return Found.RIGHT
    devices = [_device(one, found) for one in wanted["interfaces"]]
    return Found.OTHER if all(device and device.addresses for device in devices) else Found.MISSING


def script(wanted: Mapping[str, Any], found: Sequence[Device], vm: str, node: str) -> str:
    """What makes the guest's network as wanted, and tells it of `node`: text for `sh -c`, with exit code 0 if all went
    well. Of a guest in which all is right it changes nothing. A device that it does not have is left out.
    """
    told = {"vm": vm, "node": node, "dns": wanted["dns"], "console_address": wanted["console_address"]}
    lines = [_SCRIPT.replace("@NOTED@", NOTED_FILE).replace("@TOLD@", TOLD_FILE)]
    lines.append(f"printf '%s\\n' {shlex.quote(json.dumps(told))} >{TOLD_FILE}.new && mv {TOLD_FILE}.new {TOLD_FILE}\n")
    lines.append("[ $? = 0 ] || failed=1\n")
    there = [(one, device) for one in wanted["interfaces"] if (device := _device(one, found))]
    for one, device in there:
        lines.append(_line("set_address", device.name, one["mac"], one["address"], *one["elsewhere"]))
        if one["gateway"]:
            lines.append(_line("set_route", device.name, one["gateway"], *one["gateways_elsewhere"]))
            if wanted["dns"]:
                lines.append(_line("set_dns", device.name, *wanted["dns"]))
    noted = "".join(f"{one['mac']} {one['address']}\n" for one, _ in there)
    lines.append(f"[ $failed = 1 ] || printf %s {shlex.quote(noted)} >{NOTED_FILE}\nexit $failed\n")
    return "".join(lines)


def differs_by_node(wanted: Mapping[str, Any]) -> bool:
    """Whether the guest has other addresses elsewhere: then one that nobody can tell is wrong after a migration."""
    return any(one["elsewhere"] for one in wanted["interfaces"])


def _line(*words: str) -> str:
    return shlex.join(words) + "\n"


def _device(one: Mapping[str, Any], found: Iterable[Device]) -> Device | None:
    """The device of an interface, by its MAC address. A guest may have several with the same, such as a bridge on it:
    then the one that has an address of ours, or any, or the first.
    """
    alike = [device for device in found if device.mac == one["mac"].lower()]
    ours = {one["address"], *one["elsewhere"]}
    order = sorted(alike, key=lambda device: (not ours & set(device.addresses), not device.addresses))
    return order[0] if order else None
