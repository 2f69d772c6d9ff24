"""A cluster's configuration: read, checked as a whole, written.

The pillar holds it under ``mnha:cluster``. :func:`load` makes a :class:`ClusterConfig` of it, or one
:class:`~mnha.errors.ConfigurationError` whose ``faults`` list *everything* that is wrong, each with path, value,
problem and remedy. Further forms of a configuration (other file formats) are further modules of this package that
produce or take the mapping of :meth:`ClusterConfig.to_mapping`.

Nothing here does I/O, and nothing here holds secrets. This package needs pydantic; the guard, which must run without,
reads what :func:`guard_config` derives.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigurationError, Fault
from . import faults as _faults
from . import rules as _rules
from .fields import join, nested, show, value_at
from .guard import GUARD_FILE, domain_file, fencer_config, guard_config
from .model import ClusterConfig, Network, Node, Vm

__all__ = [
    "GUARD_FILE",
    "Applied",
    "ClusterConfig",
    "Network",
    "Node",
    "Vm",
    "applied_to_json",
    "domain_file",
    "doubts",
    "fencer_config",
    "guard_config",
    "load",
    "load_json",
    "load_mapping",
    "value_at",
]

ROOT = "mnha:cluster"
FORMAT = 1
"""Version of the JSON form. It rises when an older reader could misunderstand a newer text."""


def load(pillar: Mapping[str, Any]) -> ClusterConfig:
    """Read the cluster's configuration from a minion's whole pillar.

    :param pillar: the pillar; only what stands under ``mnha:cluster`` is looked at.
    :raises ConfigurationError: with all faults.
    """
    cluster = nested(pillar, "mnha", "cluster")
    if not isinstance(cluster, Mapping):
        problem = "is missing" if cluster is None else f"{show(cluster)} is not a mapping"
        raise ConfigurationError(
            faults=[Fault(ROOT, cluster, problem, "assign a cluster's file to this minion in the pillar's top.sls")]
        )
    return load_mapping(cluster)


def load_mapping(cluster: Mapping[str, Any]) -> ClusterConfig:
    """Like :func:`load`, from what stands under ``mnha:cluster``."""
    faults = list(_rules.unread(cluster))
    try:
        found = ClusterConfig.model_validate(cluster)
        if not faults:
            return found
    except ValidationError as error:
        faults += _faults.from_pydantic(error, ClusterConfig, cluster)
        if any(detail["loc"] for detail in error.errors()):
            # The model runs the rules between keys only when every key is valid: run them over the valid rest.
            faults += _rules.check(_faults.without_faulty(error, dict(cluster)))
    absolute = (dataclasses.replace(fault, path=join(ROOT, fault.path)) for fault in faults)
    raise ConfigurationError(faults=sorted(absolute, key=lambda fault: fault.path))


def doubts(cluster: ClusterConfig, memory_mib: int = 0, cores: int = 0) -> list[Fault]:
    """What is allowed, and may turn out badly: in the form of faults, for a warning.

    :param memory_mib: of the node that it is for; 0: not known.
    :param cores: of that node; 0: not known.
    """
    values = cluster.to_mapping()
    found = (*_rules.doubts(values), *_rules.outgrown(values, memory_mib, cores))
    return [dataclasses.replace(doubt, path=join(ROOT, doubt.path)) for doubt in found]


@dataclasses.dataclass(frozen=True)
class Applied:
    """A configuration as it was applied: `version` grows by one with every change of the cluster's.

    :param by: who changed it, and through which master; empty: not known.
    :param at_s: when, seconds since 1970; 0: not known.
    """

    version: int
    cluster: ClusterConfig
    by: str = ""
    at_s: float = 0.0


def applied_to_json(applied: Applied) -> str:
    """The form kept in Consul KV. Stable: equal configurations give equal texts, whatever the order of the pillar."""
    record = {"v": FORMAT, "version": applied.version, "cluster": applied.cluster.to_mapping()}
    record |= {"by": applied.by, "at_s": applied.at_s}
    return json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def load_json(text: str | bytes) -> Applied:
    """Read what :func:`applied_to_json` wrote.

    :raises ConfigurationError: it is not JSON, of another format version, or not a valid configuration.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"the applied configuration is not JSON ({error}); apply the pillar again") from None
    form, version = nested(record, "v"), nested(record, "version")
    if form != FORMAT or not isinstance(version, int) or isinstance(version, bool):
        raise ConfigurationError(
            f"the applied configuration has form {show(form)} and version {show(version)}, this program reads form "
            f"{FORMAT} with a whole number as version; use the program that wrote it, or apply the pillar again"
        )
    by, at_s = record.get("by"), record.get("at_s")
    return Applied(
        version,
        load({"mnha": {"cluster": record.get("cluster")}}),
        by if isinstance(by, str) else "",
        float(at_s) if isinstance(at_s, int | float) and not isinstance(at_s, bool) else 0.0,
    )
