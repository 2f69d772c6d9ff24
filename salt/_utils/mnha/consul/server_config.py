"""The configuration of a node's Consul server, for Consul 1.8 (Debian 11's) up to HashiCorp's current ones.

Pure: from the node's names, addresses and secrets to what stands in /etc/mnha/consul/. The names of options changed
over the years; each change is a line in the code with the version that brought it.

Values that differ from Consul's defaults, and why:

- `raft_multiplier: 1`: an election must fit into the lease's deadline (the default 5 takes up to 10 s).
- `cleanup_dead_servers: false`: autopilot would remove a crashed server within seconds; when a second one fails then
  and the first returns, two of three are up without a quorum. For the same reason `reconnect_timeout` is long: after it
  (72 h by default) a dead server would be removed from Raft, too.
- gossip: see :data:`GOSSIP`.
- `retry_interval: 2s` instead of 30 s: three nodes that boot together must find each other in seconds.
- `leave_on_terminate: false`: a server that is restarted stays a member of the quorum.
- no DNS, no plain HTTP: nobody here asks; HTTPS on loopback and the storage address only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import FailedError

CONFIG_FOLDER = "/etc/mnha/consul"
DATA_FOLDER = "/var/lib/mnha/consul"
TLS_FOLDER = "/etc/mnha/tls"

OLDEST = (1, 8, 0)
SINCE_TLS_STANZA = (1, 12, 0)
SINCE_GRPC_TLS_PORT = (1, 14, 0)

AUTOPILOT = {
    "CleanupDeadServers": False,
    "LastContactThreshold": "1s",
    "ServerStabilizationTime": "5s",
    "MaxTrailingLogs": 1000,
}
"""Autopilot's settings by their names in the operator API; `MinQuorum` is added per cluster."""

GOSSIP = {"probe_interval": "500ms", "probe_timeout": "250ms", "suspicion_mult": 3}
"""When a member that does not answer is told as failed. Neither lease nor Raft goes by that: who may be chosen does,
the status, the beacon `node_liveness`, and autopilot.

Not too soon: a probe has failed when no answer has come within the interval (after the timeout others and TCP are
tried), so round trips have to stay below 500 ms, as for Raft, whose leader steps down if it hears of no majority for
that long. A member that is suspected has `suspicion_mult` intervals, 1.5 s, to object; word of both takes up to 200 ms
and half a round trip to go out. With 200 ms, 100 ms and 2 in their place, as it was, round trips of 200 ms had three
servers tell each other failed once a second.

Not too late: a failover is planned when three renewals have not come, after 3 s with the default timings, and a
candidate that died together with the holder had better be known by then. 2 to 3 s were measured; Consul's own defaults
(1 s, 500 ms and 4) take 5 to 7 s.
"""


@dataclass(frozen=True)
class Server:
    """One Consul server: who it is, where it listens, whom it joins."""

    node: str
    datacenter: str
    address: str
    """On the storage network: Raft, gossip and the HTTPS API use it."""
    peers: Sequence[str]
    """Storage addresses of the other servers."""
    https_port: int = 8501
    server_port: int = 8300
    serf_port: int = 8301

    @property
    def servers(self) -> int:
        return len(self.peers) + 1


def parse_version(text: str) -> tuple[int, int, int]:
    """The version in the first line of `consul version`, e.g. `Consul v1.8.7`; older than 1.8 is refused."""
    match = re.search(r"Consul v(\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise FailedError(f"`consul version` does not say which version it is: {text[:80]!r}")
    version = (int(match[1]), int(match[2]), int(match[3]))
    if version < OLDEST:
        raise FailedError(f"Consul {'.'.join(map(str, version))} is too old; 1.8 or newer is needed")
    return version


def server_config(server: Server, version: tuple[int, int, int]) -> dict[str, Any]:
    """Everything but the secrets."""
    return {
        "node_name": server.node,
        "datacenter": server.datacenter,
        "data_dir": DATA_FOLDER,
        "server": True,
        "bootstrap_expect": server.servers,
        "bind_addr": server.address,
        "advertise_addr": server.address,
        "client_addr": "127.0.0.1",
        "addresses": {"https": f"127.0.0.1 {server.address}"},
        "ports": _ports(server, version),
        "retry_join": [f"{peer}:{server.serf_port}" for peer in server.peers],
        "retry_interval": "2s",
        "rejoin_after_leave": True,
        "leave_on_terminate": False,
        "skip_leave_on_interrupt": True,
        "reconnect_timeout": "2160h",
        "performance": {"raft_multiplier": 1},
        "gossip_lan": dict(GOSSIP),
        "autopilot": {
            "cleanup_dead_servers": AUTOPILOT["CleanupDeadServers"],
            "last_contact_threshold": AUTOPILOT["LastContactThreshold"],
            "server_stabilization_time": AUTOPILOT["ServerStabilizationTime"],
            "max_trailing_logs": AUTOPILOT["MaxTrailingLogs"],
            "min_quorum": server.servers,
        },
        "limits": {"http_max_conns_per_client": 1000},
        "acl": {
            "enabled": True,
            "default_policy": "deny",
            "down_policy": "extend-cache",
            "enable_token_persistence": True,
        },
        "disable_update_check": True,
        "disable_remote_exec": True,
        "log_level": "INFO",
        **_tls(version),
    }


def secret_config(gossip_key: str, agent_token: str) -> dict[str, Any]:
    """The part that only root and Consul may read; a file of its own, so that the other's changes can be shown.

    No management token (`initial_management`): it would lie on every node; see :mod:`mnha.consul.admin`.
    """
    return {"encrypt": gossip_key, "acl": {"tokens": {"agent": agent_token}}}


def autopilot_settings(servers: int) -> dict[str, Any]:
    """What the operator API must hold: the configuration file counts only when a cluster is born."""
    return {**AUTOPILOT, "MinQuorum": servers}


def to_json(config: dict[str, Any]) -> str:
    """Stable text: equal configurations are equal files."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _ports(server: Server, version: tuple[int, int, int]) -> dict[str, int]:
    """One datacenter only, so no gossip between datacenters (serf_wan)."""
    closed = dict.fromkeys(("dns", "http", "grpc", "serf_wan"), -1)
    ports = {**closed, "https": server.https_port, "server": server.server_port, "serf_lan": server.serf_port}
    if version >= SINCE_GRPC_TLS_PORT:
        ports["grpc_tls"] = -1
    return ports


def _tls(version: tuple[int, int, int]) -> dict[str, Any]:
    """Servers prove who they are to each other by certificates; clients of the HTTPS API by tokens."""
    files = {
        "ca_file": f"{TLS_FOLDER}/ca.pem",
        "cert_file": f"{TLS_FOLDER}/node.pem",
        "key_file": f"{TLS_FOLDER}/node-key.pem",
    }
    if version >= SINCE_TLS_STANZA:
        return {
            "tls": {
                "defaults": {**files, "verify_incoming": True, "verify_outgoing": True},
                "https": {"verify_incoming": False},
                "internal_rpc": {"verify_server_hostname": True},
            }
        }
    return {**files, "verify_incoming_rpc": True, "verify_outgoing": True, "verify_server_hostname": True}
