"""Consul's keys: the one place that spells them. docs/architecture.md says what stands in each, and who writes it.

All are relative to their cluster's folder, `mnha/<cluster>/`; :func:`full` puts it before them. Folders end with `/`.
"""

from __future__ import annotations

CONFIG, SHARE = "config", "share"
VMS, NODES, MAINTENANCE, HISTORY, ACTIONS = "vms/", "nodes/", "maintenance/", "history/", "actions/"
MASTERS, VERSIONS = "masters/", "versions/"

LEASE, DESIRED, LAST_START, DISK = "lease", "desired", "last_start", "disk"
"""The keys of a VM, relative to its folder."""


def folder(cluster: str) -> str:
    """A cluster's folder, without its `/`."""
    return f"mnha/{cluster}"


def full(cluster: str, key: str) -> str:
    """The whole key of one that is relative to its cluster's folder."""
    return f"{folder(cluster)}/{key}"


def vm(name: str) -> str:
    """A VM's folder, without its `/`."""
    return f"{VMS}{name}"


def lease(name: str) -> str:
    """A VM's lease."""
    return f"{vm(name)}/{LEASE}"


def desired(name: str) -> str:
    """The desired state of a VM."""
    return f"{vm(name)}/{DESIRED}"


def last_start(name: str) -> str:
    """A VM's newest start."""
    return f"{vm(name)}/{LAST_START}"


def disk(name: str) -> str:
    """The file that a VM last wrote to."""
    return f"{vm(name)}/{DISK}"


def vm_of_lease(key: str) -> str | None:
    """The VM whose lease this relative key is; None if it is no lease."""
    return key.split("/")[1] if key.endswith(f"/{LEASE}") else None


def node(name: str) -> str:
    """What a node's guard says of it."""
    return f"{NODES}{name}"


def maintenance(name: str) -> str:
    """A node's maintenance."""
    return f"{MAINTENANCE}{name}"


def history(name: str) -> str:
    """One record of the history; the names sort by time."""
    return f"{HISTORY}{name}"


def action(name: str) -> str:
    """The claim of an action."""
    return f"{ACTIONS}{name}"


def master(name: str) -> str:
    """What is known of a master's pillar."""
    return f"{MASTERS}{name}"


def version(number: int) -> str:
    """A configuration that was in force; the names sort by number."""
    return f"{VERSIONS}{number:08d}"
