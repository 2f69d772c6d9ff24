"""What this master's pillar wants of a cluster, compared with what is in force there. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import config
from ..config import difference
from ..errors import ConfigurationError

SHOWN = 3
"""So many differing keys are named."""


def notes(pillar: Mapping[str, Any], recorded: Any, given: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What an operator should know of it; nothing if all is the same.

    Masters with different pillar trees each tell of their own.

    :param pillar: of a node of the cluster, compiled on this master just now.
    :param recorded: what Consul holds as the configuration that was applied last.
    :param given: node -> what was applied to that node last.
    """
    try:
        applied = config.load_json(json.dumps(recorded))
    except ConfigurationError as error:
        return [f"what was applied last can't be read: {error.message}"]
    told = []
    try:
        differing = difference.places(applied.cluster, config.load(pillar))
    except ConfigurationError:
        told.append("the pillar on this master is wrong: `salt-run mnha.check_config` tells all its faults")
    else:
        if differing:
            told.append(
                f"the pillar on this master differs from what is in force ({differing}): state.apply through this"
                f" master puts the pillar in force, `salt-run mnha.config_rollback {applied.version}` writes what is in"
                " force into the pillar"
            )
    for node, mapping in given.items():
        try:
            differing = difference.places(applied.cluster, config.load_mapping(mapping))
        except ConfigurationError:
            differing = "of another version"
        if differing:
            told.append(f"{node}: what was applied there last differs from what is in force ({differing}): state.apply")
    return told
