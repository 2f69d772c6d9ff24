"""The cluster's Consul: status, keys by compare-and-set, tokens and policies, autopilot.

Keys are given relative to `mnha/<cluster>/` (docs/architecture.md lists them); values are plain data, kept as JSON. The
token is that of role `policy` on this node. Policies, tokens and autopilot are changed with the management token, which
no node has: what is to be changed is found out with the node's own tokens, and a master is asked for it by an event.

A refused compare-and-set is a result (False), everything else that goes wrong an error that says what to do.
"""

from __future__ import annotations

import fcntl
import logging
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from salt.exceptions import CommandExecutionError

from mnha import config, keys
from mnha.consul import admin, voters
from mnha.consul import client as consul_client
from mnha.consul import http as consul_http
from mnha.consul import roles as consul_roles
from mnha.consul import server_config as consul_config
from mnha.errors import MnhaError
from mnha.master import unreadable
from mnha.secrets import sealed

log = logging.getLogger(__name__)

__virtualname__ = "consul_ha"

BINARY = "/usr/bin/consul"
POLL_S = 0.5
ELECTION_S = 4.0
"""So long is a leader waited for where none is known: an election takes so long at the most, mostly."""
QUORUM_ASK_S = 1.0
"""Of each request for a quorum: with the above it is known before a master has given up waiting."""
SNAPSHOT_S = 0.5  # of each request: a server that is asked for what it knows answers within milliseconds
RAFT_FOLDER = Path(consul_config.DATA_FOLDER) / "raft"
ROLES_LOCK = Path("/run/mnha-consul-roles.lock")


def __virtual__():
    return __virtualname__


def status() -> dict[str, Any]:
    """Leader, servers and their health: `quorum` (writes are possible), `may_fail` (how many more servers may fail).

    Without a quorum it says `why`, and the servers are those that the gossip sees.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.status
    """
    try:
        health = admin.health(_client("policy"))
    except MnhaError as error:
        rows = [{"node": row["node"], "alive": row["status"] == "alive"} for row in members()]
        return {"quorum": False, "leader": None, "healthy": False, "may_fail": 0, "servers": rows, "why": error.message}
    first = next((server["node"] for server in health["servers"] if server["leader"]), None)
    return {"quorum": first is not None, "leader": first, **health}


def members() -> list[dict[str, Any]]:
    """Consul's members as the gossip sees them: `node`, `address`, `status` (alive, failed, left, ...).

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.members
    """
    return _run(lambda: _client("policy").members())


def snapshot(prefixes: list[str]) -> dict[str, Any]:
    """`keys` below prefixes, `members`, `leader`, and `servers` with who votes, as the nearest server knows them: to be
    shown, not decided by. A key whose record can't be read has none, and `faults` say why.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.snapshot '[vms/, nodes/]'
    """
    client = _client("policy", timeout_s=SNAPSHOT_S)
    found = _run(lambda: client.snapshot([_key(prefix) for prefix in prefixes]))
    values, faults = unreadable.sorted_out(found.entries, _key(""))
    return {"keys": values, "faults": faults, "members": found.members, "leader": found.leader,
            "servers": found.servers}  # fmt: skip


def quorum() -> bool:
    """Whether a quorum can be read consistently right now.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.quorum
    """
    client, end_s = _client("policy", timeout_s=QUORUM_ASK_S), time.monotonic() + ELECTION_S
    while not client.leader() and time.monotonic() < end_s:  # a server that knows none holds a request for 7 s
        time.sleep(POLL_S)
    if not client.leader():
        log.info("no quorum: no server knows a leader")
        return False
    try:
        client.get(_key(keys.CONFIG), consistent=True)
    except MnhaError as error:
        log.info("no quorum: %s", error)
        return False
    return True


def kv_get(key: str, consistent: bool = False) -> dict[str, Any] | None:
    """`{"value", "index"}` of a key, or None if it does not exist. One whose record can't be read has no value, and a
    `fault`.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_get vms/mnvm/lease
    """
    entry = _run(lambda: _client("policy").get(_key(key), consistent=consistent))
    if entry is None:
        return None
    values, faults = unreadable.sorted_out([entry], _key(""))
    return {"value": values[key], "index": entry.index, **({"fault": faults[key]} if faults else {})}


def kv_list(prefix: str) -> dict[str, Any]:
    """Values below a prefix, by their relative keys; none of a record that can't be read.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_list history/
    """
    values, _ = unreadable.sorted_out(_run(lambda: _client("policy").list(_key(prefix))), _key(""))
    return values


def kv_put(key: str, value: Any) -> bool:
    """Write a key, which is to be an object, whatever stands there.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_put vms/mnvm/desired '{"run": "stopped"}'
    """
    if not isinstance(value, dict):
        raise CommandExecutionError(
            f'{key} is not written: records are objects, as {{"run": "stopped"}}, not {value!r}'
        )
    _run(lambda: _client("policy").put(_key(key), value))
    return True


