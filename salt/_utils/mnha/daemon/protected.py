"""One VM under guard: its guard, wired to the adapters that it needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import keys
from ..core import lease as rules
from ..core.evacuation import Evacuation
from ..core.guard import Guard, Limits
from ..core.model import Move, Vm
from ..core.ports import Event
from ..core.timing import Timings
from ..host.clock import boottime_s
from .adapters.asking import Told
from .adapters.disk_watch import DiskWatch
from .adapters.guest_network import GuestNetwork
from .adapters.health import GuestHealth
from .adapters.lease_store import ConsulStore
from .adapters.libvirt import LibvirtHypervisor
from .adapters.migration import Route
from .adapters.rbd import Rbd
from .journal import GuardJournal
from .node import Node
from .prober import Prober, Sources
from .reluctant import Reluctant
from .settings import run_folder
from .threads import Fault, Forever


@dataclasses.dataclass
class Protected:
    """One VM under guard, with its adapters."""

    name: str
    guard: Guard
    store: ConsulStore
    hypervisor: LibvirtHypervisor
    prober: Prober
    disk: DiskWatch
    health: GuestHealth
    guest: GuestNetwork
    journal: GuardJournal
    evacuation: Evacuation

    def start(self) -> None:
        """Start the adapters' threads."""
        self.hypervisor.open()
        self.disk.start()
        self.prober.start()
        self.health.start()
        self.guest.start()
        self.store.start()

    @property
    def threads(self) -> Iterator[Forever | Fault]:
        """The adapters' threads, and what else of them may fail."""
        for adapter in (self.store, self.hypervisor, self.disk, self.prober, self.health, self.guest):
            yield from adapter.threads
        yield self.journal.fault


def protect(
    node: Node,
    vm: dict[str, Any],
    granted: tuple[float | None, float],
    post: Callable[[Event], None],
    call: Callable[[Callable[[], None]], None],
    journal: GuardJournal,
) -> Protected:
    """Put one VM under guard; nothing of it is started.

    :param vm: its part of the guard's configuration.
    :param granted: until when the fencer lets it run, and K; (None, 0.0) if it does not.
    :param post: takes the events for its guard, from any thread.
    :param call: has something done in the main thread, before the events that are posted later.
    """
    name, timings, rbd = vm["name"], Timings.from_dict(node.config["timings"]), Rbd.of(vm)
    store = ConsulStore(node.servers, keys.full(node.cluster, keys.vm(name)), post, timings.deadline_s)
    disk = DiskWatch(
        node.connection,
        name,
        vm["uuid"],
        vm["image"],
        node.record(keys.disk(name), f"{name}-disk"),
        lambda: _qemu(guard),
        lambda: prober.moved,
    )
    sources = Sources(
        is_running=lambda: guard.view.vm is not Vm.OFF,
        is_paused=lambda: guard.view.vm is Vm.PAUSED,
        qemu=lambda: _qemu(guard),
        written=disk.written,
        disk_error=disk.objection,
        libvirt_error=lambda: node.connection.error,
        fencer_error=lambda: node.fencer.error or hypervisor.error or node.fencer.fault(name),
        watchdog_error=lambda: str(node.fencer.watchdog()["objection"]),
        lack=lambda: node.memory.lack(name),
        disk=node.consul_disk.check,
        storage_elsewhere=lambda: node.other_nodes.with_storage(name if rbd else ""),
    )
    prober = Prober(node.name, vm, rbd or node.share, sources, changed=post)

    def objection() -> str:
        """Why the VM must not be started or resumed at this very moment."""
        disk.refresh()
        return prober.objection_by_now()

    def tell_of_end(told: Told | None) -> None:
        """Have the history tell how the guest ended that was asked to shut down."""
        if told:
            epoch = guard.view.lease.epoch if guard.view.lease else 0
            call(lambda: journal.note("shut down", told.text, epoch=epoch, how=told.how, after_s=told.after_s))

    def shut_others_out(is_void: Callable[[], bool]) -> None:
        """See :class:`.adapters.rbd.Rbd`; of an image file QEMU's own lock does it. The history tells whom."""
        if rbd and (clients := rbd.shut_others_out(lambda: guard.view.granted_until_s, is_void)):
            epoch = guard.view.lease.epoch if guard.view.lease else 0
            text = f"Ceph refuses who had {rbd.image} open before: {', '.join(clients)}"
            call(lambda: journal.note("shut out", text, epoch=epoch, clients=clients))

    hypervisor = LibvirtHypervisor(
        node.connection,
        name,
        vm["uuid"],
        Path(vm["domain_xml"]),
        run_folder(node.config),
        node.slices,
        Route.of(node.config, vm),
        objection,
        post,
        tell_of_end,
        shut_others_out,
    )
    limits = _limits(node.config, vm)
    guard = Guard(
        node.name,
        timings,
        limits,
        store=store,
        hypervisor=hypervisor,
        fencer=Reluctant(node.fencer.for_vm(name, post), prober.objection, post),
        journal=journal,
        now_s=boottime_s(),
        granted_until_s=granted[0],
        granted_kill_s=granted[1],
    )

    def pid() -> int | None:
        """Its process, while it is to answer: not while a migration slows it down, or stops it."""
        return guard.vm_pid if guard.view.vm is Vm.RUNNING and guard.view.move is Move.NONE else None

    health = GuestHealth(node.connection, vm, pid)
    guest = GuestNetwork(node.connection, node.name, vm, pid)
    evacuation = Evacuation(limits.management_s)
    return Protected(name, guard, store, hypervisor, prober, disk, health, guest, journal, evacuation)


def _qemu(guard: Guard) -> int:
    """The process of a VM that runs here under this node's lease; 0: there is none."""
    view = guard.view
    runs = view.vm is Vm.RUNNING and rules.is_mine(view) and rules.may_run_vm(view)
    return (guard.vm_pid or 0) if runs else 0


def _limits(config: dict[str, Any], vm: dict[str, Any]) -> Limits:
    """How long, and how often, a guard may try; the VM's own limits and the cluster's."""
    restarts = vm.get("restarts", {})
    return Limits(
        failed_starts=restarts.get("max", 3) + 1,
        window_s=restarts.get("window_s", 600.0),
        shutdown_s=vm.get("stop_timeout_s", 60.0),
        storage_s=config.get("storage_lost_after_s", 0.0) or float("inf"),
        management_s=config.get("management_lost_after_s", 0.0) or float("inf"),
        masterless_s=config.get("masterless_takeover_after_s", 0.0),
        ranking=tuple(vm.get("ranking", ())),
    )
