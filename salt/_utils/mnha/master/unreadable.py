"""Records in Consul that can't be read, as somebody wrote them by hand: what is wrong, and what writes them anew. Pure.

All records are JSON objects (docs/architecture.md). One that is not is as good as none for whoever decides, but for
maintenance, which counts. It must not hide the others, and whoever looks is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import keys
from ..core.model import LEASE_VERSION, Lease
from ..errors import MnhaError

if TYPE_CHECKING:  # it is slow to import
    from ..consul.client import Entry


def sorted_out(entries: Iterable[Entry], prefix: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What each record says, None if it can't be read, and why those can't be; both by key, relative to `prefix`."""
    values: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for entry in entries:
        key = entry.key.removeprefix(prefix)
        why = entry.fault or _fault(key, entry.value)
        values[key] = None if why else entry.value
        if why:
            faults[key] = why
    return values, faults


def _fault(key: str, value: Any) -> str:
    """Why what is JSON is no such record; empty if it is one."""
    if not isinstance(value, dict):
        return "it is no JSON object"
    return lease_fault(value) if keys.vm_of_lease(key) else ""


def lease_fault(value: Any) -> str:
    """Why a value is no lease; empty if it is one."""
    try:
        Lease.from_json(json.dumps(value))
    except MnhaError:
        return "it is of another version than is known here" if is_newer(value) else "it is no lease"
    return ""


def is_newer(value: Any) -> bool:
    """Whether a value says of itself that it is of another version than is known here: others may well read it."""
    return isinstance(value, dict) and value.get("v", LEASE_VERSION) != LEASE_VERSION


def of_vm(name: str, faults: Mapping[str, str]) -> dict[str, str]:
    """Why the records of a VM can't be read, by the last word of their keys."""
    below = f"{keys.vm(name)}/"
    return {key.removeprefix(below): why for key, why in faults.items() if key.startswith(below)}


def told(faults: Mapping[str, str]) -> list[str]:
    """A sentence for each such record, with its remedy; not for a VM's lease and desired state (:mod:`missing`)."""
    return [
        f"the record {key} in Consul can't be read: {why}; {remedy(key)}"
        for key, why in faults.items()
        if key.rpartition("/")[2] not in (keys.LEASE, keys.DESIRED)
    ]


def remedy(key: str) -> str:
    """What writes a record anew, or removes it."""
    name = key.rpartition("/")[2]
    by_folder = {
        keys.MAINTENANCE: f"the node counts as in maintenance: `salt-run mnha.maintenance {name} off`, or `on`",
        keys.NODES: "its guard writes that of a node anew within a minute; one of no node is deleted by `consul kv"
        f" delete mnha/CLUSTER/{key}` with the management token (docs/security.md)",
        keys.HISTORY: f"`salt NODE consul_ha.kv_delete {key}` on any node removes it",
        keys.ACTIONS: f"`salt NODE consul_ha.kv_delete {key}` on any node removes it",
    }
    by_name = {
        keys.CONFIG: "`state.apply` writes it anew",
        keys.SHARE: "`salt-run mnha.adopt_share NODE` writes it anew",
        keys.LAST_START: "the VM's next start writes it anew",
        keys.DISK: "`salt-run mnha.accept_disk` writes it anew, once the VM is off",
    }
    folder = next((text for folder, text in by_folder.items() if key.startswith(folder)), "")
    return folder or by_name.get(name, "it has to be deleted by hand")
