"""A cluster's configuration, as an operator reads, changes and goes back to it. For runners; needs pydantic and ruamel.

The pillar on the masters is the source, Consul's record says which version of it is in force, and a run of states makes
the one the other. A verb that changes something does what an operator would: it changes the pillar where it stands
(:mod:`.pillar_edit`), has it compiled again to see that it became what was meant, and applies it to all nodes, of which
the first claims the next version by compare-and-set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from .. import config, keys
from ..config import difference
from ..errors import ConfigurationError, FailedError, InputError, RefusedError, UnreachableError
from ..oldsuite import conversion
from . import applying, pillar_edit
from .migration import value_of_any
from .minions import Minions

ASK_S = 10.0
PING_S = 6.0
AFTERWARDS_TRIES = 6
NOT_APPLIED = "its minion does not answer: it was not applied there, `state.apply` does so when it is back"
LARGEST_BYTES = 1024 * 1024
Pillars = Callable[[], Sequence[Mapping[str, Any]]]
"""The pillars of the cluster's nodes, compiled anew."""


def node_at(cluster: config.ClusterConfig, word: str) -> str:
    """The node of that name, or with that address in one of the cluster's networks.

    :raises InputError: there is none; with those that there are.
    """
    found = [name for name, node in cluster.nodes.items() if word in (name, node.management, node.storage)]
    if not found:
        each = ", ".join(f"{name} ({node.management}, {node.storage})" for name, node in cluster.nodes.items())
        raise InputError(f"{word} is no node of cluster {cluster.name}, nor an address of one; its nodes are {each}")
    return found[0]


# ---- written


def exported(cluster: config.ClusterConfig, form: str, vm: str = "") -> str:
    """The configuration as `json`, which the old suite's operators know, or as `pillar`.

    :raises InputError: there is no such form.
    """
    if form == "json":
        return json.dumps(conversion.from_cluster(cluster, conversion.the_vm(cluster, vm)), indent=4) + "\n"
    if form == "pillar":
        return yaml.safe_dump(cluster.to_pillar(), sort_keys=False, width=120, allow_unicode=True)
    raise InputError(f"form={form}: give json or pillar")


def shown(record: Any) -> dict[str, dict[str, Any]]:
    """VM -> the old suite's file of it, by Consul's record of what is in force.

    :raises ConfigurationError: that can't be read.
    """
    cluster = config.load_json(json.dumps(record)).cluster
    return {vm: conversion.from_cluster(cluster, vm) for vm in cluster.vms}


def write_file(path: str, text: str) -> None:
    """Write a file as a whole, readable by its owner only; nothing is followed or shared that lies there already.

    :raises InputError: the path is none.
    :raises FailedError: it can't be written.
    """
    if not path.startswith("/"):
        raise InputError(f"{path}: give the file with its whole path, from / on")
    place = Path(path)
    try:
        if place.is_dir() or (place.exists() and not stat.S_ISREG(place.lstat().st_mode)):
            raise InputError(f"{path} is no file: give another name")
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        with open(handle, "w", encoding="utf-8") as new:
            new.write(text)
        os.replace(name, place)
    except OSError as error:
        raise FailedError(f"{path} can't be written: {error.strerror}") from None


# ---- versions


def in_force(minions: Minions, nodes: Sequence[str]) -> config.Applied:
    """What Consul has as the configuration in force.

    :raises RefusedError: nothing was ever applied.
    """
    entry = minions.first(nodes, "consul_ha.kv_get", {"key": keys.CONFIG, "consistent": True}, ASK_S).value
    if entry is None:
        raise RefusedError("no configuration is in force yet: `salt '*' state.apply` puts the pillar in force")
    return config.load_json(json.dumps(entry["value"]))


def versions(minions: Minions, nodes: Sequence[str]) -> dict[int, config.Applied]:
    """Every version that is kept, the one in force among them; what can't be read any more is left out."""
    current = in_force(minions, nodes)
    found = minions.first(nodes, "consul_ha.kv_list", {"prefix": keys.VERSIONS}, ASK_S).value
    kept: dict[int, config.Applied] = {}
    for value in found.values():
        try:
            one = config.load_json(json.dumps(value))
        except ConfigurationError:
            continue
        kept[one.version] = one
    kept[current.version] = current
    return dict(sorted(kept.items()))


def require_version(kept: Mapping[int, config.Applied], number: int) -> config.Applied:
    """The version of that number.

    :raises InputError: it is not kept; with those that are.
    """
    if number not in kept:
        raise InputError(f"there is no version {number}; kept are {', '.join(map(str, kept))}")
    return kept[number]


