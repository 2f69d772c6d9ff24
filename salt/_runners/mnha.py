"""What an operator types: `salt-run mnha.VERB cluster=NAME`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import salt.pillar
import salt.utils.minions
from salt.exceptions import CommandExecutionError

from mnha import pillars, secrets
from mnha.errors import MnhaError

log = logging.getLogger(__name__)


def bootstrap(cluster: str, renew_certificates: bool = False) -> dict[str, Any]:
    """Make a cluster's secrets on this master: authority, certificates, Consul's keys and tokens, Salt's shared key.

    What exists already stays as it is, so it may be run again at any time: after a node was added, or to hear which
    certificates end soon. Nodes get their secrets with the next `state.apply`.

    cluster
        the cluster's name in the pillar
    renew_certificates
        make the nodes' certificates and keys anew, after a change of address or before they end

    CLI Example:

    .. code-block:: bash

        salt-run mnha.bootstrap cluster=example
    """
    try:
        conf = pillars.find_cluster(cluster, _accepted_minions(), _compile_pillar)
        plan = secrets.Plan(
            cluster=conf.name,
            datacenter=conf.name,
            nodes={name: (node.storage, node.management) for name, node in conf.nodes.items()},
            masters_on_nodes=conf.salt.masters_on_nodes,
            salt_master_key=Path(__opts__["pki_dir"]) / "master.pem",
        )
        folder = secrets.folder(__opts__) / conf.name
        report = secrets.bootstrap(folder, plan, renew_certificates=renew_certificates)
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error
    result: dict[str, Any] = {"folder": str(folder), "created": report.created}
    return {**result, "kept": len(report.kept), "warnings": report.warnings}


def _accepted_minions() -> list[str]:
    folder = Path(__opts__["pki_dir"]) / "minions"
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def _compile_pillar(minion: str) -> dict[str, Any]:
    """A minion's pillar without external pillars: secrets are not needed here, and may not exist yet."""
    _, grains, _ = salt.utils.minions.get_minion_data(minion, __opts__)
    return salt.pillar.Pillar(__opts__, grains or {"id": minion}, minion, "base").compile_pillar(ext=False)
