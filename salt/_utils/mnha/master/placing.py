"""The cluster as a placement sees it, from Consul's records and the applied configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import keys
from ..core.choose import Needs, Node
from ..core.placement import Cluster, placed


def cluster_of(conf: Mapping[str, Any], values: Mapping[str, Any], nodes: Sequence[Node], also: str = "") -> Cluster:
    """All VMs with what they need and where they are.

    :param conf: the configuration (`mnha.config.ClusterConfig.to_mapping`).
    :param values: the records of the VMs by key, relative to the cluster's prefix.
    :param also: a VM that is among them even if the configuration does not have it; then it needs nothing.
    """
    vms = {**({also: {}} if also else {}), **(conf.get("vms") or {})}
    return Cluster(
        nodes,
        {
            name: placed(
                Needs(name, int(vm.get("memory_mib") or 0), int(vm.get("cpus") or 0)),
                vm.get("prefer") or (),
                values.get(keys.lease(name)),
                (values.get(keys.desired(name)) or {}).get("run"),
            )
            for name, vm in vms.items()
        },
        int(conf.get("memory_reserve_mib") or 0),
    )
