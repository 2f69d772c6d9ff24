"""The script of a seed: which world it is, and what breaks in it, when, where and for how long."""

from __future__ import annotations

import dataclasses
import random
from typing import TYPE_CHECKING

from mnha.core import lease as rules
from mnha.core.guard import Limits
from mnha.core.model import Op, Pause, Run
from mnha.core.timing import ELECTION_S, MARGIN_S, PROFILES, SKEW, Timings

from .consul import Link
from .engine import SECOND, us
from .host import Host, WatchdogKind
from .world import HALF_SKEW_PPM, Config, names_of

if TYPE_CHECKING:
    from .world import World


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault of a script.

    :param where: a number that chooses the node: see :func:`target`.
    :param size: 0 … 1, how bad it is; each kind makes of it what it needs.
    """

    at_us: int
    kind: str
    where: int
    size: float
    duration_us: int

    def __str__(self) -> str:
        where = {0: "the holder", 1: "a candidate"}.get(self.where % 4, f"node {self.where % 5 + 1}")
        lasts_s = self.duration_us / SECOND
        return f"{self.at_us / SECOND:9.3f} s {self.kind} on {where}, size {self.size:.3f}, for {lasts_s:.3f} s"


KINDS = {
    "cut": 8, "cut up": 8, "cut down": 8, "slow up": 6, "slow down": 8, "slow": 4, "loss": 4, "lag": 4, "still": 3,
    "no leader": 8, "retries": 1,
    "stall": 6, "trap": 8, "crash": 6, "stop": 2, "replace": 4, "freeze": 4, "power": 4, "reboot": 2,
    "fencer stall": 4, "fencer trap": 6, "fencer crash": 6, "memory full": 2,
    "libvirt hangs": 5, "unkillable": 4, "guest crashes": 3, "guest ends": 3, "deaf": 2, "pause": 2,
    "slow reports": 3, "starts fail": 3, "unable": 3, "storage": 4, "watchdog": 2,
    "desired": 6, "migrate": 6, "takeover": 3, "release": 4, "reset": 3, "masters dead": 2, "lease deleted": 1,
}  # fmt: skip
"""Kinds of faults with their weights."""


def draw_timings(chance: random.Random) -> Timings:
    """A profile, or timings close to what the inequalities just allow."""
    pick = chance.random()
    if pick < 0.4:
        return PROFILES["default"]
    if pick < 0.6:
        return PROFILES["fast"]
    renew_s = round(chance.uniform(0.3, 1.5), 2)
    deadline_s = round(max(3 * renew_s, ELECTION_S + renew_s) + chance.uniform(0.01, 3.0), 2)
    kill_s = round(chance.uniform(1.0, 3.0), 2)
    lease_s = (deadline_s + kill_s) * (1 + SKEW) + MARGIN_S + chance.choice((0.001, 0.5, 2.0))
    return Timings(renew_s, deadline_s, kill_s, lease_s)


def draw_config(chance: random.Random) -> Config:
    """What world a seed has."""
    nodes = chance.choice((3, 3, 3, 5))
    kinds = (WatchdogKind(), WatchdogKind(required=False), WatchdogKind(False, False), WatchdogKind(True, False))
    weights = (6, 2, 3, 1)
    uniform = chance.choices(kinds, (10, 2, 3, 0))[0]
    mixed = chance.random() < 0.15
    masterless_s = chance.choice((0.0, 2.0, 20.0))
    extremes = (-HALF_SKEW_PPM, HALF_SKEW_PPM, 0, chance.randint(-HALF_SKEW_PPM, HALF_SKEW_PPM))
    return Config(
        timings=draw_timings(chance),
        others=draw_timings(chance) if chance.random() < 0.25 else None,
        kinds=(*(chance.choices(kinds, weights)[0] if mixed else uniform for _ in range(nodes - 1)), uniform),
        ppm=tuple(chance.choice(extremes) for _ in range(nodes)),
        lock_s=chance.choice((0.0, 10.0, 10.0, 90.0)),
        lingering=chance.choice((0.0, 0.2)),
        limits=Limits(
            start_s=chance.choice((5.0, 30.0)),
            shutdown_s=chance.choice((5.0, 20.0, 60.0)),
            storage_s=chance.choice((5.0, 10.0, float("inf"))),
            masterless_s=masterless_s,
            ranking=tuple(chance.sample(names_of(nodes), nodes)),
        ),
        masters=chance.choice((1, 1, 2, 3)),
        sloppy=chance.choice((0.0, 0.0, 0.05, 0.3)),
        masters_stay_dead=masterless_s > 0.0 and chance.random() < 0.3,
    )


def draw_faults(chance: random.Random, seconds: float) -> list[Fault]:
    """What breaks in `seconds`: bursts with quiet in between, in a mood that favours what one rarely sees together."""
    kinds, mood, stays = list(KINDS), chance.random(), 0.5
    lengths_s, where = (0.3, 3.0, 10.0, 30.0), chance.choice((0, chance.randrange(60)))
    if mood < 0.3:  # the holder's messages are slow in one way and lost in one, for long
        kinds = [chance.choice(("slow up", "slow down")), chance.choice(("cut up", "cut down"))]
        stays, lengths_s, where = 1.0, (10.0, 10.0, 30.0, 30.0), 0
    elif mood < 0.45:  # the network between one node and Consul, in two or three ways
        kinds, stays = chance.sample(kinds[: kinds.index("retries")], chance.choice((2, 2, 3))), 0.95
    elif mood < 0.8:
        kinds = [kind for kind in kinds if chance.random() < 0.3] or kinds
    weights = [KINDS[kind] for kind in kinds]
    faults, at_s = [], chance.uniform(5.0, 20.0)
    while at_s < seconds:
        for _ in range(chance.choice((1, 2, 2, 3, 6))):
            kind = chance.choices(kinds, weights)[0]
            duration_s = chance.choice(lengths_s) * chance.uniform(0.3, 1.5)
            where = where if chance.random() < stays else chance.randrange(60)
            faults.append(Fault(us(at_s), kind, where, chance.random(), us(duration_s)))
            at_s += chance.choice((0.0, 0.3, 4.0)) * chance.uniform(0.2, 1.8)
        at_s += chance.choice((0.5, 6.0, 20.0)) * chance.uniform(0.5, 1.5)
    return [fault for fault in faults if fault.at_us < us(seconds)]


def draw_views(chance: random.Random, config: Config, seconds: float) -> tuple[Config, list[Fault]]:
    """What the guards see wrongly of each other's records: some of them, none, or none that is any good."""
    faults = [
        Fault(us(chance.uniform(5.0, seconds)), kind, chance.randrange(60), 0.0, us(chance.uniform(2.0, 40.0)))
        for kind in ("blind", "deluded")
        for _ in range(chance.choice((0, 0, 1, 4)))
    ]
    return dataclasses.replace(config, partial=chance.choice((0.0, 0.0, 0.3))), faults


