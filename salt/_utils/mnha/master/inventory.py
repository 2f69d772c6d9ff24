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
from . import rendering

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
        """A minion's pillar without external pillars: secrets are not needed here, and may not exist yet. What does not
        render is told in `_errors`, in full.
        """
        opts = {**self._opts, "pillar_safe_render_error": False}
        pillar = salt.pillar.Pillar(opts, self.grains(minion) or {"id": minion}, minion, "base")
        return dict(pillar.compile_pillar(ext=False))

    def grains(self, minion: str) -> Mapping[str, Any]:
        """A minion's grains as this master last heard them; none if it never did."""
        _, grains, _ = salt.utils.minions.get_minion_data(minion, self._opts)
        return dict(grains or {})

    def render_faults(self, pillar: Mapping[str, Any]) -> list[str]:
        """Why parts of a compiled pillar are not there; see :func:`mnha.master.rendering.faults`."""
        return rendering.faults(pillar, (self._opts.get("pillar_roots") or {}).get("base") or ())

    def configuration(self, cluster: str) -> Any:
        """The checked configuration of a cluster; see :func:`mnha.master.clusters.find_cluster` for the errors."""
        find = on_demand("master.clusters").find_cluster
        return find(cluster, self.minions(), self.compile_pillar, self.render_faults)

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
            found |= _cluster_of(cache.fetch("pillar", minion) or {})
            if cluster in found:
                break
        found |= own
        if cluster is None:
            found = found or self._compiled()
            if len(found) == 1:
                return next(iter(found.items()))
            raise InputError(f"name the cluster (cluster=NAME); this master has several: {', '.join(sorted(found))}")
        if cluster not in found:
            found[cluster] = list(self.configuration(cluster).nodes)
        return cluster, found[cluster]

    def _own(self) -> dict[str, list[str]]:
        """The cluster that this machine is a node of, and its nodes; nothing if it is none."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            conf = json.loads(self.guard_file.read_text(encoding="utf-8"))
            return {str(conf["cluster"]): list(conf["nodes"])}
        return {}

    def _compiled(self) -> dict[str, list[str]]:
        """The clusters in the minions' pillars, which are in no cache yet.

        :raises InputError: there is none; says why, and what to do.
        """
        none, minions = "no minion’s pillar names a cluster yet", sorted(self.minions())
        if not minions:
            raise InputError(
                "this master has accepted no minion: `salt-key -L` shows who asks, `salt-key -a NODE` accepts it"
            )
        found: dict[str, list[str]] = {}
        for minion in minions:
            pillar = self.compile_pillar(minion)
            if faults := self.render_faults(pillar):
                raise InputError(f"{none}: that of {minion} does not render: {faults[0]}")
            found |= _cluster_of(pillar)
        if not found:
            raise InputError(
                f"{none}; accepted are {', '.join(minions)}: assign the cluster's file to them in the pillar's top.sls"
            )
        return found


def _cluster_of(pillar: Mapping[str, Any]) -> dict[str, list[str]]:
    """The cluster that a pillar names, with its nodes; empty if it names none."""
    cluster = (pillar.get("mnha") or {}).get("cluster") or {}
    if not isinstance(cluster, Mapping) or not cluster.get("name") or not isinstance(cluster.get("nodes"), dict):
        return {}
    return {str(cluster["name"]): list(cluster["nodes"])}
