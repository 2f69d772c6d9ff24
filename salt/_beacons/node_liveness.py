"""Whether this node's peers are seen by Consul, and whether this node itself could run its VMs.

Both are what the guard of this node knows; the beacon asks its socket and nothing else (see mnvm_health for
why). Reports changes only. Events are `salt/beacon/<minion>/node_liveness/<cluster>/<peer>/lost|back|unknown`
and `…/node_liveness/<cluster>/<self>/<check>_lost|<check>_back`, of a check that concerns one VM only
`…/<self>/<vm>/<check>_lost|<check>_back`, of a network (`management`, `storage_network`, `data_network`) also
`…/<self>/<check>_degraded`: a link of its bond, or its gateway, is silent. Each carries cluster, node, text, and one of
a VM vm. "I could not look" is an event of its own, `unknown`, and never `lost`.

.. code-block:: yaml

    beacons:
      node_liveness:
        - interval: 1
        - cluster: example      # required
        - timeout_s: 0.3        # of the guard's socket; the minion's loop waits as long
"""

from __future__ import annotations

import logging
from typing import Any

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "node_liveness"

COMMON = {"interval": (int, float), "enabled": bool, "run_once": bool, "disable_during_state_run": bool,
          "beacon_module": str, "_beacon_name": str}  # fmt: skip
TIMEOUT_S = 0.3
WORDS = {True: "back", False: "lost", None: "unknown"}


def __virtual__():
    return __virtualname__


def validate(config: Any) -> tuple[bool, str]:
    """Whether the beacon's configuration is right; an unknown or misspelt key is not."""
    if not isinstance(config, list) or not all(isinstance(part, dict) for part in config):
        return False, "Configuration for node_liveness beacon must be a list of mappings."
    options = {key: value for part in config for key, value in part.items()}
    for key, value in options.items():
        if key in COMMON:
            if not isinstance(value, COMMON[key]):
                return False, f"node_liveness: {key} is {value!r}, of a wrong type."
        elif key == "timeout_s":
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.05 <= value <= TIMEOUT_S:
                return False, f"node_liveness: timeout_s is {value!r}, not a number from 0.05 to {TIMEOUT_S}."
        elif key != "cluster":
            return False, f"node_liveness: unknown key {key!r}; known are cluster, interval, timeout_s."
    if not isinstance(options.get("cluster"), str) or not options["cluster"]:
        return False, "node_liveness: `cluster` is missing, the cluster's name."
    return True, "Valid beacon configuration"


def beacon(config: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask the guard once and return the events of what has changed."""
    options = {key: value for part in config for key, value in part.items()}
    memory = __context__.setdefault("node_liveness", {})
    cluster = options["cluster"]
    try:
        status = __salt__["guard.status"](timeout_s=options.get("timeout_s", TIMEOUT_S))
    except (CommandExecutionError, KeyError) as error:
        return _all_unknown(memory, cluster, f"the guard of {__opts__['id']} can't be asked: {error}")
    events = _peer_events(memory, cluster, status.get("peers") or {})
    return events + _check_events(memory, cluster, status)


def _all_unknown(memory: dict[str, Any], cluster: str, why: str) -> list[dict[str, Any]]:
    """Nothing is known of any peer any more."""
    peers = memory.setdefault("peers", {})
    changed = [name for name, alive in sorted(peers.items()) if alive is not None]
    peers.update(dict.fromkeys(changed))
    return [{"tag": f"{cluster}/{name}/unknown", "cluster": cluster, "node": name, "text": why} for name in changed]


def _peer_events(memory: dict[str, Any], cluster: str, peers: dict[str, Any]) -> list[dict[str, Any]]:
    """Peers that Consul has lost, sees again, or can't be asked about. At the first look only bad news is
    news.
    """
    known, events = memory.setdefault("peers", {}), []
    for name, peer in sorted(peers.items()):
        alive = peer.get("alive") if isinstance(peer, dict) else None
        before = known.get(name, True)
        known[name] = alive
        if alive is not before:
            text = {True: f"Consul sees {name} again", False: f"Consul has lost {name}"}.get(
                alive, f"whether {name} lives is not known: {peer.get('why', '') if isinstance(peer, dict) else ''}"
            )
            events.append({"tag": f"{cluster}/{name}/{WORDS[alive]}", "cluster": cluster, "node": name, "text": text})
    return events


def _check_events(memory: dict[str, Any], cluster: str, status: dict[str, Any]) -> list[dict[str, Any]]:
    """Checks of this node, then of each VM here, that fail, or are right again. A network may be degraded as well."""
    known, events, own = memory.setdefault("checks", {}), [], __opts__["id"]
    networks = status.get("network_checks") or {}
    told = [("", {**(status.get("checks") or {}), **(status.get("salt_checks") or {}), **networks})]
    told += [(vm, one.get("checks") or {}) for vm, one in sorted((status.get("vms") or {}).items())]
    for vm, name, check in [(vm, name, check) for vm, checks in told for name, check in sorted(checks.items())]:
        word = "back" if check.get("ok") else "lost"
        if word == "back" and check.get("why") and not vm and name in networks:
            word = "degraded"
        before = known.get((vm, name), "back")
        known[vm, name] = word
        if word != before:
            text = f"{name} is right again" if word == "back" else check.get("why") or f"{name} fails"
            place = "/".join(filter(None, (cluster, own, vm)))
            about = {"cluster": cluster, "node": own, **({"vm": vm} if vm else {})}
            events.append({"tag": f"{place}/{name}_{word}", **about, "text": text})
    return events
