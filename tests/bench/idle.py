"""What the product costs while nothing happens: memory, CPU, writes to Consul."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab import guards
from lab.settings import VM_NAME
from lab.shell import say
from tests.bench import usage
from tests.bench.bed import Bed
from tests.bench.stats import Measure, Target

NAME = "idle"
WINDOW_S = 60.0
WINDOWS = 3
QUIET_S = 20.0
"""Time for what coming up or a recovery leaves behind."""

OUR_MEMORY_MIB = 60.0
"""What both take on a node: a page that both have mapped is there once. By their RSS it would count twice."""
OUR_CPU_PERCENT = 2.0
WRITES_PER_S = 2.0
OURS = ("mnha-guard", "mnha-fencer")
SERVICES = (*OURS, "consul", "salt-minion", "salt-master")


@dataclass
class Window:
    """What was measured in one window on all nodes; CPU in percent of one core."""

    seconds: float
    holder: str
    raft_entries_per_s: float
    lease_writes_per_s: float
    service_cpu_percent: dict[str, dict[str, float]] = field(default_factory=dict)
    service_memory: dict[str, dict[str, usage.Memory]] = field(default_factory=dict)
    our_memory_mib: dict[str, float] = field(default_factory=dict)
    node_cpu_percent: dict[str, float] = field(default_factory=dict)
    vm_cpu_percent: dict[str, float] = field(default_factory=dict)
    node_memory_mib: dict[str, float] = field(default_factory=dict)
    vm_memory_mib: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        memory = {
            node: {service: value.__dict__ for service, value in found.items()}
            for node, found in self.service_memory.items()
        }
        return {**self.__dict__, "service_memory": memory}


def windows(bed: Bed, count: int = WINDOWS) -> Iterator[Window]:
    """Measure in `count` windows, after a time of quiet."""
    bed.heal()
    time.sleep(QUIET_S)
    for number in range(1, count + 1):
        window = measure(bed)
        say(f"{NAME} {number}/{count}: {window.lease_writes_per_s:.2f} lease writes/s, nodes {window.node_cpu_percent}")
        yield window


def measure(bed: Bed) -> Window:
    """One window. Only its two ends touch the nodes; all else is read from outside."""
    nodes = bed.cluster.names
    holder = guards.wait_until_running(bed.cluster)
    before = _counters(bed, holder)
    begin_s = time.monotonic()
    cpu_before = _cpu(nodes)
    time.sleep(WINDOW_S)
    cpu_after = _cpu(nodes)
    seconds = time.monotonic() - begin_s
    after = _counters(bed, holder)
    window = Window(
        seconds,
        holder,
        (after[0] - before[0]) / (after[2] - before[2]),
        (after[1] - before[1]) / (after[2] - before[2]),
    )
    percent = {key: round(100 * (value - cpu_before[key]) / seconds, 2) for key, value in cpu_after.items()}
    for node in nodes:
        window.service_cpu_percent[node] = {name: percent[node, name] for name in SERVICES}
        window.service_memory[node] = {name: usage.memory(usage.pids(usage.service(node, name))) for name in SERVICES}
        window.our_memory_mib[node] = usage.together_mib(
            pid for name in OURS for pid in usage.pids(usage.service(node, name))
        )
        window.vm_cpu_percent[node] = percent[node, "vm"]
        window.node_cpu_percent[node] = round(percent[node, ""] - percent[node, "vm"], 2)
        vm = usage.memory(usage.vm_pids(node))
        window.vm_memory_mib[node] = vm.rss_mib
        window.node_memory_mib[node] = usage.node_memory_mib(node) - vm.rss_mib
    return window


def _counters(bed: Bed, holder: str) -> tuple[int, int, float]:
    """Raft's applied index, the lease's number of renewals, and when they were read."""
    applied = int(bed.consul_info()["applied_index"])
    return applied, guards.vm_status(bed.cluster, holder, VM_NAME)["lease"]["seq"], time.monotonic()


def _cpu(nodes: list[str]) -> dict[tuple[str, str], float]:
    """CPU time of each node (""), each of its services, and its VM."""
    found = {}
    for node in nodes:
        found[node, ""] = usage.cpu_s(usage.group(node))
        found[node, "vm"] = usage.process_cpu_s(usage.vm_pids(node))
        found.update({(node, name): usage.cpu_s(usage.service(node, name)) for name in SERVICES})
    return found


def measures(found: list[Window], name: str = NAME) -> list[Measure]:
    """The windows as figures; a value is one node in one window, or one window where it concerns the cluster."""

    def of(title: str, unit: str, values: list[float], limit: float | None = None) -> Measure:
        return Measure(name, title, unit, tuple(values), () if limit is None else (Target("max", limit),))

    def cpu(*services: str) -> list[float]:
        return [sum(on[one] for one in services) for window in found for on in window.service_cpu_percent.values()]

    def rss(*services: str) -> list[float]:
        return [sum(on[one].rss_mib for one in services) for window in found for on in window.service_memory.values()]

    def pss(*services: str) -> list[float]:
        return [sum(on[one].pss_mib for one in services) for window in found for on in window.service_memory.values()]

    def nodes(values: str, holder: bool) -> list[float]:
        return [
            value
            for window in found
            for node, value in getattr(window, values).items()
            if (node == window.holder) == holder
        ]

    return [
        of("guard's and fencer's RSS a node", "MiB", rss(*OURS)),
        of("guard's and fencer's CPU a node", "% of a core", cpu(*OURS), OUR_CPU_PERCENT),
        of("Consul's Raft entries, whole cluster", "1/s", [w.raft_entries_per_s for w in found], WRITES_PER_S),
        of("of these renewals of the lease", "1/s", [w.lease_writes_per_s for w in found]),
        of("guard's and fencer's PSS a node", "MiB", pss(*OURS)),
        of(
            "both, each page once, a node",
            "MiB",
            [mib for w in found for mib in w.our_memory_mib.values()],
            OUR_MEMORY_MIB,
        ),
        of("guard's RSS a node", "MiB", rss("mnha-guard")),
        of("fencer's RSS a node", "MiB", rss("mnha-fencer")),
        of("Consul's RSS a node", "MiB", rss("consul")),
        of("Consul's PSS a node", "MiB", pss("consul")),
        of("Consul's CPU a node", "% of a core", cpu("consul")),
        of("Salt minion's PSS a node", "MiB", pss("salt-minion")),
        of("Salt minion's CPU a node", "% of a core", cpu("salt-minion")),
        of("Salt master's PSS a node", "MiB", pss("salt-master")),
        of("Salt master's CPU a node", "% of a core", cpu("salt-master")),
        of("whole node's CPU without the VM, holder", "% of a core", nodes("node_cpu_percent", True)),
        of("whole node's CPU, candidate", "% of a core", nodes("node_cpu_percent", False)),
        of("whole node's memory without the VM, holder", "MiB", nodes("node_memory_mib", True)),
        of("whole node's memory, candidate", "MiB", nodes("node_memory_mib", False)),
    ]
