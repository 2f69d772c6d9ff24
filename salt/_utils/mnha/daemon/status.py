"""What the guard's process tells of itself: its whole status on request, and its node's record in Consul."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__, keys
from ..guest.domain import seed_file
from ..host.clock import boottime_s
from .checks import Of, of_node, told
from .node import Node
from .priority import Priority
from .protected import Protected

MEMORY_STEP_MIB = 256
REPUBLISH_S = 30.0
"""So often the record is published though nothing has changed: somebody may have deleted it, or broken it."""


class Status:
    """What is known here of this node and its VMs; in the main thread only.

    :param faults: what does not do its work in this process, by name, and why.
    :ivar priority: what the process was given.
    """

    def __init__(self, node: Node, protected: Mapping[str, Protected], faults: Callable[[], Mapping[str, str]]) -> None:
        self._node, self._protected, self._faults = node, protected, faults
        self._started_s = boottime_s()
        self._record: dict[str, Any] = {}
        self._published_s = self._started_s
        self.priority = Priority()

    def whole(self) -> dict[str, Any]:
        """The whole status: what the request `status` is answered with."""
        now_s = boottime_s()
        protected = list(self._protected.values())
        contact = protected[0].store.contact if protected else None
        return {
            "v": 1,
            "guard": {
                "version": __version__,
                "pid": os.getpid(),
                "since_s": self._started_s,
                "uptime_s": now_s - self._started_s,
                "realtime": self.priority.realtime,
                "memory_locked": self.priority.memory_locked,
            },
            "cluster": self._node.cluster,
            "node": self._node.name,
            "boottime_s": now_s,
            "consul": contact
            and {
                **{key: value for key, value in dataclasses.asdict(contact).items() if key != "heard_s"},
                "heard_s_ago": now_s - contact.heard_s if contact.heard_s > 0 else None,
            },
            "fencer": {"error": self._node.fencer.error, "about": self._node.fencer.seen.get("fencer")},
            "watchdog": self._node.fencer.watchdog(),
            "peers": self._node.peers.seen(),
            "checks": self._checks(Of.NODE),
            "salt_checks": self._checks(Of.SALT),
            "network_checks": self._network_checks(),
            "certificates": self._node.certificates.seen(),
            "faults": self._faults(),
            "vms": {
                p.name: {
                    **p.guard.status(now_s),
                    "checks": told(p.prober.checks, Of.VM),
                    "migration": p.hypervisor.moves.told(),
                    "resumed_at": p.hypervisor.moves.resumed_at,
                    "health": {**dataclasses.asdict(p.health.told()), "on_hung": p.health.on_hung},
                    "guest": p.guest.told(),
                }
                for p in protected
            },
        }

    def fitness(self, vm: str) -> dict[str, Any]:
        """Why this node could not have a VM at this very moment: what a migration's target is asked beforehand. `live`
        speaks against one that goes on here, and not against a start.
        """
        one, seed = self._protected[vm], Path(seed_file(vm))
        wants_seed = any(known["name"] == vm and known.get("guest") for known in self._node.config["vms"])
        live = (
            f"its guest's seed {seed} is missing there; apply states.mnvm" if wants_seed and not seed.exists() else ""
        )
        return {"node": self._node.name, "why": one.prober.objection() or one.guard.view.unable, "live": live}

    def disk_objection(self, vm: str) -> str:
        """Why no node could start the VM from its image, and none takes it; empty: that is no matter."""
        return self._protected[vm].disk.known_objection()

    def of(self, vm: str) -> Protected:
        """One VM under guard."""
        return self._protected[vm]

    def sentences(self) -> str:
        """How each VM's guard stands, in one line for systemd."""
        return "; ".join(f"{name}: {p.guard.state or 'starting'}" for name, p in self._protected.items())

    def publish(self) -> dict[str, Any]:
        """Publish this node's record if it has changed, and now and then all the same; of free memory, a small change
        alone is none.

        :returns: the record as it is published: by it all nodes compare this one with others.
        """
        now_s = boottime_s()
        record = {
            "v": 1,
            "node": self._node.name,
            "guard": {
                "version": __version__,
                "vms": {
                    name: {
                        "state": p.guard.state,
                        "vm": p.guard.view.vm,
                        "came_by": p.guard.came_by,
                        "paused": {"why": p.guard.view.pause} if p.guard.view.pause else None,
                        "failed_here": now_s < p.guard.view.last_until_s,
                        "checks": told(p.prober.checks, Of.VM),
                    }
                    for name, p in self._protected.items()
                },
            },
            "checks": self._checks(Of.NODE),
            "salt_checks": self._checks(Of.SALT),
            "network_checks": self._network_checks(),
            "free_memory_mib": self._node.memory.free_mib() // MEMORY_STEP_MIB * MEMORY_STEP_MIB,
            "cpus": os.cpu_count(),
        }
        steady = {key: value for key, value in record.items() if key != "free_memory_mib"}
        before = {key: value for key, value in self._record.items() if key != "free_memory_mib"}
        moved_mib = abs(record["free_memory_mib"] - self._record.get("free_memory_mib", 0))
        is_due = now_s - self._published_s >= REPUBLISH_S
        if steady != before or moved_mib >= 4 * MEMORY_STEP_MIB or is_due:
            self._record, self._published_s = record, now_s
            self._node.publisher.put(keys.full(self._node.cluster, keys.node(self._node.name)), record)
        return self._record

    def _network_checks(self) -> dict[str, Any]:
        """What is known of this node's networks."""
        return {name: dataclasses.asdict(check) for name, check in self._node.networks.checks().items()}

    def _checks(self, of: Of) -> dict[str, Any]:
        """The newest results of the checks that concern this node, or Salt on it; those of a VM are told with it."""
        return of_node([protected.prober.checks for protected in self._protected.values()], of)