def draw_management(chance: random.Random, config: Config, seconds: float) -> tuple[Config, list[Fault]]:
    """Where the management network is gone, for how long, and how long that is borne."""
    faults = [
        Fault(us(chance.uniform(5.0, seconds)), "management", where, 0.0, us(chance.uniform(2.0, 60.0)))
        for where in (0, 0, chance.randrange(60))
        for _ in range(chance.choice((0, 0, 1, 2)))
    ]
    limits = dataclasses.replace(config.limits, management_s=chance.choice((2.0, 5.0, 15.0, float("inf"))))
    return dataclasses.replace(config, limits=limits), faults


def target(world: World, where: int) -> Host:
    """The node that a fault strikes: often the holder, or the one that is to take over."""
    holder = world.consul.lease.holder if world.consul.lease else ""
    if where % 4 == 0:
        for host in world.hosts:
            if host.name == holder:
                return host
    if where % 4 == 1:
        for host in world.hosts:
            if host.process is not None and host.process.guard.view.order is not None and host.name != holder:
                return host
    return world.hosts[where % len(world.hosts)]


def strike(world: World, fault: Fault) -> None:
    """Let a fault happen."""
    host = target(world, fault.where)
    world.trace("fault", host.name, f"{fault.kind} {fault.size:.2f} for {fault.duration_us / SECOND:.2f} s")
    for table in (_of_network, _of_node, _of_fencer, _of_vm, _of_people):
        if table(world, host, fault):
            return
    raise AssertionError(fault.kind)