def told(minions: Minions, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """The versions, the newest last: number, when, by whom, and the first few changes."""
    rows, before = [], None
    for number, one in versions(minions, nodes).items():
        changes = difference.changes(before.cluster, one.cluster) if before else "the oldest that is kept"
        at = datetime.datetime.fromtimestamp(one.at_s, datetime.UTC).isoformat(timespec="seconds") if one.at_s else ""
        rows.append({"version": number, "at": at, "by": one.by, "changes": changes})
        before = one
    return rows


def lines(old: config.ClusterConfig, new: config.ClusterConfig) -> dict[str, list[str]]:
    """The differences, by when each takes effect."""
    return _by_effect(difference.differences(old.to_mapping(), new.to_mapping()))


def _by_effect(found: Iterable[difference.Difference]) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for one in found:
        result.setdefault(difference.WORDS[one.when], []).append(str(one))
    return result


def accept(minions: Minions, nodes: Sequence[str], master: str) -> config.Applied:
    """Note that `master` knows what is in force, so that its pillar may replace it; what that is.

    :raises UnreachableError: no node has a quorum, or answers.
    """
    applied = in_force(minions, nodes)
    node = minions.first(nodes, "consul_ha.quorum", timeout_s=ASK_S).node
    value_of_any(
        minions.one(node, "consul_ha.kv_put", {"key": keys.master(master), "value": {"version": applied.version}})
    )
    return applied


# ---- changed


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a change does: where the configuration differs, and in which files of this master's pillar that stands."""

    wanted: config.ClusterConfig
    found: tuple[difference.Difference, ...]
    files: dict[Path, str]

    def told(self) -> dict[str, list[str]]:
        """The differences, by when they take effect."""
        return _by_effect(self.found)


def plan(wanted: config.ClusterConfig, pillars: Pillars, files: Mapping[Path, str], *, is_there: bool = True) -> Plan:
    """How the pillar on this master becomes `wanted`. Changes nothing.

    :param files: those that the pillars are made of.
    :param is_there: whether there is a cluster already: then some things can't be changed any more.
    :raises ConfigurationError: the pillar on this master is wrong.
    :raises RefusedError: the change can't be made in a cluster that is there.
    :raises FailedError: a value stands where this program may not write.
    """
    before = config.load(pillars()[0])
    found = tuple(difference.differences(before.to_mapping(), wanted.to_mapping()))
    if is_there and (never := [str(one) for one in found if one.when == "never"]):
        raise RefusedError(f"{', '.join(never)}: that can be changed {difference.WORDS['never']}")
    return Plan(wanted, found, pillar_edit.changed(files, found, wanted.to_mapping()))


def require_in_force(applied: config.Applied, pillars: Pillars) -> None:
    """That the pillar on this master is what is in force: a change of it would bring along what nobody has applied.

    :raises ConfigurationError: the pillar is wrong.
    :raises RefusedError: it is another one.
    """
    for pillar in pillars():
        if differing := difference.changes(applied.cluster, config.load(pillar)):
            raise RefusedError(
                f"the pillar on this master is not what is in force as version {applied.version} ({differing}): put it "
                f"in force by state.apply, or let `salt-run mnha.config_rollback {applied.version}` write what is in "
                "force into it, and try again"
            )


def carry_out(
    change: Plan, minions: Minions, nodes: Sequence[str], pillars: Pillars, before: Mapping[Path, str], who: str,
    tell: Callable[[str], None],
) -> tuple[int, dict[str, list[str]]]:  # fmt: skip
    """Write the pillar and apply it to all nodes.

    :param before: the texts of the files, in case that it does not come into force.
    :param who: whose change it is.
    :param tell: hears how far it is.
    :returns: the version that is in force then; node -> what failed there, where something did.
    :raises FailedError: the pillar did not become what was meant, or no node could take it: it is as it was.
    :raises UnreachableError: no minion answers, and nothing was done; or nobody can say whether it is in force, and the
        pillar is the new one.
    """
    awake = sorted(minions.each(nodes, "test.ping", timeout_s=PING_S))
    if not awake:
        raise UnreachableError(f"none of {', '.join(nodes)} answers within {PING_S:g} s: nothing was changed")
    write(change, pillars, before)
    tell(f"the pillar is written ({', '.join(map(str, change.files))}); it is applied to {', '.join(awake)}")
    asleep = [node for node in nodes if node not in awake]
    faults = apply(minions, awake, who, tell) | {node: [NOT_APPLIED] for node in asleep}
    try:
        applied = _afterwards(minions, awake)
    except UnreachableError as error:
        written = ", ".join(map(str, change.files))
        raise UnreachableError(
            f"the new pillar is written ({written}) and was applied; whether it is in force is not known: "
            f"{error.message}"
        ) from error
    if applied.cluster != change.wanted:
        _put_back(change, before)
        reasons = "; ".join(f"{node}: {told[0]}" for node, told in faults.items()) or "another change came after it"
        raise FailedError(f"it is not in force, and the pillar is as it was: {reasons}")
    return applied.version, faults


def write(change: Plan, pillars: Pillars, before: Mapping[Path, str]) -> None:
    """Write the pillar, and see that it became what is meant.

    :param before: the texts of the files.
    :raises ConfigurationError, FailedError: it did not: it is as it was.
    """
    pillar_edit.write(change.files)
    try:
        for pillar in pillars():
            if differing := difference.places(config.load(pillar), change.wanted):
                raise FailedError(
                    f"another file of the pillar has the last word on {differing}: write it there by hand"
                )
    except (ConfigurationError, FailedError):
        _put_back(change, before)
        raise


def _put_back(change: Plan, before: Mapping[Path, str]) -> None:
    """Make the pillar what it was before a change that did not come into force.

    :raises FailedError: somebody else has written it meanwhile, who may be right: then nothing is touched.
    """
    if others := [str(path) for path, text in change.files.items() if pillar_edit.text_of(path) != text]:
        raise FailedError(
            f"{', '.join(others)}: written by somebody else meanwhile, as by a change through another master, and left "
            "so; this change is not in force: look at `salt-run mnha.config_history`, and try again"
        )
    pillar_edit.write({path: before[path] for path in change.files})


def _afterwards(minions: Minions, nodes: Sequence[str]) -> config.Applied:
    """What is in force after a run of states, which may have restarted minions.

    :raises UnreachableError: nobody can say.
    """
    for _ in range(AFTERWARDS_TRIES - 1):
        with contextlib.suppress(UnreachableError, FailedError):
            return in_force(minions, nodes)
    return in_force(minions, nodes)


def apply(minions: Minions, nodes: Sequence[str], who: str, tell: Callable[[str], None]) -> dict[str, list[str]]:
    """Apply all states on all nodes at once; node -> what failed, where something did."""
    replies = applying.run(minions, nodes, {"pillar": {"mnha_changed_by": who}}, tell)
    return applying.faults(nodes, replies)