def kv_cas(key: str, value: Any, index: int) -> bool:
    """Write a key if it still has `index` (0: if it does not exist). False: refused, somebody was faster.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_cas maintenance/node2 '{"by": "me"}' 0
    """
    return _run(lambda: _client("policy").cas(_key(key), value, int(index)))


def kv_delete(key: str, index: int | None = None) -> bool:
    """Delete a key (with `index`: only if unchanged). False: refused.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_delete maintenance/node2
    """
    return _run(lambda: _client("policy").delete(_key(key), None if index is None else int(index)))


def kv_prune(prefix: str, keep: int = consul_client.KEEP) -> int:
    """Delete all but the `keep` keys below a prefix that were written last (no lock of Consul's restarts); how many.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.kv_prune history/ 500
    """
    return _run(lambda: _client("policy").prune(_key(prefix), int(keep), spare=[_key(admin.RESTART_KEY)]))


def claim(action: str, by: str | None = None) -> dict[str, Any]:
    """Claim an action, so that of several masters one does it: `{"claimed": bool, "by": who has it}`.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.claim failover-mnvm-7-1234-1
    """
    who = by or __opts__["id"]
    key = _key(keys.action(action))
    client = _client("policy")
    if _run(lambda: client.cas(key, {"by": who, "at": time.time()}, 0)):
        return {"claimed": True, "by": who}
    entry = _run(lambda: client.get(key))
    return {"claimed": False, "by": (entry.value or {}).get("by") if entry else None}


def version() -> str:
    """The installed Consul's version, e.g. `1.8.7`.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.version
    """
    return ".".join(map(str, _version()))


def server_config() -> str:
    """The text of the server's configuration file, for the installed version.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.server_config
    """
    conf = __salt__["mnha_config.get"]()
    cluster, ports = conf["cluster"], conf["cluster"]["consul"]["ports"]
    server = consul_config.Server(
        node=conf["node"],
        datacenter=cluster["name"],
        address=conf["own"]["storage"],
        peers=[cluster["nodes"][peer]["storage"] for peer in conf["peers"]],
        https_port=ports["https"],
        server_port=ports["server"],
        serf_port=ports["serf_lan"],
    )
    return consul_config.to_json(consul_config.server_config(server, _version()))


def secret_config() -> str:
    """The text of the configuration file that holds gossip key and agent token. For templates, not the command line.

    CLI Example:

    .. code-block:: bash

        salt-call --local consul_ha.secret_config
    """
    secrets = __salt__["mnha_config.secrets"]()
    return consul_config.to_json(consul_config.secret_config(secrets["gossip_key"], secrets["agent_token"]))


def wait_for_quorum(timeout_s: float = 90) -> dict[str, Any]:
    """Wait until Consul has a leader; returns the addresses of `leader` and `servers`, fails at the timeout.

    It takes no token to ask, for a new cluster knows none.

    CLI Example:

    .. code-block:: bash

        salt '*' consul_ha.wait_for_quorum timeout_s=60
    """
    end = time.monotonic() + float(timeout_s)
    client = _client("")
    while True:
        if leader := client.leader():
            return {"leader": leader, "servers": _run(lambda: client.call(lambda consul: consul.status.peers()))}
        if time.monotonic() > end:
            text = "a new cluster gets one when the states are applied to most of its nodes at the same time"
            raise CommandExecutionError(f"no quorum of Consul after {timeout_s} s: {text}")
        time.sleep(POLL_S)


def role_present(role: str, test: bool = False) -> dict[str, Any]:
    """Policy and token of a role (agent, guard, policy) of this node, made by a master; returns what changed.

    CLI Example:

    .. code-block:: bash

        salt '*' consul_ha.role_present guard test=True
    """
    client, roles = _client(role), _roles(_wanted())
    return _asked(lambda: roles.missing(client, role), test)


def autopilot_present(test: bool = False) -> dict[str, Any]:
    """Autopilot's settings that keep a quorum safe, set by a master; returns what changed.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.autopilot_present test=True
    """
    return _asked(lambda: _roles(_wanted()).missing_settings(_client("policy")), test)


def make_roles(sealed_token: str, wanted: str | None = None) -> dict[str, Any]:
    """Make policies and tokens of this node, and autopilot's settings, as they should be; returns what changed.

    For masters (`mnha_policy.consul_roles`), which know the management token and the digest of what the states here
    want.

    CLI Example:

    .. code-block:: bash

        salt-run mnha_policy.consul_roles cluster=example node=node1
    """
    # The pillar that the minion keeps may be older than that of the run of states which asks for this.
    pillar = __salt__["pillar.items"](unmask=True)
    cluster = _run(lambda: config.load({"mnha": pillar.get("mnha")}))
    if not pillar.get("mnha_secrets"):
        raise CommandExecutionError(f"the pillar of {__opts__['id']} holds no secrets")
    token = _run(lambda: sealed.unseal(sealed_token, (Path(__opts__["pki_dir"]) / "minion.pem").read_text()))
    client, anonymous = _client("management", token, cluster), _client("", cluster=cluster)
    with ROLES_LOCK.open("w") as lock:  # every master that heard of it may ask
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _run(lambda: _roles(cluster).make(client, anonymous, token, pillar["mnha_secrets"], wanted))


