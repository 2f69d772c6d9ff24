"""The minions that a master has accepted, their pillars, and the clusters that they form. For runners."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import salt.cache
import salt.pillar
import salt.utils.minions

from .. import on_demand
from ..errors import InputError


class Inventory:
    """What one master knows of its minions.

    :param opts: the master's options.
    """

    def __init__(self, opts: dict[str, Any]) -> None:
        self._opts = opts

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
        """A cluster's name and nodes, from the pillars that this master has in its cache, else compiled.

        :raises InputError: there is no such cluster, or none is named and there are several.
        """
        cache = salt.cache.factory(self._opts)
        found: dict[str, list[str]] = {}
        for minion in sorted(self.minions()):
            pillar: Mapping[str, Any] = cache.fetch("pillar", minion) or {}
            one = (pillar.get("mnha") or {}).get("cluster") or {}
            if one.get("name") and isinstance(one.get("nodes"), dict):
                found[str(one["name"])] = list(one["nodes"])
            if cluster in found:
                break
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
