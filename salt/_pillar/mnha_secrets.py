"""Hands each node its store, and each node that is a master what it needs to serve the cluster.

Master configuration:

.. code-block:: yaml

    module_dirs: [/srv/mnha/salt]
    ext_pillar:
      - mnha_secrets: {}

Which cluster a minion belongs to comes from its pillar (`mnha:cluster`), so this external pillar runs after the pillar
tree. A minion that is no node of the cluster named there gets nothing.

- `mnha_secrets`: the node's certificate, key and tokens, and what the cluster shares; never another node's. In `ceph`
  the key of each VM whose disk is in Ceph, for each node may run it.
- `mnha_given_by`: the name of this master's host. By it the states know whose pillar they apply.
- `mnha_build`: which commit this master's tree is, as :mod:`mnha.master.build` knows it.
- `mnha_master` (only with `mnha:cluster:salt:masters_on_nodes`): the shared master key pair, all secrets of the
  cluster, the accepted keys of its nodes, and of the pillar tree what the cluster needs; of all else in it the names,
  so that nothing of that stays where it was once. Such a node decides about the others anyway.

Salt's own `file_tree` could hand out files by minion id, but not the same files to all masters of a cluster, and it
gives everything below a folder or nothing: each secret would have to lie in as many copies as there are readers.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnha.errors import MnhaError
from mnha.master import build, pillar_tree
from mnha.secrets import ceph, store

log = logging.getLogger(__name__)


def ext_pillar(minion_id: str, pillar: dict[str, Any], **_: Any) -> dict[str, Any]:
    """The secrets of `minion_id`, or nothing if it is no node of a cluster.

    Missing secrets are logged and left out rather than raised: an error in one external pillar would take every other
    function of the minion away, and the states say clearly what is missing.
    """
    cluster = (pillar.get("mnha") or {}).get("cluster") or {}
    name, nodes = cluster.get("name"), cluster.get("nodes") or {}
    if not name or minion_id not in nodes:
        return {}
    home = store.folder(__opts__) / str(name)
    try:
        result: dict[str, Any] = {
            "mnha_secrets": {**store.for_node(home, minion_id), "ceph": ceph.keys(home)},
            "mnha_given_by": socket.gethostname(),
            "mnha_build": build.of_tree(Path(__file__).resolve().parents[1]),
        }
        masters = cluster.get("salt") or {}
        if masters.get("masters_on_nodes", True):
            more = masters.get("pillar_files")
            result["mnha_master"] = _for_master(home, list(nodes), more if isinstance(more, list) else ())
    except MnhaError as error:
        log.warning("no secrets for %s: %s", minion_id, error)
        return {}
    return result


def _for_master(home: Path, nodes: list[str], patterns: Sequence[str]) -> dict[str, Any]:
    accepted = Path(__opts__["pki_dir"]) / "minions"
    keys = {node: (accepted / node).read_text() for node in nodes if (accepted / node).is_file()}
    tree = pillar_tree.of_cluster(__opts__, nodes, patterns)
    return {"secrets": store.tree(home), "minion_keys": keys, "pillar_files": tree.needed, "pillar_others": tree.others}
