"""The lab's two switches and their cables: a network namespace with two bridges, and cuts by nftables' bridge family.

A cut drops what passes a node's cable, in one direction or both, and leaves the link up: the node sees no carrier
loss, just silence, as with a broken path further away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.settings import (
    MAX_NODES,
    MGMT,
    MGMT_NET,
    NETWORKS,
    STORAGE,
    STORAGE_NET,
    SWITCH,
    SWITCH_HOST,
    LabError,
    NodePlan,
)
from lab.shell import run, write_whole

NETNS = Path("/run/netns") / SWITCH
DIRECTIONS = ("in", "out", "both")
"""As seen from the node: `in` is what it would receive, `out` what it sends."""


@dataclass(frozen=True, order=True)
class Cut:
    """What is dropped on one cable: `percent` of the packets that go in `direction`."""

    link: str
    direction: str
    percent: int = 100


def tap_of(link: str) -> str:
    """The device that stands for a cable at its bridge while there is a delay line in the cable (lab.delay)."""
    return f"{link}d"


def render_rules(cuts: Iterable[Cut]) -> str:
    """The whole ruleset for `cuts`, loaded in one transaction: old cuts that are not among them are healed by it."""
    drops = []
    for cut in sorted(cuts):
        chance = "" if cut.percent >= 100 else f"numgen random mod 100 < {cut.percent} "
        for link in (cut.link, tap_of(cut.link)):
            if cut.direction in ("in", "both"):
                drops.append(("oifname", link, chance))
            if cut.direction in ("out", "both"):
                drops.append(("iifname", link, chance))
    lines = ["table bridge lab", "delete table bridge lab", "table bridge lab {"]
    for hook, keywords in (("forward", ("iifname", "oifname")), ("input", ("iifname",)), ("output", ("oifname",))):
        lines.append(f"  chain {hook} {{ type filter hook {hook} priority 0;")
        lines += [f'    {word} "{link}" {chance}drop' for word, link, chance in drops if word in keywords]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def ip(*words: str, check: bool = True) -> None:
    """`ip` inside the switch's namespace."""
    run(["ip", "-n", SWITCH, *words], check=check)


def create_switch() -> None:
    """The namespace with both bridges; the switch itself has address .254 on each, for probes from outside nodes, and
    in the guest's network of each node."""
    run(["ip", "netns", "add", SWITCH])
    run(["ip", "netns", "exec", SWITCH, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
         "net.ipv6.conf.default.disable_ipv6=1"])  # fmt: skip
    for name, net in ((MGMT, MGMT_NET), (STORAGE, STORAGE_NET)):
        ip("link", "add", name, "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
        ip("address", "add", f"{net}.{SWITCH_HOST}/24", "dev", name)
        ip("link", "set", name, "up")
    for index in range(2, MAX_NODES + 1):
        ip("address", "add", f"{NodePlan(index).guest_net}.{SWITCH_HOST}/24", "dev", MGMT)
    ip("link", "set", "lo", "up")


def remove_switch() -> None:
    """Removes the namespace and with it bridges, cables and rules; its processes must be dead."""
    if NETNS.exists():
        for network in NETWORKS:
            ip("link", "del", network, check=False)
        run(["ip", "netns", "del", SWITCH])


def unplug(plan: NodePlan) -> None:
    """Takes both of a node's links down: from now on nothing of it reaches anybody."""
    for network in NETWORKS:
        ip("link", "set", plan.link(network), "down", check=False)


def remove_cables(plan: NodePlan) -> None:
    """Removes the links that a killed node leaves behind."""
    for network in NETWORKS:
        ip("link", "del", plan.link(network), check=False)


def load_cuts(path: Path) -> set[Cut]:
    if not path.is_file():
        return set()
    return {Cut(**item) for item in json.loads(path.read_text())}


def apply_cuts(path: Path, cuts: set[Cut]) -> None:
    """Records the cuts, then makes the switch drop exactly them."""
    write_whole(path, json.dumps([asdict(cut) for cut in sorted(cuts)]))
    run(["ip", "netns", "exec", SWITCH, "nft", "-f", "-"], stdin=render_rules(cuts))


def changed_cuts(cuts: set[Cut], links: Sequence[str], direction: str | None, percent: int = 100) -> set[Cut]:
    """The cuts with those of `links` replaced by a new one each, or removed where `direction` is None."""
    if direction is not None and direction not in DIRECTIONS:
        raise LabError(f"unknown direction {direction!r}: one of {', '.join(DIRECTIONS)}")
    if not 0 < percent <= 100:
        raise LabError(f"a share of {percent} % cannot be dropped: give 1 to 100")
    kept = {cut for cut in cuts if cut.link not in links}
    return kept if direction is None else kept | {Cut(link, direction, percent) for link in links}


def check_network(name: str) -> str:
    if name not in NETWORKS:
        raise LabError(f"unknown network {name!r}: one of {', '.join(NETWORKS)}")
    return name
