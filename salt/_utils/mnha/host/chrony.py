"""What chrony is told on a node: whom it asks, and whom it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HEAD = "# Managed by Salt: mnha:cluster:chrony_servers of the pillar.\n"
COMMON = """\
driftfile /var/lib/chrony/chrony.drift
makestep 1 3
rtcsync
leapsectz right/UTC
"""
"""As Debian's own: a clock that is wrong by more than a second is set at the start, and steered ever after."""
OWN_STRATUM = 10
"""That of a node's own clock, which counts only while no better one is in reach; of several the lowest address leads
(`orphan`).
"""


def text(servers: Sequence[str], node: str, names: Mapping[str, Sequence[str]]) -> str:
    """The configuration file of `node`.

    A node that is one of the servers asks the other servers, never itself, and answers all nodes: by its own clock
    where nobody outside is in reach, so that the nodes at least agree.

    :param servers: whom all nodes take the time from, by name or address.
    :param names: node -> what it is called: name and addresses.
    """
    own = set(names[node])
    lines = [f"server {one} iburst" for one in servers if one not in own]
    if own & set(servers):
        lines.append(f"local stratum {OWN_STRATUM} orphan")
        lines += [f"allow {one}" for other in names if other != node for one in names[other] if one[0].isdigit()]
    return HEAD + "".join(f"{line}\n" for line in lines) + COMMON
