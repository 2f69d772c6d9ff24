"""Which clusters a master looks after: found in the pillars of its minions.

For runners. Salt comes in as a function, so nothing here depends on Salt's loader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .. import config
from ..errors import InputError

CompilePillar = Callable[[str], Mapping[str, Any]]


def find_cluster(
    name: str, minions: Iterable[str], compile_pillar: CompilePillar,
    render_faults: Callable[[Mapping[str, Any]], list[str]] = lambda pillar: [],
) -> config.ClusterConfig:  # fmt: skip
    """The checked configuration of cluster `name`, from the pillar of the first minion that belongs to it.

    :param compile_pillar: a minion's pillar, without external pillars.
    :param render_faults: why parts of it are not there.
    :raises InputError: no minion belongs to it; names the clusters that there are.
    :raises ConfigurationError: the cluster's pillar is wrong; with all faults.
    """
    others: set[str] = set()
    broken: dict[str, str] = {}
    for minion in sorted(minions):
        pillar = compile_pillar(minion)
        found = ((pillar.get("mnha") or {}).get("cluster") or {}).get("name")
        if found == name:
            return config.load(pillar)
        if found:
            others.add(str(found))
        elif faults := render_faults(pillar):
            broken[minion] = faults[0]
    if broken:
        each = "; ".join(f"that of {minion} does not render: {fault}" for minion, fault in broken.items())
        raise InputError(f"no minion's pillar names a cluster {name!r}: {each}")
    known = f"known are {', '.join(sorted(others))}" if others else "no minion's pillar names any"
    raise InputError(
        f"no accepted minion belongs to a cluster {name!r}; {known}. Accept the nodes' keys (salt-key -a) and assign"
        " the cluster's file to them in the pillar's top.sls"
    )
