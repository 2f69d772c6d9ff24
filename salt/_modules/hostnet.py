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
from mnha.config import network_rules, own_networks
from mnha.errors import MnhaError
from mnha.host.network import ifupdown2, live, owners, reach, transaction
from mnha.host.network.wanted import Device, Wish

__virtualname__ = "hostnet"
OWN_FILE = "/etc/mnha/networks.json"
"""What states of this host ask for (`mnha_networks_file` of the minion configuration overrides the path)."""
_OWN = "hostnet.own"
_NO_NETWORKS = "the pillar has no mnha:cluster:networks"
_NOTHING = f"{_NO_NETWORKS}, and no state of this host asks for a bond or a bridge"


def __virtual__():
    return __virtualname__


def wanted() -> list[dict[str, Any]]:
    """The devices that are wanted here, each after those that it lies on; empty: nothing is said of them.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.wanted
    """
    return [{"kind": type(one).__name__.lower(), **dataclasses.asdict(one)} for one in _wish().devices]


def names() -> list[str]:
    """The names of the devices that are wanted here.

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.names
    """
    return [one.name for one in _wish().devices]


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
    _require(kind=kind, name=name, test=test)
    own = _own()
    try:
        asked = own_networks.check(kind, name, {key: value for key, value in given.items() if key[:2] != "__"})
        _note(own | {kind: own[kind] | {name: asked}}, test)
    except (OSError, MnhaError) as error:
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
    _require(kind=kind, name=name, test=test)
    own, name = _own(), str(name)
    if name not in own[kind]:
        if name in names():
            raise CommandExecutionError(f"{name} is wanted by the pillar (mnha:cluster:networks): take it out there")
        return {}
    try:
        _note(own | {kind: {key: value for key, value in own[kind].items() if key != name}}, test)
    except (OSError, MnhaError) as error:
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
    own_networks.devices(own, _of_cluster() or (), __opts__["id"])
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
    devices = _wish().devices
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
    network; where an interface is in use otherwise; where an address by which the cluster knows this host would be
    gone; and where another master's pillar is in force. All reasons are given at once, and nothing is changed.

    Of the cluster's networks nothing is touched while the pillar has none, and `comment` says so.

    test
        tell what would be changed
    force
        change it under a running VM, and try what is expected to take an address away; if it does, the old network
        comes back even so
    limit_s
        after so many seconds (10 to 3600) the old network comes back, whatever happens

    CLI Example:

    .. code-block:: bash

        salt node1 hostnet.apply test=True
    """
    _require(test=test, force=force, limit_s=limit_s)
    try:
        wish = _wish()
        plan = transaction.plan(wish)
        if not wish.devices and not plan.changes:
            return _same(f"{_NOTHING}: nothing is touched, and {ifupdown2.OWN} stays as it is")
        missing, found = transaction.missing(), plan.changes
        reasons = [*owners.others(), *plan.reasons, *transaction.unconfirmed()]
        if not found and not missing and (unlike := transaction.unlike()):
            found = {"the network": "\n".join(unlike)}  # the files are right, and it is not as they say
        if missing and not (test and found):  # in a dry run of the states they would be there by then
            reasons += missing
        if found:
            reasons += [*([] if force else [*plan.losses, *_vms()]), *_older()]
        if reasons:
            raise CommandExecutionError(transaction.refusal(reasons))
        if test or not found:
            kept = f"{_NO_NETWORKS}: what {ifupdown2.OWN} has of the cluster's networks stays as it is"
            return _same("" if wish.cluster else kept, found)
        judge = reach.Reach(_networks(wish.devices), wish.devices, _masters(), _known_by())
        outcome = transaction.apply(plan, judge.faults, float(limit_s))
    except (OSError, MnhaError) as error:
        raise CommandExecutionError(str(error)) from error
    if outcome.faults:
        __context__["retcode"] = 1
    return {"changes": {} if outcome.faults else found, "faults": list(outcome.faults), "is_back": outcome.is_back,
            "took_s": round(outcome.took_s, 2), "comment": ""}  # fmt: skip


def _same(comment: str = "", found: dict[str, str] | None = None) -> dict[str, Any]:
    """What `apply` returns where nothing was changed."""
    return {"changes": found or {}, "faults": [], "took_s": 0.0, "comment": comment}


def _require(**given: Any) -> None:
    """That what was typed is what it should be: any other word would count as true, or be no key."""
    kinds = {"kind": _is_kind, "name": _is_name, "limit_s": _is_limit}
    needed = {
        "kind": f"{' or '.join(own_networks.KINDS)}, and then the name",
        "name": "a device's name",
        "limit_s": f"a number of seconds from {transaction.SHORTEST_S:g} to {transaction.LONGEST_S:g}",
    }
    wrong = [
        f"{key} is {value!r}: give {needed.get(key, 'True or False')}"
        for key, value in given.items()
        if not kinds.get(key, _is_flag)(value)
    ]
    if wrong:
        raise CommandExecutionError("; ".join(wrong))


def _is_kind(value: Any) -> bool:
    return isinstance(value, str) and value in own_networks.KINDS


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_limit(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and transaction.SHORTEST_S <= value <= transaction.LONGEST_S


def _cluster() -> Any | None:
    """The cluster's configuration by the pillar; None on a host that is no node of one."""
    return __salt__["mnha_config.cluster"]() if __pillar__.get("mnha") else None


def _of_cluster() -> tuple[Device, ...] | None:
    """The devices of the cluster's networks; None where the pillar says nothing of them."""
    cluster = _cluster()
    return (wanted_devices.devices(cluster, __opts__["id"]) if cluster else ()) or None


def _wish() -> Wish:
    """What this host is to have, and what it is not to lose."""
    cluster = _of_cluster()
    has_said = _OWN in __context__ or _own_file().exists()
    try:
        found = own_networks.devices(_own(), cluster or (), __opts__["id"])
    except MnhaError as error:
        raise CommandExecutionError(str(error)) from error
    theirs = {one.name for one in cluster or ()}
    return Wish(
        None if cluster is None else tuple(one for one in found if one.name in theirs),
        tuple(one for one in found if one.name not in theirs) if has_said else None,
        {one.role: one.address for one in _known_by()},
    )


def _known_by() -> tuple[reach.Network, ...]:
    """The networks in which the cluster knows this host, whoever makes them."""
    cluster = _cluster()
    if cluster is None:
        return ()
    return tuple(wanted_devices.known_by(cluster, __opts__["id"], role) for role in network_rules.ADDRESSED)


def _networks(devices: tuple[Device, ...]) -> tuple[reach.Network, ...]:
    """Those in which this host is to have an address: the cluster's, and those of its own states."""
    cluster = _cluster()
    theirs = wanted_devices.networks(cluster, __opts__["id"]) if cluster else ()
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


def _vms() -> list[str]:
    """Why the network is not changed under a protected VM, a sentence each; none if no such VM runs here."""
    try:
        vms = __salt__["guard.vms_here"]()
    except CommandExecutionError as error:
        return [str(error)]
    if not vms:
        return []
    away = f"`salt-run mnha.maintenance {__opts__['id']} on` moves it away"
    return [f"{', '.join(vms)} runs here, and its disk would be cut off: {away}; or `force=True`"]


def _older() -> list[str]:
    """Why this run's pillar does not count, where Consul can be asked: another master's came first."""
    if not __pillar__.get("mnha_given_by"):
        return []
    try:
        text = __salt__["mnha_config.record"](test=True).get("refused")
    except CommandExecutionError:
        return []  # this very network may be what Consul is reached by
    return [text] if text else []
