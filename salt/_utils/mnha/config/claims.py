"""Whether a pillar may replace the configuration that is in force. Pure.

Consul's record has a version, which grows with each change. Each master is remembered with the version that its pillar
was in force as last. One that is behind does not know what others have changed since: what it has would take that back
without anybody having said so. So it is refused, with the difference.
"""

from __future__ import annotations

from collections.abc import Mapping

from . import Applied, ClusterConfig
from .difference import changes


def refusal(wanted: ClusterConfig, applied: Applied, master: str, known: Mapping[str, int]) -> str:
    """Why `wanted` does not replace what is `applied`; empty if it may.

    :param master: whose pillar `wanted` is; empty: nobody's, as with `salt-call --local`.
    :param known: master -> the version that its pillar was in force as last. Empty: none was ever remembered.
    """
    if wanted == applied.cluster or not master or not known or known.get(master) == applied.version:
        return ""
    last = f"was last in force as version {known[master]}" if master in known else "was never in force"
    by = f", by {applied.by}" if applied.by else ""
    return (
        f"the pillar on master {master} {last}; version {applied.version} is in force{by}, from which it would change "
        f"{changes(applied.cluster, wanted)}. Apply through a master that has version {applied.version}, and {master} "
        f"gets its tree; or `salt-run mnha.config_accept` on {master}, if its pillar is to count"
    )