def wait_for_vote(timeout_s: float = 90) -> bool:
    """Wait until this node's server votes and is healthy: before that it does not count for the quorum.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.wait_for_vote
    """
    client, node = _client("policy"), __opts__["id"]
    _run(lambda: voters.wait_until(lambda: voters.lack(admin.health(client)["servers"], node), float(timeout_s)))
    return True


def wait_to_join(timeout_s: float = 90) -> bool:
    """Wait, before this node's server begins without data in a cluster that is there, until all others that are alive
    vote: the leader takes its former self out of the voters then. False if there was nothing to wait for.

    CLI Example:

    .. code-block:: bash

        salt node1 consul_ha.wait_to_join
    """
    if RAFT_FOLDER.exists():
        return False
    node = __opts__["id"]
    try:
        client = _client("policy", timeout_s=QUORUM_ASK_S)
        if not client.leader():
            return False
        admin.health(client)
    except (MnhaError, CommandExecutionError) as error:
        log.info("nobody tells of servers that vote, as in a new cluster: %s", error)
        return False
    _run(lambda: voters.wait_until(lambda: voters.obstacle(admin.health(client)["servers"], node), float(timeout_s)))
    return True


def restart_in_turn(wait_s: float = 300) -> bool:
    """Restart this node's Consul when the quorum can do without it, one node of the cluster after the other.

    CLI Example:

    .. code-block:: bash

        salt '*' consul_ha.restart_in_turn
    """

    def restart() -> None:
        if not __salt__["service.restart"]("consul"):
            raise CommandExecutionError("consul does not start; see `journalctl -u consul`")

    turn = admin.RestartInTurn(
        client=_client("policy"),
        prefix=keys.folder(_in_force().name),
        node=__opts__["id"],
        restart=restart,
        wait_s=float(wait_s),
    )
    _run(turn.run)
    return True


def _version() -> tuple[int, int, int]:
    try:
        answer = subprocess.run([BINARY, "version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandExecutionError(f"`{BINARY} version` fails: {error}; state.apply states.consul.packages") from error
    return _run(lambda: consul_config.parse_version(answer.stdout))


def _in_force() -> config.ClusterConfig:
    """What Consul here runs with: by that it is reached, whatever the pillar says."""
    return __salt__["mnha_config.in_force"]()


def _wanted() -> config.ClusterConfig:
    """What the run of states wants that calls this."""
    return __salt__["mnha_config.cluster"]()


def _client(
    role: str, token: str = "", cluster: config.ClusterConfig | None = None, timeout_s: float = consul_client.TIMEOUT_S
) -> consul_client.ConsulClient:
    """The local server first, then the others by their storage addresses; with this node's token of `role`.

    Role "" has none; a `token` given is used as it is, and so is a `cluster`.
    """
    cluster = cluster or _in_force()
    name = f"the {role} token"
    if role == "policy":
        path = consul_client.POLICY_TOKEN_FILE
        token, name = _run(lambda: consul_http.read_token(path)), f"the token in {path}"
    elif role and not token:
        token = __salt__["mnha_config.secrets"]()[f"{role}_token"]
    peers = [node.storage for name, node in cluster.nodes.items() if name != __opts__["id"]]
    servers, port = ["127.0.0.1", *peers], cluster.consul.ports.https
    return _run(lambda: consul_client.ConsulClient(servers, token, name, port=port, timeout_s=timeout_s))


def _roles(cluster: config.ClusterConfig) -> consul_roles.Roles:
    return consul_roles.Roles(cluster.name, __opts__["id"], list(cluster.vms), len(cluster.nodes))


def _asked(missing: Callable[[], admin.Changes], test: bool) -> admin.Changes:
    """Ask a master for what is missing; what that was."""
    cluster = _wanted().name

    def ask() -> None:
        wanted = _roles(_wanted()).digest(__salt__["mnha_config.secrets"]())
        __salt__["event.send"](f"mnha/consul_roles/{cluster}", {"cluster": cluster, "wanted": wanted})

    try:
        return consul_roles.asked(missing, ask, dry_run=test)
    except MnhaError as error:
        raise CommandExecutionError(
            f"{error.message}: run `salt-run mnha_policy.consul_roles cluster={cluster} node={__opts__['id']}` on a"
            " master that has the secrets of the cluster; it says what is wrong"
        ) from error


def _key(relative: str) -> str:
    return keys.full(_in_force().name, relative)


def _run(ask: Callable[[], Any]) -> Any:
    """Turn this project's errors into the one that Salt shows without a stack trace."""
    try:
        return ask()
    except MnhaError as error:
        raise CommandExecutionError(error.message) from error
