"""The cluster as tests, benchmarks and the command line use it.

    cluster = Cluster()
    cluster.up(nodes=3)
    cluster.run("node1", ["salt-run", "mnha.status"])
    cluster.poweroff("node1")
    cluster.down()

A cluster outlives the process that made it. What it is made of stands in `lab.json` before it is made, and all of it
has names that follow from that record, so `down` cleans up after any crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab import build, cgroups, delay, host, network, storage, watchdog
from lab.node import Node, package_binds
from lab.settings import (
    CONSOLE_LOG_FOLDER,
    NETWORKS,
    SWITCH,
    VM_NAME,
    LabError,
    NodePlan,
    Settings,
    plan_nodes,
)
from lab.shell import mounts_below, run, step, write_whole

LOCK = Path("/run/lock") / f"{SWITCH}.lock"
POINTER = Path("/run") / f"{SWITCH}.state"
"""Holds the state folder of the lab that was last made, so that `down` finds it whatever the environment says."""

READY_TIMEOUT_S = 90

QEMU_GID = 64055
"""Debian's libvirt-qemu, user and group: the same on every machine."""


class Cluster:
    """Makes, uses and removes the lab's cluster. Methods raise LabError with a remedy; none leaves half a change."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_environment()

    # what there is

    def record(self) -> dict:
        """What was last made; LabError when there is no cluster."""
        try:
            return json.loads(self.settings.record.read_text())
        except FileNotFoundError as error:
            raise LabError("there is no cluster: make one with `python3 -m lab up`") from error

    @property
    def plans(self) -> list[NodePlan]:
        return plan_nodes(self.record()["nodes"])

    @property
    def names(self) -> list[str]:
        return [plan.name for plan in self.plans]

    def node(self, name: str) -> Node:
        for plan in self.plans:
            if plan.name == name:
                return Node(plan, self.settings)
        raise LabError(f"there is no node {name!r}: the cluster has {', '.join(self.names)}")

    def is_up(self) -> bool:
        """Whether a cluster of this boot of the machine exists."""
        return self.settings.record.is_file() and network.NETNS.exists()

    # life

    def up(self, nodes: int = 3, *, bare: bool = False, peer: bool = False) -> None:
        """A fresh cluster of nodes without the product; whatever was there is removed first.

        `bare` leaves the warm layer out: the nodes install every package themselves. `peer` offers the packages of
        the peer benchmark as well.
        """
        plans = plan_nodes(nodes)
        host.prepare()
        host.check_host(self.settings.state)
        with lock():
            self._down()
            with work_group():
                pieces = build.build_all(self.settings, with_warm=not bare, with_peer=peer)
                self._start(plans, pieces, bare)

    def _start(self, plans: list[NodePlan], pieces: build.Pieces, bare: bool) -> None:
        settings = self.settings
        record = {
            "version": 1, "nodes": len(plans), "bare": bare, "switch": SWITCH,
            "lowers": [str(layer) for layer in (pieces.warm, pieces.base) if layer],
            "binds": package_binds(pieces.debs, pieces.wheels, pieces.peer, settings.shared),
        }  # fmt: skip
        write_whole(POINTER, str(settings.state))
        write_whole(settings.record, json.dumps(record, indent=1))
        with step(f"starting {len(plans)} nodes"):
            self._fill_shared(pieces.guest)
            network.create_switch()
            nodes = [Node(plan, settings) for plan in plans]
            for node in nodes:
                node.write_files(plans)
                watchdog.start(settings, node.name)
                self._power_on(node)
            for node in nodes:
                node.wait_ready(READY_TIMEOUT_S)

    def _fill_shared(self, guest: Path) -> None:
        folder = self.settings.disk_image.parent
        folder.mkdir(parents=True)
        for name in ("vmlinuz", "initrd.img", "mnvm.img"):
            run(["cp", "--sparse=always", guest / name, folder / name])
        os.chown(folder, 0, QEMU_GID)  # who is neither root nor QEMU gets no further than the folder
        folder.chmod(0o750)

    def _power_on(self, node: Node) -> None:
        record = self.record()
        share_us = cgroups.REALTIME_LAB_US // record["nodes"]
        binds = [*record["binds"], *watchdog.binds(self.settings, node.name)]
        node.power_on([Path(layer) for layer in record["lowers"]], binds, share_us)

    def down(self) -> None:
        """Removes everything the lab made but its cache: after a crash too; no complaint if nothing is there."""
        host.require_root()
        with lock():
            self._down()

    def _down(self) -> None:
        states = {self.settings.state}
        with contextlib.suppress(OSError):
            states.add(Path(POINTER.read_text().strip()))
        names = [f"node{index}" for index in range(1, 6)]
        if network.NETNS.exists():
            for plan in (NodePlan(index) for index in range(1, 6)):
                network.unplug(plan)
        for plan in (NodePlan(index) for index in range(1, 6)):
            for net in NETWORKS:
                delay.forget(plan.link(net))
        for name in (cgroups.WORK, cgroups.DEVICES, *map(storage.group, names), *names):
            cgroups.kill(name)
        for state in states:
            for point in mounts_below(state):
                run(["umount", "--lazy", point])
        network.remove_switch()
        cgroups.remove()
        for name in names:
            shutil.rmtree(f"/run/systemd/nspawn/propagate/{SWITCH}-{name}", ignore_errors=True)
        for state in states:
            for folder in ("nodes", "shared"):
                if (state / folder).is_dir():
                    shutil.rmtree(state / folder)
            for file in ("cuts.json", "lab.json"):
                (state / file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                state.rmdir()
        POINTER.unlink(missing_ok=True)

    def status(self) -> dict:
        """What the lab itself knows: which nodes have power, are frozen, are cut. Not the product's status."""
        if not self.is_up():
            return {"up": False}
        nodes = {}
        cuts = network.load_cuts(self._cuts_file)
        for plan in self.plans:
            node = Node(plan, self.settings)
            nodes[plan.name] = {
                "power": "on" if node.is_on() else "off",
                "frozen": cgroups.is_frozen(plan.name),
                "mgmt": plan.mgmt,
                "storage": plan.storage,
                "cuts": [
                    {"network": net, "direction": cut.direction, "percent": cut.percent}
                    for net in NETWORKS for cut in sorted(cuts) if cut.link == plan.link(net)
                ],
                "delays": [
                    {"network": net, "out_ms": found.out_ms, "in_ms": found.in_ms}
                    for net in NETWORKS if (found := delay.read(plan.link(net)))
                ],
            }  # fmt: skip
        record = self.record()
        return {"up": True, "nodes": nodes, "shared": str(self.settings.shared), "layers": record["lowers"]}

    # faults

    def poweroff(self, name: str) -> int:
        """Cuts a node's power. Returns CLOCK_BOOTTIME in ns of the moment before its links went down."""
        with lock():
            node = self.node(name)
            moment_ns = boottime_ns()
            node.power_off()
            for net in NETWORKS:
                delay.forget(node.plan.link(net))
            return moment_ns

    def poweron(self, name: str, *, wait: bool = True) -> None:
        """Gives a node its power back; it boots with the disk it had."""
        with lock():
            node = self.node(name)
            with work_group():
                self._power_on(node)
        if wait:
            node.wait_ready(READY_TIMEOUT_S)

    def reboot(self, name: str, *, wait: bool = True, timeout_s: float = 120) -> None:
        """An orderly reboot of a node (`systemctl reboot`)."""
        node = self.node(name)
        before = node.init_pid()
        node.run(["systemctl", "reboot"], timeout_s=30)
        end = time.monotonic() + timeout_s
        while wait:
            with contextlib.suppress(LabError):
                if node.init_pid() != before:
                    node.wait_ready(READY_TIMEOUT_S)
                    return
            if time.monotonic() > end:
                raise LabError(f"{name} did not come back in {timeout_s:g} s: `python3 -m lab poweroff {name}`")
            time.sleep(0.05)

    def cut(self, name: str, net: str, direction: str = "both", percent: int = 100) -> int:
        """Drops what node `name` sends (`out`), would receive (`in`) or both on a network. Returns boottime in ns."""
        link = self.node(name).plan.link(network.check_network(net))
        return self._change_cuts([link], direction, percent)

    def delay(self, name: str, net: str, milliseconds: float, direction: str = "both") -> int:
        """What node `name` sends (`out`), would receive (`in`) or both arrives so much later. Returns boottime in ns.

        A later delay of the same cable replaces it, `heal` or the loss of power ends it.
        """
        self._powered(name)
        plan, wanted = self.node(name).plan, delay.Delay.of(milliseconds, direction)
        with lock():
            log = self.settings.node_dir(name) / "delay.log"
            delay.start(plan.link(network.check_network(net)), net, wanted, log)
            return boottime_ns()

    def heal(self, name: str, net: str | None = None) -> int:
        """Ends the cuts and delays of a node, on one network or on all. Returns CLOCK_BOOTTIME in ns."""
        plan = self.node(name).plan
        nets = NETWORKS if net is None else (network.check_network(net),)
        with lock():
            for each in nets:
                delay.stop(plan.link(each), each)
        return self._change_cuts([plan.link(each) for each in nets], None)

    def _change_cuts(self, links: Sequence[str], direction: str | None, percent: int = 100) -> int:
        with lock():
            cuts = network.changed_cuts(network.load_cuts(self._cuts_file), links, direction, percent)
            network.apply_cuts(self._cuts_file, cuts)
            return boottime_ns()

    @property
    def _cuts_file(self) -> Path:
        return self.settings.state / "cuts.json"

    def freeze(self, name: str) -> int:
        """Stops a node as a hung kernel would: nothing in it runs. Returns CLOCK_BOOTTIME in ns when it is so."""
        self._powered(name)
        cgroups.freeze(name, True)
        return boottime_ns()

    def thaw(self, name: str) -> int:
        """Lets a frozen node go on. Returns CLOCK_BOOTTIME in ns."""
        self._powered(name)
        cgroups.freeze(name, False)
        return boottime_ns()

    def add_valve(self, name: str, *, killable: bool = True) -> None:
        """Puts a valve into a node's way to the shared folder: see `lab.storage`. It goes with the node's power."""
        storage.start(self.settings, name, self.node(name).init_pid(), killable=killable)

    def hang_storage(self, name: str) -> int:
        """Lets every access to the shared folder from this node wait. Returns CLOCK_BOOTTIME in ns."""
        storage.hang(name, self.node(name).init_pid())
        return boottime_ns()

    def free_storage(self, name: str) -> int:
        """Lets what waits go on. Returns CLOCK_BOOTTIME in ns."""
        storage.free(name)
        return boottime_ns()

    def limit_cpu(self, name: str, percent: float | None) -> None:
        """Lets a node use at most `percent` of one CPU; None lifts the limit."""
        self._powered(name)
        cgroups.limit_cpu(name, percent)

    def _powered(self, name: str) -> None:
        if not self.node(name).is_on():
            raise LabError(f"{name} is off: `python3 -m lab poweron {name}`")

    # commands and files

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command on a node; see Node.run."""
        return self.node(name).run(argv, timeout_s=timeout_s, stdin=stdin, env=env, check=check)

    def popen(self, name: str, argv: Sequence[str], **options) -> subprocess.Popen:
        """Starts a command on a node without waiting for it, e.g. to follow its output."""
        return self.node(name).popen(argv, **options)

    def in_switch(self, argv: Sequence[str], *, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Runs a command of this machine in the switch's network: it reaches nodes and guest, like a client."""
        words = ["nsenter", f"--net={network.NETNS}", *argv]
        try:
            return subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"`{' '.join(argv)}` did not end in {timeout_s:g} s") from error

    def file(self, name: str, path: str) -> Path:
        """Where this machine sees the file `path` of a node; while the node is off, only files that it wrote itself."""
        root = self.settings.node_root(name)
        base = root if mounts_below(root) else self.settings.node_upper(name)
        return base / path.lstrip("/")

    def write_file(self, name: str, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file on a running node."""
        self._powered(name)
        write_whole(self.file(name, path), text, mode)

    def console(self, name: str, vm: str = VM_NAME) -> Path:
        """The log of the VM's serial console on a node."""
        return self.file(name, f"{CONSOLE_LOG_FOLDER}/{vm}-console.log")

    def consoles(self, vm: str = VM_NAME) -> dict[str, Path]:
        """Those console logs that exist, by node."""
        paths = {name: self.console(name, vm) for name in self.names}
        return {name: path for name, path in paths.items() if path.is_file()}

    @staticmethod
    def boottime() -> float:
        """CLOCK_BOOTTIME in seconds: the one clock of this machine and all nodes."""
        return boottime_ns() / 1e9


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def follow(path: Path, *, stop=lambda: False, every_s: float = 0.02) -> Iterator[str]:
    """The lines of a growing file, from its beginning, until `stop()`; the file may not exist yet."""
    rest, position = "", 0
    while True:
        ending = stop()
        with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as handle:
            handle.seek(position)
            rest += handle.read()
            position = handle.tell()
        *lines, rest = rest.split("\n")
        yield from lines
        if ending:
            return
        time.sleep(every_s)


@contextlib.contextmanager
def lock(timeout_s: float = 30) -> Iterator[None]:
    """Only one lab command changes the cluster at a time; the lock goes with the process that has it."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("a+") as handle:
        end = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    handle.seek(0)
                    owner = handle.read().strip() or "unknown"
                    raise LabError(f"another lab command (pid {owner}) is at work: wait for it or end it") from error
                time.sleep(0.05)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


@contextlib.contextmanager
def work_group() -> Iterator[None]:
    """What makes things belongs to a group of its own while it does, commands included.

    So a `down` after a kill of the lab first ends those commands: none can mount or start anything behind its back.
    """
    before = Path("/proc/self/cgroup").read_text()
    cgroups.create(cgroups.WORK)
    cgroups.enter(cgroups.WORK)
    try:
        yield
    finally:
        cgroups.leave(before)
        with contextlib.suppress(LabError):
            cgroups.remove(cgroups.WORK)
        for root in cgroups.roots():
            with contextlib.suppress(OSError):
                root.rmdir()  # stays where a cluster is up
