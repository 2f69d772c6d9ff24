"""State of this host's bridges: that one is there, and those beside the cluster's networks (`mnha:cluster:networks`).

What is asked for is noted, and checked together with all else. One last state makes the network so, as a whole or not
at all:

.. code-block:: yaml

    br_bond7:
      netbridge.present:
        - port: bond7
        - address: 10.0.0.3/24
    networks:
      hostnet.applied:
        - order: last
"""

from __future__ import annotations

from typing import Any

__virtualname__ = "netbridge"
Result = dict[str, Any]


def __virtual__():
    if "hostnet.want" in __salt__:
        return __virtualname__
    return False, "the execution module hostnet is missing"


def present(
    name: str, port: str, mtu: int | None = None, address: str | None = None, gateway: str | None = None
) -> Result:
    """This host is to have a bridge.

    name
        its name, such as br_bond7
    port
        what it lies on: a bond, or a network interface
    mtu
        the largest packet; left out: 1500
    address
        the host's address on it, with the prefix's length: 10.0.0.3/24
    gateway
        where the default route goes, if through this bridge
    """
    return __states__["hostnet.wanted"](name, "bridges", port=port, mtu=mtu, address=address, gateway=gateway)


def absent(name: str) -> Result:
    """This host is not to have a bridge, if it was asked for by `netbridge.present`.

    name
        its name
    """
    return __states__["hostnet.unwanted"](name, "bridges")


def there(name: str) -> Result:
    """A bridge is there, whoever has made it: VMs are to be connected to it. Nothing is changed.

    name
        its name
    """
    is_wanted = name in __salt__["hostnet.names"]()
    if __salt__["netbridge.exists"](name):
        return {"name": name, "result": True, "changes": {}, "comment": f"bridge {name} is there"}
    if is_wanted and __opts__["test"]:
        return {"name": name, "result": None, "changes": {}, "comment": f"bridge {name} would be made before"}
    comment = f"bridge {name} is missing on {__opts__['id']}: create it, with the address of the host on it, or let "
    comment += "mnha:cluster:networks have it; and apply again"
    return {"name": name, "result": False, "changes": {}, "comment": comment}
