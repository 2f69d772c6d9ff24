"""State of this host's bonds, beside those of the cluster's networks (`mnha:cluster:networks` of the pillar).

What is asked for is noted, and checked together with all else. One last state makes the network so, as a whole or not
at all:

.. code-block:: yaml

    bond7:
      bond.present:
        - links: [eth6, eth7]
    networks:
      hostnet.applied:
        - order: last
"""

from __future__ import annotations

from typing import Any

__virtualname__ = "bond"
Result = dict[str, Any]


def __virtual__():
    if "hostnet.want" in __salt__:
        return __virtualname__
    return False, "the execution module hostnet is missing"


def present(
    name: str,
    links: list[str],
    mode: str | int | None = None,
    mtu: int | None = None,
    miimon_ms: int | None = None,
    xmit_hash_policy: str | None = None,
    lacp_rate: str | None = None,
    primary: str | None = None,
    updelay_ms: int | None = None,
    downdelay_ms: int | None = None,
    address: str | None = None,
    gateway: str | None = None,
) -> Result:
    """This host is to have a bond.

    name
        its name, such as bond7
    links
        the network interfaces in it
    mode
        by its name or number; left out: 802.3ad (4), LACP
    mtu
        the largest packet; left out: 1500
    miimon_ms, xmit_hash_policy, lacp_rate, primary, updelay_ms, downdelay_ms
        as under `mnha:cluster:networks:bonds` of the pillar
    address
        the host's address on it, with the prefix's length: 10.0.0.3/24
    gateway
        where the default route goes, if through this bond
    """
    given = {"links": links, "mode": mode, "mtu": mtu, "miimon_ms": miimon_ms, "xmit_hash_policy": xmit_hash_policy,
                 "lacp_rate": lacp_rate, "primary": primary, "updelay_ms": updelay_ms, "downdelay_ms": downdelay_ms,
                 "address": address, "gateway": gateway}  # fmt: skip
    return __states__["hostnet.wanted"](name, "bonds", **given)


def absent(name: str) -> Result:
    """This host is not to have a bond, if it was asked for by `bond.present`.

    name
        its name
    """
    return __states__["hostnet.unwanted"](name, "bonds")
