"""What each role may do in Consul, request by request, and everything else that Consul can be asked for.

The same table is held against a server of the tests and against the cluster in the lab: no request in it changes
anything even where it is allowed (writes name an index that no key has, or would change what is so already).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

ROLES = ("guard", "policy", "agent", "none", "unknown")
"""`none`: no token at all; `unknown`: one that Consul does not know."""


@dataclass(frozen=True)
class Ask:
    """One request, and who may make it; everybody else is denied it.

    :param allowed: those who are answered with one of `codes`.
    :param empty: those who are answered, but see nothing: Consul filters lists by what one may read.
    """

    method: str
    path: str
    allowed: str = ""
    body: str = ""
    codes: tuple[int, ...] = (200, 404)
    empty: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


ALL = " ".join(ROLES)
KNOWN = "guard policy agent"
DENIED = re.compile("Permission denied|denied (by|due to) ACLs")
NO_INDEX = "cas=1"
"""An index that no key has: the policy lets the write through, the store does not."""


def key_rights(cluster: str, node: str, other: str, vm: str) -> list[Ask]:
    """Who may write which key. `other` is another node; the writer's own is `node`."""
    own = f"/v1/kv/mnha/{cluster}"
    writers = {
        f"vms/{vm}/lease": "guard",
        f"vms/{vm}/last_start": "guard",
        f"vms/{vm}/disk": "guard",
        "share": "guard",
        f"nodes/{node}": "guard",
        "history/x": "guard policy",
        f"vms/{vm}/desired": "policy",
        "config": "policy",
        "actions/x": "policy",
        f"maintenance/{node}": "policy",
        f"maintenance/{other}": "policy",
        f"nodes/{other}": "",
        f"nodes/{node}/more": "",
        "nodes/": "",
        f"vms/{vm}": "",
        f"vms/{vm}/lease2": "",
        f"vms/{vm}/other": "",
        "vms/another/lease": "",
        "vms/another/desired": "",
        "history": "",
        "configuration": "",
        "": "",
    }
    found = [Ask("PUT", f"{own}/{key}?{NO_INDEX}", roles, "{}") for key, roles in writers.items()]
    # Consul has no right to write without that to delete: whoever may write the lease may remove it.
    found += [Ask("DELETE", f"{own}/{key}?{NO_INDEX}", roles) for key, roles in writers.items() if key]
    found += [Ask("PUT", f"/v1/kv/{key}?{NO_INDEX}", "", "{}") for key in ("x", "mnha", "mnha/another/config")]
    found += [Ask("GET", f"{own}/{key}", "guard policy") for key in ("config", f"vms/{vm}/lease", f"nodes/{other}")]
    found += [Ask("GET", f"/v1/kv/{key}") for key in ("x", "mnha", "mnha/another/config")]
    found += [Ask("GET", "/v1/kv/?keys", "guard policy", empty="agent none")]
    found += [Ask("DELETE", f"/v1/kv/{prefix}?recurse") for prefix in ("", "mnha/", f"mnha/{cluster}/vms/")]
    lease = {"Verb": "cas", "Key": f"mnha/{cluster}/vms/{vm}/lease", "Value": "e30=", "Index": 1}
    found.append(Ask("PUT", "/v1/txn", "guard", json.dumps([{"KV": lease}]), codes=(409,)))
    foreign = {**lease, "Key": f"mnha/{cluster}/nodes/{other}"}
    found.append(Ask("PUT", "/v1/txn", "", json.dumps([{"KV": foreign}])))
    return found


def management_rights() -> list[Ask]:
    """What only the management token may do: nobody on a node."""
    policy = json.dumps({"Name": "x", "Rules": ""})
    anyone = "00000000-0000-0000-0000-000000000002"
    return [
        Ask("PUT", "/v1/acl/bootstrap"),
        *(Ask("GET", f"/v1/acl/{what}") for what in ("tokens", "policies", "roles", "auth-methods", "binding-rules")),
        Ask("GET", f"/v1/acl/token/{anyone}"),
        Ask("PUT", "/v1/acl/token", body="{}"),
        Ask("PUT", f"/v1/acl/token/{anyone}", body=json.dumps({"Policies": []})),
        Ask("DELETE", f"/v1/acl/token/{anyone}"),
        Ask("PUT", "/v1/acl/policy", body=policy),
        Ask("PUT", "/v1/acl/role", body=json.dumps({"Name": "x"})),
        Ask("PUT", "/v1/acl/create", body="{}"),
        Ask("GET", "/v1/acl/list"),
        Ask("GET", "/v1/snapshot"),
        Ask("PUT", "/v1/snapshot", body="x"),
    ]