def _of_network(world: World, host: Host, fault: Fault) -> bool:
    """Faults between a node and Consul."""
    changes: dict[str, float] = {}
    slow_s = (0.5, 5.0, 8.0, 15.0)[int(fault.size * 4)] * (0.3 + 0.7 * (fault.size * 4 % 1))
    match fault.kind:
        case "cut":
            changes = {"cut_up": True, "cut_down": True}
        case "cut up":
            changes = {"cut_up": True}
        case "cut down":
            changes = {"cut_down": True}
        case "slow up":
            changes = {"slow_up_s": slow_s}
        case "slow down":
            changes = {"slow_down_s": slow_s}
        case "slow":
            changes = {"slow_up_s": slow_s / 2, "slow_down_s": slow_s / 2}
        case "loss":
            changes = {"loss": fault.size}
        case "blind":
            world.records.blind_until_us[host.name] = world.engine.now + fault.duration_us
            return True
        case "deluded":
            world.records.deluded_until_us[host.name] = world.engine.now + fault.duration_us
            return True
        case "lag":
            changes = {"lag_s": 6.0 * fault.size}
        case "still":
            changes = {"still": True}
        case "management":
            host.lose_management()
            world.engine.after(fault.duration_us, host.regain_management)
            return True
        case "no leader":
            world.consul.leader_from_us = world.engine.now + us(0.2 + 4.3 * fault.size)
            return True
        case "retries":
            world.consul.retries = not world.consul.retries
            return True
        case _:
            return False
    host.link = dataclasses.replace(host.link, **changes)
    world.engine.after(fault.duration_us, mend, world, host, tuple(changes))
    return True


def mend(world: World, host: Host, fields: tuple[str, ...]) -> None:
    """A node's network is well again, in one respect."""
    host.link = dataclasses.replace(host.link, **{field: getattr(Link(), field) for field in fields})
    world.consul.catch_up(host)


def _bounded_us(host: Host, duration_us: int) -> int:
    """How long something may stand still that only a watchdog covers: without one, less than the time for a kill."""
    return duration_us if host.has_watchdog else min(duration_us, us(0.2))


def _of_node(world: World, host: Host, fault: Fault) -> bool:
    """Faults of a node and of its guard."""
    process, duration_us = host.process, fault.duration_us
    match fault.kind:
        case "stall":
            if process is not None:
                process.stall(duration_us)
        case "trap":
            if process is not None:
                process.trap(1 + int(fault.size * 12), duration_us)
        case "crash":
            if process is not None:
                process.crash()
        case "stop":
            if process is not None:
                process.end()
        case "replace":
            if process is not None:
                process.replace(us(0.05 + 3.0 * fault.size**2))
        case "freeze":
            host.freeze(_bounded_us(host, duration_us))
        case "power":
            host.lose_power(us(fault.size * world.config.lock_s))
            world.engine.after(fault.duration_us + us(5.0), host.boot_up)
        case "reboot":
            host.reset("operator")
        case "watchdog":
            if host.watchdog.kind.required:  # else the VM may start without it: a node with none, not foreseen as one
                host.watchdog.refuses_until_us = world.engine.now + fault.duration_us
        case _:
            return False
    return True


