"""This host's own networks: bonds, bridges, VLANs and addresses, as the pillar has them under `mnha:cluster:networks`,
and as states of this host ask for more (`bond.present`, `netbridge.present`).

They are changed as a whole or not at all: what came of a change is looked at, by carrier, LACP, and who answers, and if
anything is wrong the old network comes back, also without Salt (`mnha.host.network.transaction`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha.config import devices as wanted_devices
from mnha.config import own_networks
from mnha.errors import MnhaError
from mnha.host.network import live, owners, reach, transaction

__virtualname__ = "hostnet"
OWN_FILE = "/etc/mnha/networks.json"
"""What states of this host ask for (`mnha_networks_file` of the minion configuration overrides the path)."""
_OWN = "hostnet.own"


def __virtual__():
    return __virtualname__


def wanted() -> list[dict[str, Any]]:
    """The devices that are wanted here, each after those that it lies on; empty: nothing is said of them.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.wanted
    """
    return [{"kind": type(one).__name__.lower(), **dataclasses.asdict(one)} for one in _wanted()]


def names() -> list[str]:
    """The names of the devices that are wanted here.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.names
    """
    return [one.name for one in _wanted()]


def list_() -> dict[str, dict[str, Any]]:
    """The network devices that this host has, by name.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.list
    """
    return {name: dataclasses.asdict(one) for name, one in _look().items()}


__func_alias__ = {"list_": "list"}


def want(kind: str, name: str, test: bool = False, **given: Any) -> dict[str, Any]:
    """Note that this host is to have a bond or a bridge, beside those of the pillar; returns the changes of what is
    noted. `hostnet.apply` makes the network so.

    kind
        bonds or bridges
    name
        its name
    test
        tell what would change
    given
        what it is to be: see the states `bond.present` and `netbridge.present`

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.want bonds bond7 links='[eth6, eth7]'
    """
    own = _own()
    try:
        asked = own_networks.check(kind, name, {key: value for key, value in given.items() if key[:2] != "__"})
        _note(own | {kind: own[kind] | {name: asked}}, test)
    except MnhaError as error:
        raise CommandExecutionError(str(error)) from error
    old = own[kind].get(name)
    return {} if old == asked else {name: {"old": old, "new": asked}}


def unwant(kind: str, name: str, test: bool = False) -> dict[str, Any]:
    """Note that this host is to have a bond or a bridge no more; returns the changes of what is noted.

    kind
        bonds or bridges
    name
        its name
    test
        tell what would change

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.unwant bonds bond7
    """
    own = _own()
    if name not in own[kind]:
        if name in names():
            raise CommandExecutionError(f"{name} is wanted by the pillar (mnha:cluster:networks): take it out there")
        return {}
    try:
        _note(own | {kind: {key: value for key, value in own[kind].items() if key != name}}, test)
    except MnhaError as error:
        raise CommandExecutionError(str(error)) from error
    return {name: {"old": own[kind][name], "new": None}}


def _own_file() -> Path:
    return Path(__opts__.get("mnha_networks_file") or OWN_FILE)


def _own() -> dict[str, dict[str, Any]]:
    """What states of this host ask for; in a dry run also what they would."""
    if _OWN in __context__:
        return __context__[_OWN]
    try:
        found = json.loads(_own_file().read_text(encoding="utf-8"))
        if found["v"] != own_networks.VERSION:
            raise ValueError(f"version {found['v']}")
        return {kind: dict(found[kind]) for kind in own_networks.KINDS}
    except FileNotFoundError:
        return {kind: {} for kind in own_networks.KINDS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandExecutionError(f"{_own_file()} can't be read: {error}; remove it and apply the states") from error


def _note(own: dict[str, dict[str, Any]], test: bool) -> None:
    """Keep what is asked for, if it can be made together with all else that is.

    :raises ConfigurationError: it can't.
    """
    own_networks.devices(own, _of_cluster(), __opts__["id"])
    if test:
        __context__[_OWN] = own
        return
    __context__.pop(_OWN, None)
    transaction.write(_own_file(), json.dumps({"v": own_networks.VERSION, **own}, indent=2) + "\n")


def problems() -> list[str]:
    """What is wrong with this host's network by itself, a sentence each: devices that are missing or carry nothing, and
    what differs from the files. Nobody else is asked.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.problems
    """
    devices = _wanted()
    if not devices:
        return []
    try:
        return [*transaction.unlike(), *reach.carriers(live.look(), devices)]
    except (OSError, MnhaError) as error:
        raise CommandExecutionError(f"the network can't be looked at: {error}") from error


def apply(test: bool = False, force: bool = False, limit_s: float = transaction.LIMIT_S) -> dict[str, Any]:
    """Have this host's network be as the pillar wants it, all or nothing; returns `changes` (the difference of each
    file), `faults` (why the new network does not hold; empty: it does), `is_back` (whether the old one is back by now;
    else systemd's timer brings it) and `took_s`.

    Refused while a VM runs here, for its disk is reached by the storage network; while another program makes the
    network; and where an interface is in use otherwise. All reasons are given at once, and nothing is changed.

    test
        tell what would be changed
    force
        change it under a running VM
    limit_s
        after so long the old network comes back, whatever happens

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.apply test=True
    """
    devices = _wanted()
    if not devices and not transaction.has_made():
        return {"changes": {}, "faults": [], "took_s": 0.0}
    if reasons := owners.others():
        raise CommandExecutionError("the network is not changed: " + "; ".join(reasons))
    try:
        found = transaction.changes(devices)
        if not found and (unlike := transaction.unlike()):
            found = {"the network": "\n".join(unlike)}  # the files are right, and it is not as they say
        if found and not force:
            _require_no_vm()
        if test or not found:
            return {"changes": found, "faults": [], "took_s": 0.0}
        judge = reach.Reach(_networks(devices), devices, _masters())
        outcome = transaction.apply(devices, judge.faults, float(limit_s))
    except (OSError, MnhaError) as error:
        raise CommandExecutionError(str(error)) from error
    return {"changes": {} if outcome.faults else found, "faults": list(outcome.faults), "is_back": outcome.is_back,
            "took_s": round(outcome.took_s, 2)}  # fmt: skip


def _of_cluster() -> tuple[Any, ...]:
    """The devices of the cluster's networks; none on a host that is no node of a cluster."""
    if not __pillar__.get("mnha"):
        return ()
    return wanted_devices.devices(__salt__["mnha_config.cluster"](), __opts__["id"])


def _wanted() -> tuple[Any, ...]:
    try:
        return own_networks.devices(_own(), _of_cluster(), __opts__["id"])
    except MnhaError as error:
        raise CommandExecutionError(str(error)) from error


def _networks(devices: tuple[Any, ...]) -> tuple[reach.Network, ...]:
    """Those in which this host is to have an address: the cluster's, and those of its own states."""
    theirs = ()
    if __pillar__.get("mnha"):
        theirs = wanted_devices.networks(__salt__["mnha_config.cluster"](), __opts__["id"])
    known = {one.device for one in theirs}
    return theirs + tuple(
        reach.Network(one.name, one.name, one.address.partition("/")[0], one.mtu, one.gateway)
        for one in devices
        if one.address and one.name not in known
    )


def _look() -> dict[str, live.Interface]:
    try:
        return live.look()
    except OSError as error:
        raise CommandExecutionError(f"the kernel does not tell of its network devices: {error}") from error


def _masters() -> list[str]:
    """The addresses of this minion's masters."""
    masters = __opts__.get("master") or []
    return [masters] if isinstance(masters, str) else list(masters)


def _require_no_vm() -> None:
    """That no protected VM runs here."""
    if vms := __salt__["guard.vms_here"]():
        raise CommandExecutionError(
            f"the network is not changed while {', '.join(vms)} runs here, for its disk would be cut off: "
            f"`salt-run mnha.maintenance {__opts__['id']} on` moves it away; or `force=True`"
        )
