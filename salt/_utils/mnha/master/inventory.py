"""The minions that a master has accepted, their pillars, and the clusters that they form. For runners."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import salt.cache
import salt.pillar
import salt.utils.minions

from .. import on_demand
from ..errors import InputError

GUARD_FILE = "/etc/mnha/guard.json"
"""Where there is one, this machine is a node (`mnha_guard_file` of a master's configuration overrides the path)."""


class Inventory:
    """What one master knows of its minions.

    :param opts: the master's options.
    """

    def __init__(self, opts: dict[str, Any]) -> None:
        self._opts = opts
        self.guard_file = Path(opts.get("mnha_guard_file", GUARD_FILE))

    def minions(self) -> list[str]:
        """Their ids."""
        folder = Path(self._opts["pki_dir"]) / "minions"
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []

    def compile_pillar(self, minion: str) -> dict[str, Any]:
        """A minion's pillar without external pillars: secrets are not needed here, and may not exist yet."""
        _, grains, _ = salt.utils.minions.get_minion_data(minion, self._opts)
        pillar = salt.pillar.Pillar(self._opts, grains or {"id": minion}, minion, "base")
        return dict(pillar.compile_pillar(ext=False))

    def configuration(self, cluster: str) -> Any:
        """The checked configuration of a cluster; see :func:`mnha.master.clusters.find_cluster` for the errors."""
        return on_demand("master.clusters").find_cluster(cluster, self.minions(), self.compile_pillar)

    def nodes(self, cluster: str | None) -> tuple[str, list[str]]:
        """A cluster's name and nodes: as this machine's guard was given them if it is a node, else from the pillars
        that this master has in its cache (they may be old), else compiled.

        :raises InputError: there is no such cluster, or none is named and there are several.
        """
        own = self._own()
        if cluster in own:
            return cluster, own[cluster]
        cache = salt.cache.factory(self._opts)
        found: dict[str, list[str]] = {}
        for minion in sorted(self.minions()):
            pillar: Mapping[str, Any] = cache.fetch("pillar", minion) or {}
            one = (pillar.get("mnha") or {}).get("cluster") or {}
            if one.get("name") and isinstance(one.get("nodes"), dict):
                found[str(one["name"])] = list(one["nodes"])
            if cluster in found:
                break
        found |= own
        if cluster is None:
            if len(found) == 1:
                return next(iter(found.items()))
            several = f"this master has several: {', '.join(sorted(found))}"
            raise InputError(
                f"name the cluster (cluster=NAME); {several if found else 'no minion’s pillar names any yet'}"
            )
        if cluster not in found:
            found[cluster] = list(self.configuration(cluster).nodes)
        return cluster, found[cluster]

    def _own(self) -> dict[str, list[str]]:
        """The cluster that this machine is a node of, and its nodes; nothing if it is none."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            conf = json.loads(self.guard_file.read_text(encoding="utf-8"))
            return {str(conf["cluster"]): list(conf["nodes"])}
        return {}