def operator_rights() -> list[Ask]:
    """`consul operator`: Salt's modules may look, nobody on a node may change anything."""
    return [
        *(Ask("GET", f"/v1/operator/{what}", "policy", codes=(200, 429))
          for what in ("raft/configuration", "autopilot/configuration", "autopilot/health")),
        Ask("PUT", "/v1/operator/autopilot/configuration", body="{}"),
        Ask("DELETE", "/v1/operator/raft/peer?address=192.0.2.1:8300"),
        Ask("PUT", "/v1/agent/force-leave/nobody"),
        Ask("GET", "/v1/operator/keyring"),
        Ask("PUT", "/v1/operator/keyring", body=json.dumps({"Key": "x"})),
        Ask("PUT", "/v1/session/create", body="{}"),
        Ask("PUT", "/v1/catalog/register", body=json.dumps({"Node": "x", "Address": "192.0.2.1"})),
        Ask("PUT", "/v1/catalog/deregister", body=json.dumps({"Node": "x"})),
        Ask("PUT", "/v1/config", body=json.dumps({"Kind": "service-defaults", "Name": "x"})),
    ]  # fmt: skip


def agent_rights() -> list[Ask]:
    """A node's own agent. Its token, in the hands of Consul alone, may also have the agent leave."""
    return [
        Ask("GET", "/v1/agent/self", "policy agent"),
        Ask("GET", "/v1/agent/metrics", "policy agent"),
        Ask("GET", "/v1/agent/host", "policy"),
        Ask("PUT", "/v1/agent/maintenance?enable=false", "agent"),
        Ask("PUT", "/v1/agent/service/register", body=json.dumps({"Name": "x"})),
        Ask("GET", "/debug/pprof/cmdline", "policy"),
    ]


def open_to_all() -> list[Ask]:
    """What Consul tells without any token, or does not have here: addresses of servers and its own name."""
    return [
        *(Ask("GET", f"/v1/status/{what}", ALL, codes=(200,)) for what in ("leader", "peers")),
        Ask("GET", "/v1/catalog/datacenters", ALL, codes=(200,)),
        Ask("GET", "/v1/acl/replication", ALL, codes=(200,)),
        Ask("GET", "/v1/coordinate/datacenters", ALL, codes=(200,)),
        Ask("GET", "/ui/", ALL, codes=(404,)),
        *(Ask("GET", f"/v1/{what}", KNOWN, codes=(200,), empty="none")
          for what in ("catalog/nodes", "catalog/services", "agent/members", "coordinate/nodes", "internal/ui/nodes")),
        *(Ask("GET", f"/v1/{what}", KNOWN, codes=(200,), empty="none")
          for what in ("health/state/any", "session/list", "event/list", "query", "connect/intentions")),
    ]  # fmt: skip


def everything(cluster: str, node: str, other: str, vm: str) -> list[Ask]:
    """The whole table."""
    return [
        *key_rights(cluster, node, other, vm),
        *management_rights(),
        *operator_rights(),
        *agent_rights(),
        *open_to_all(),
    ]


def faults(table: list[Ask], answers: list[dict[str, tuple[int, str]]]) -> list[str]:
    """Where the answers (role -> status and body, for each request) differ from the table; a sentence each."""
    found = []
    for ask, by_role in zip(table, answers, strict=True):
        for role, (code, body) in by_role.items():
            # Consul 1.8 tells a few denials by other codes (500 for the keyring, 409 for a transaction).
            denied = code == 403 or (code in (409, 500) and DENIED.search(body) is not None)
            if role in ask.allowed.split():
                is_right = code in ask.codes and not denied
            elif role in ask.empty.split():
                is_right = code == 404 or (code == 200 and body.strip() in ("[]", "{}", "null"))
            else:
                is_right = denied
            if not is_right:
                found.append(f"{role}: {ask} answers {code} {body[:80]!r}")
    return found