def _of_fencer(world: World, host: Host, fault: Fault) -> bool:
    """Faults of a node's fencer. Without a watchdog it may not stand still for long: the guard may do so as well."""
    fencer, duration_us = host.fencer, _bounded_us(host, fault.duration_us)
    match fault.kind:
        case "fencer stall":
            if fencer is not None:
                fencer.stall(duration_us)
        case "fencer trap":
            if fencer is not None:
                fencer.trap(1 + int(fault.size * 12), duration_us)
        case "fencer crash":
            if fencer is not None:
                fencer.crash()
        case "memory full":
            host.memory_full_until_us = world.engine.now + fault.duration_us
        case _:
            return False
    return True


def _of_vm(world: World, host: Host, fault: Fault) -> bool:
    """Faults of libvirt, QEMU and the guest."""
    vm, engine = host.hypervisor, world.engine
    match fault.kind:
        case "libvirt hangs":
            vm.hung_until_us = max(vm.hung_until_us, engine.now + fault.duration_us)
        case "unkillable":
            vm.stuck_until_us = engine.now + _bounded_us(host, fault.duration_us)
        case "guest crashes":
            vm.guest_ends(crashed=True)
        case "guest ends":
            vm.guest_ends(crashed=False)
        case "deaf":
            vm.deaf = fault.size < 0.7
        case "pause":
            _pause(world, host, fault)
        case "slow reports":
            host.slow_reports_s = 3.0 * fault.size
            engine.after(fault.duration_us, setattr, host, "slow_reports_s", 0.0)
        case "starts fail":
            vm.fail_starts = fault.size
            engine.after(fault.duration_us, setattr, vm, "fail_starts", 0.0)
        case "unable":
            host.unable = "the storage does not answer"
            _probe(host)
            engine.after(fault.duration_us, _able, host)
        case "storage":
            host.lose_storage()
            engine.after(_bounded_us(host, fault.duration_us), host.regain_storage)
        case _:
            return False
    return True


def _pause(world: World, host: Host, fault: Fault) -> None:
    """The disk fails on one node, or is full for all; or somebody suspends the guest, and resumes it later."""
    vm, until_us = host.hypervisor, world.engine.now + fault.duration_us
    if fault.size < 0.5:
        vm.disk_fails_until_us = until_us
        vm.guest_pauses(Pause.IO_ERROR)
    elif fault.size < 0.8:
        world.full_until_us = until_us
        vm.guest_pauses(Pause.NO_SPACE)
        world.engine.after(fault.duration_us, world.probe_all)
    else:
        vm.guest_pauses(Pause.OPERATOR)
        world.engine.after(fault.duration_us, vm.guest_goes_on)


def _able(host: Host) -> None:
    """A node can run the VM again."""
    host.unable = ""
    _probe(host)


def _probe(host: Host) -> None:
    """Its guard hears of it."""
    if host.process is not None:
        host.process.probe()


def _of_people(world: World, host: Host, fault: Fault) -> bool:
    """What masters and operators do at a bad moment."""
    match fault.kind:
        case "desired":
            stopped = world.consul.run is Run.STARTED
            world.consul.set_desired(Run.STOPPED if stopped else Run.STARTED)
            if stopped:
                world.engine.after(min(fault.duration_us, us(8.0)), world.consul.set_desired, Run.STARTED)
        case "migrate":
            others = [other for other in world.hosts if other is not host]
            target = others[int(fault.size * len(others))]
            world.order(host, Op.MIGRATE, target=target.name, wait_s=max(3.0, fault.duration_us / SECOND))
        case "takeover":
            world.order(host, Op.TAKEOVER)
        case "release":
            world.order(host, Op.RELEASE)
        case "reset":
            world.order(host, Op.RESET, gentle_s=20.0 if fault.size < 0.5 else 0.0)
        case "masters dead":
            for master in world.masters:
                master.dead_until_us = world.engine.now + fault.duration_us
        case "lease deleted":
            if fault.size < 0.3:
                world.consul.delete()
                world.engine.after(fault.duration_us, world.consul.create, rules.created_again(world.config.timings))
        case _:
            return False
    return True
