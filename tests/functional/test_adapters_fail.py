"""Each thread of the guard, and each kind of call that it makes into the world: what if the next one raises something
that nobody expected, hangs, or answers nonsense? The thread goes on and does not run hot, the status tells, nothing is
taken for a grant, a refusal or an end that is none, and all is well when the cause is over.

Real adapters, on a real HTTPS server, a real socket of a fencer, libvirt's own test driver and the kernel's control
groups. Only the fault itself is put between them and these.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import enum
import gc
import itertools
import json
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from lab.shell import wait_until
from mnha import config
from mnha.config.guard import guard_config
from mnha.consul import http
from mnha.core import lease as rules
from mnha.core.model import Op, Vm
from mnha.core.ports import (
    AbilitySeen,
    Answered,
    Confirmed,
    DesiredSeen,
    Event,
    FencerSeen,
    LeaseSeen,
    Moved,
    Ordered,
    Outcome,
    ReadFailed,
    StartFailed,
    VmSeen,
)
from mnha.core.timing import PROFILES
from mnha.daemon import journal as journal_module
from mnha.daemon import loop as loop_module
from mnha.daemon import main as main_module
from mnha.daemon import prober as prober_module
from mnha.daemon import readiness
from mnha.daemon import threads as threads_module
from mnha.daemon.adapters import certificates as certificates_module
from mnha.daemon.adapters import fencer, lease_store, probe
from mnha.daemon.adapters import health as health_module
from mnha.daemon.adapters import libvirt as libvirt_module
from mnha.daemon.adapters import peers as peers_module
from mnha.daemon.adapters.certificates import Certificates
from mnha.daemon.adapters.disk_watch import DiskWatch
from mnha.daemon.adapters.health import GuestHealth, Health
from mnha.daemon.adapters.lease_store import ConsulStore
from mnha.daemon.adapters.libvirt import Connection
from mnha.daemon.adapters.maintenance import Maintenance
from mnha.daemon.adapters.node_records import NodeRecords, Seen
from mnha.daemon.adapters.other_nodes import OtherNodes
from mnha.daemon.adapters.peers import Peers
from mnha.daemon.adapters.probe import Check, Ground
from mnha.daemon.adapters.publisher import Publisher
from mnha.daemon.adapters.record import Record
from mnha.daemon.main import Daemon
from mnha.daemon.prober import Prober, Sources
from mnha.daemon.server import Server
from mnha.daemon.threads import Fault, Forever, KnownFailure, faults
from mnha.errors import FailedError, MnhaError
from mnha.host.clock import boottime_s
from mnha.secrets import store as secrets_store
from tests.functional.test_hypervisor import Bench
from tests.support.example import example_with
from tests.support.fencer_stub import Stub
from tests.support.scripted_consul import Say, Scripted, scripted

PATIENCE_S = 20.0
LIMIT_S = 0.3
HOT = 30
"""More calls than this within 0.2 s are made by a thread that runs hot: what a test asks for comes each 0.05 s."""
PREFIX = "mnha/t/vms/v"
KEY = f"{PREFIX}/lease"
MAINTENANCE = "mnha/t/maintenance/n1"
RECORD = {"checks": {"storage": {"ok": True}}}
LEASE = rules.first(PROFILES["default"])
TEST_DOMAIN = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""The one that libvirt's test driver brings."""


class Failure(enum.Enum):
    RAISES = "raises"
    HANGS = "hangs"
    NONSENSE = "nonsense"


class Surprise(Exception):
    """Of a class that nobody has heard of."""


class Switch:
    """Stands before a call, and lets it through, or not."""

    def __init__(self, real: Callable[..., Any], nonsense: Any = None) -> None:
        self._real, self._nonsense = real, nonsense
        self._surprises = itertools.cycle([Surprise, KeyError, RecursionError, AttributeError])
        self._released = threading.Event()
        self.failure: Failure | None = None
        self.calls = 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        match self.failure:
            case Failure.RAISES:
                raise next(self._surprises)("rubbish")
            case Failure.HANGS:
                self._released.wait(PATIENCE_S)
            case Failure.NONSENSE if self._nonsense is not None:
                return self._nonsense
        return self._real(*arguments, **named)

    def cut(self, failure: Failure) -> None:
        """From now on the call fails in this way."""
        self._released.clear()
        self.failure = failure

    def mend(self) -> None:
        """The cause is over: what hangs goes on."""
        self.failure = None
        self._released.set()


class Told:
    """What an adapter has told."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def __call__(self, event: Any) -> None:
        self.all.append(event)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.all if isinstance(event, kind)]

    def anew(self, kind: type[Any]) -> bool:
        """Whether there is one since the last call."""
        found = bool(self.of(kind))
        self.all.clear()
        return found


@dataclasses.dataclass
class Case:
    """One thread.

    :param thread: that goes round.
    :param switch: before the call that fails.
    :param works: shows, each time anew, that the thread does its work.
    :param told: what the status tells of it; empty while all is well.
    :param claims: what it says wrongly while the call fails; empty: nothing.
    :param heard: what it has told, as far as that is claimed anew each time.
    :param settle: called when the fault is told: what comes of earlier calls does not count.
    :param without: what can't befall it.
    """

    thread: Forever
    switch: Switch
    works: Callable[[], bool]
    told: Callable[[], object]
    claims: Callable[[], object] = lambda: None
    heard: Told = dataclasses.field(default_factory=Told)
    settle: Callable[[], None] = lambda: None
    without: frozenset[Failure] = frozenset()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(tmp_path) as made:
        yield made


def row(key: str, value: str, index: int = 7) -> dict[str, Any]:
    """A row as Consul sends it."""
    return {"Key": key, "Value": base64.b64encode(value.encode()).decode(), "ModifyIndex": index}


def sound(method: str, path: str) -> Say:
    """What a sound Consul says, and not at once: the watches go round by it."""
    body: Any = [row(KEY, LEASE.to_json())]
    if "/health/" in path:
        body = [{"Node": "n2", "CheckID": "serfHealth", "Status": "passing"}]
    elif "/maintenance/" in path:
        body = [row(MAINTENANCE, json.dumps({"by": "me"}))]
    elif "/nodes/" in path:
        body = [row("mnha/t/nodes/n2", json.dumps(RECORD))]
    elif "/txn" in path:
        body = {"Results": [{"KV": {"Key": KEY, "ModifyIndex": 8}}], "Errors": None}
    elif method == "PUT":
        body = True
    return Say(200, json.dumps(body), after_s=0.05)


def every(pause_s: float, work: Callable[[], object], stop: threading.Event) -> None:
    """Work again and again."""
    while not stop.wait(pause_s):
        work()


# ---- the table


class World:
    """What the cases are made of, and their end."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, end: contextlib.ExitStack) -> None:
        self.folder, self.patch, self.end = folder, patch, end
        self._stop = threading.Event()
        end.callback(self._stop.set)
        patch.setattr(threads_module, "FIRST_PAUSE_S", 0.05)
        patch.setattr(threads_module, "LONGEST_PAUSE_S", 0.1)

    def switch(self, place: Any, name: str, nonsense: Any = None) -> Switch:
        """Put one before a call."""
        made = Switch(getattr(place, name), nonsense)
        self.patch.setattr(place, name, made)
        return made

    def consul(self, call: str) -> tuple[Any, Switch]:
        """The way to Consul, which may speak nonsense itself, with a switch before a call."""
        self.server = self.end.enter_context(scripted(self.folder))
        servers = self.server.servers()
        switch = self.switch(servers, call)
        self.server.answer = lambda method, path: (
            Say(200, "<html>Welcome</html>") if switch.failure is Failure.NONSENSE else sound(method, path)
        )
        return servers, switch

    def begin(self, *adapters: Any) -> None:
        """Start them. At the end of the test their threads are to sleep: they would keep later tests busy."""
        for adapter in adapters:
            for one in adapter.threads:
                self.end.callback(halt, one)
            adapter.start()

    def again(self, work: Callable[[], object]) -> None:
        """Have something done every now and then."""
        threading.Thread(target=every, args=(0.05, work, self._stop), daemon=True).start()


def halt(thread: Forever | Fault) -> None:
    """Have a thread sleep from its next round on."""
    if isinstance(thread, Forever):
        thread._turn = threading.Event().wait  # type: ignore[assignment]


def consul_watch(world: World) -> Case:
    told, (servers, switch) = Told(), world.consul("read")
    store = ConsulStore(servers, PREFIX, told, 1.0)
    world.begin(store)
    return Case(
        store.threads[1],
        switch,
        lambda: told.anew(LeaseSeen) and store.contact.reachable,
        lambda: faults(store.threads) or store.contact.error,
        lambda: told.of(LeaseSeen),
        told,
    )


def consul_worker(world: World) -> Case:
    """One that reads, beside the watch that reads as well: its answers are known by being consistent."""
    told, (servers, switch) = Told(), world.consul("read")
    world.patch.setattr(lease_store, "HANGS_S", LIMIT_S - 0.2)
    store = ConsulStore(servers, PREFIX, told, 0.1)
    world.begin(store)
    world.again(store.read)

    since_s = [0.0]

    def settle() -> None:
        """What was asked for before may have been answered."""
        since_s[0] = boottime_s()

    def consistent() -> list[LeaseSeen]:
        return [seen for seen in told.of(LeaseSeen) if seen.asked_s > since_s[0]]

    def works() -> bool:
        found = bool(consistent())
        told.all.clear()
        return found

    return Case(
        store.threads[0], switch, works, lambda: faults(store.threads) or store.contact.error, consistent, told, settle
    )


def consul_writer(world: World) -> Case:
    told, (servers, switch) = Told(), world.consul("ask")
    world.patch.setattr(lease_store, "HANGS_S", LIMIT_S - 0.2)
    store = ConsulStore(servers, PREFIX, told, 0.1)
    world.begin(store)
    tickets, since = itertools.count(), [0]
    world.again(lambda: store.cas(LEASE, 0, next(tickets)))

    def settle() -> None:
        """What was asked for before may have been answered."""
        since[0] = next(tickets)

    def known() -> list[Answered]:
        answered = [one for one in told.of(Answered) if one.ticket > since[0]]
        return [one for one in answered if one.outcome is not Outcome.UNREACHABLE]

    def works() -> bool:
        found = bool(known())
        told.all.clear()
        return found

    return Case(
        store.threads[0], switch, works, lambda: faults(store.threads) or store.contact.error, known, told, settle
    )


def consul_peers(world: World) -> Case:
    servers, switch = world.consul("read")
    world.patch.setattr(peers_module, "OLD_S", LIMIT_S)
    world.patch.setattr(peers_module, "AGAIN_S", 0.1)
    peers = Peers(servers, ["n2"])
    world.begin(peers)
    return Case(
        peers.threads[0],
        switch,
        lambda: peers.seen()["n2"]["alive"] is True,
        lambda: peers.seen()["n2"]["why"],
        lambda: peers.seen()["n2"]["alive"] is not None,
    )


def consul_maintenance(world: World) -> Case:
    told, (servers, switch) = Told(), world.consul("read")
    world.patch.setattr("mnha.daemon.adapters.maintenance.AGAIN_S", 0.1)
    watch = Maintenance(servers, MAINTENANCE, told)
    world.begin(watch)

    def works() -> bool:
        before = switch.calls
        wait_until(lambda: switch.calls > before + 2, PATIENCE_S, "the watch goes round")
        return told.all == ["in maintenance by me"]

    return Case(
        watch.threads[0], switch, works, lambda: faults(watch.threads), lambda: told.all != ["in maintenance by me"]
    )


def consul_record(world: World) -> Case:
    servers, switch = world.consul("read")
    world.patch.setattr("mnha.daemon.adapters.record.AGAIN_S", 0.1)
    record = Record(servers, MAINTENANCE, world.folder / "kept.json")
    world.begin(record)

    def works() -> bool:
        before = switch.calls
        wait_until(lambda: switch.calls > before + 2, PATIENCE_S, "the watch goes round")
        return record.value == {"by": "me"}

    return Case(
        record.threads[0],
        switch,
        works,
        lambda: faults(record.threads),
        lambda: record.value not in (None, {"by": "me"}),
    )


def consul_nodes(world: World) -> Case:
    servers, switch = world.consul("read")
    for name, value in (("OLD_S", LIMIT_S), ("AGAIN_S", 0.1)):
        world.patch.setattr(f"mnha.daemon.adapters.node_records.{name}", value)
    records = NodeRecords(servers, "mnha/t")
    world.begin(records)
    well = Seen({"n2": RECORD}, {"n1": {"by": "me"}})
    return Case(
        records.threads[0],
        switch,
        lambda: records.seen() == well,
        lambda: faults(records.threads),
        lambda: records.seen() not in (None, well),
    )


def consul_publish(world: World) -> Case:
    servers, switch = world.consul("ask")
    for name, limit_s in (("HANGS_S", LIMIT_S), ("AGAIN_S", 0.1), ("LATE_S", 0.0)):
        world.patch.setattr(f"mnha.daemon.adapters.publisher.{name}", limit_s)
    publisher, numbers = Publisher(servers), itertools.count()
    world.begin(publisher)
    world.again(lambda: publisher.put("other", {}))

    def works() -> bool:
        name = f"record{next(numbers)}"
        publisher.put(name, {})
        wait_until(lambda: name not in publisher._waiting, PATIENCE_S, "it is not written")
        return any(name in request for request in world.server.requests)

    return Case(publisher.threads[0], switch, works, lambda: faults(publisher.threads))


def fencer_status(world: World) -> Case:
    stub = Stub(world.folder / "fencer.sock")
    world.end.callback(stub.close)
    for name in ("OLD_S", "UNTOLD_S", "HANGS_S"):
        world.patch.setattr(fencer, name, LIMIT_S)
    world.patch.setattr(fencer, "LOOK_EVERY_S", 0.05)
    switch = world.switch(fencer, "ask", ["nonsense"])
    link = fencer.Link(world.folder / "fencer.sock")
    world.begin(link)
    return Case(
        link.threads[1],
        switch,
        lambda: link.watchdog()["mode"] == "automatic",
        lambda: link.error,
        lambda: link.watchdog()["mode"] != "unknown",
    )


def libvirt_test(world: World) -> Connection:
    """A connection to libvirt's test driver, that can neither be kept alive nor tell of its end."""
    for name in ("setKeepAlive", "registerCloseCallback", "unregisterCloseCallback"):
        world.patch.setattr(libvirt.virConnect, name, lambda *_: 0)
    for name, limit_s in (("ALIVE_S", 0.05), ("RECONNECT_S", 0.05), ("BEAT_MS", 50)):
        world.patch.setattr(libvirt_module, name, limit_s)
    return Connection("test:///default")


def libvirt_connect(world: World) -> Case:
    """While its call is to fail, the connection that there was is lost."""
    connection = libvirt_test(world)
    switch = world.switch(libvirt, "open", SimpleNamespace())
    world.patch.setattr(libvirt.virConnect, "isAlive", lambda _: 0 if switch.failure else 1)
    world.begin(connection)

    def works() -> bool:
        with contextlib.suppress(FailedError, libvirt.libvirtError):
            return connection.get().lookupByUUIDString(TEST_DOMAIN).name() == "test" and connection.is_alive()
        return False

    return Case(
        connection.threads[1],
        switch,
        works,
        lambda: connection.error,
        connection.is_alive,
    )


def vm_disk(world: World) -> Case:
    """Which file the VM writes to; the test driver's has none, and gets the XML of one that has."""
    connection, written = libvirt_test(world), list[object]()
    for name, limit_s in (("EVERY_S", 0.05), ("AGAIN_S", 0.05)):
        world.patch.setattr(f"mnha.daemon.adapters.disk_watch.{name}", limit_s)
    disk = "<disk><source file='/x.img'/><backingStore/><target dev='vda'/></disk>"
    world.patch.setattr(libvirt.virDomain, "XMLDesc", lambda *_: f"<domain id='1'><devices>{disk}</devices></domain>")
    switch = world.switch(libvirt.virDomain, "XMLDesc", "<html>Welcome</html>")
    record = SimpleNamespace(
        threads=(),
        start=lambda: None,
        is_known=lambda: True,
        value=None,
        fault="",
        replace=lambda _, after: written.append(after),
    )
    world.begin(connection)
    watch = DiskWatch(connection, "v", TEST_DOMAIN, "/x.img", record, lambda: 1, lambda: (0, "", None))
    world.begin(watch)

    def works() -> bool:
        found = bool(written)
        written.clear()
        return found

    return Case(watch.threads[0], switch, works, lambda: faults(watch.threads), lambda: written, settle=written.clear)


def libvirt_events(world: World) -> Case:
    connection = libvirt_test(world)
    switch = world.switch(libvirt, "virEventRunDefaultImpl")
    events: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
    connection.listen(lambda vm, event, detail: events.put((vm, event)))
    world.begin(connection)
    domain = libvirt.open("test:///default").lookupByUUIDString(TEST_DOMAIN)
    wait_until(lambda: connection.error == "", PATIENCE_S, "it is not connected")

    def works() -> bool:
        domain.suspend()
        domain.resume()
        while events.get(timeout=PATIENCE_S) != ("test", libvirt.VIR_DOMAIN_EVENT_RESUMED):
            pass
        return True

    return Case(
        connection.threads[0], switch, works, lambda: faults(connection.threads), without=frozenset({Failure.NONSENSE})
    )


def bench_of(world: World) -> Bench:
    """A hypervisor with a slice of its own."""
    bench = Bench(world.folder)
    world.end.callback(bench.close)
    for one in bench.hypervisor.threads:
        world.end.callback(halt, one)
    return bench


def vm_orders(world: World) -> Case:
    bench = bench_of(world)
    hypervisor = bench.hypervisor
    world.patch.setattr(libvirt_module, "ORDER_HANGS_S", LIMIT_S)
    hypervisor._connection = connection = libvirt_test(world)
    hypervisor._uuid = TEST_DOMAIN
    world.begin(connection)
    nonsense = SimpleNamespace(lookupByUUIDString=lambda uuid: SimpleNamespace(state=lambda: None))
    switch = world.switch(connection, "get", nonsense)
    hypervisor.open()
    world.again(lambda: hypervisor._orders.put(hypervisor._ask_state))

    def works() -> bool:
        done = threading.Event()
        hypervisor._orders.put(done.set)
        return done.wait(PATIENCE_S)

    return Case(hypervisor._worker, switch, works, lambda: faults(hypervisor.threads))


def vm_scan(world: World) -> Case:
    bench = bench_of(world)
    world.patch.setattr(libvirt_module, "SCAN_S", 0.05)
    switch = world.switch(libvirt_module, "qemu_pids", 5)
    bench.hypervisor.open()

    def seen() -> list[Event]:
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(bench.events.get_nowait())
        return found

    return Case(bench.hypervisor._scanner, switch, lambda: bool(seen()), lambda: faults(bench.hypervisor.threads))


def guest_health(world: World) -> Case:
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    world.end.callback(listener.close)
    world.patch.setattr(health_module, "HANGS_S", LIMIT_S - 0.2)
    switch = world.switch(health_module.socket, "create_connection", 5)
    wanted = {"interval_s": 0.05, "agent": False, "tcp_port": listener.getsockname()[1], "timeout_s": 0.1,
              "failures": 1, "boot_grace_s": 0}  # fmt: skip
    vm = {"name": "v", "uuid": TEST_DOMAIN, "address": "127.0.0.1", "health": wanted}
    health = GuestHealth(Connection("test:///default"), vm, pid=lambda: 1)
    world.begin(health)
    return Case(
        health.threads[0],
        switch,
        lambda: health.told() == Health(answered=True),
        lambda: health.told().why,
        lambda: health.told().hung or "is not known" not in health.told().why,
    )


def probes(world: World) -> Case:
    for name in ("vm.img", "domain.xml"):
        (world.folder / name).touch()
    for name, limit_s in (("PROBE_EVERY_S", 0.1), ("SETTLE_S", 0.0), ("HANGS_S", LIMIT_S)):
        world.patch.setattr(prober_module, name, limit_s)
    share = SimpleNamespace(
        look=lambda *_: Ground(Check(True), [Check(True)]), mount=lambda _: Check(True), keep=lambda *_: None,
        is_of_vm=False,
    )  # fmt: skip
    for disks in ("NODE_DISKS", "SALT_DISKS"):
        world.patch.setattr(probe, disks, ())
    switch = world.switch(prober_module.checks, "look", 5)
    told = Told()
    vm = {"name": "v", "image": str(world.folder / "vm.img"), "bridges": [], "memory_mib": 1,
          "domain_xml": str(world.folder / "domain.xml")}  # fmt: skip
    sources = Sources(
        is_running=lambda: True, is_paused=lambda: False, qemu=lambda: 0, written=str, disk_error=str,
        libvirt_error=str, fencer_error=str, watchdog_error=str, lack=str, disk=lambda: Check(True),
        storage_elsewhere=str,
    )  # fmt: skip
    prober = Prober("n1", vm, share, sources, changed=told)

    def main_loop() -> None:
        """As it does."""
        if seen := prober.overdue():
            told(seen)

    world.begin(prober)
    world.again(main_loop)
    return Case(
        prober.threads[0],
        switch,
        lambda: bool(told.all) and all(one.ok for one in prober.checks.values()),
        lambda: bool(told.all) and told.all[-1].unable,
        lambda: any(one.ok for one in prober.checks.values()),
    )


def client_socket(world: World) -> Case:
    """It waits for clients for as long as it takes, and the kernel talks no nonsense."""
    path = world.folder / "guard.sock"
    server = Server(path, {"status": lambda _request: {"state": "running"}}, {})
    real = server._listener
    world.end.callback(real.close)
    switch = Switch(real.accept)
    listener = SimpleNamespace(bind=real.bind, listen=real.listen, accept=switch)
    world.patch.setattr(server, "_listener", listener)
    world.patch.setattr("mnha.daemon.server.ACCEPT_AGAIN_S", 0.1)
    world.begin(server)

    def knock() -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(str(path))

    world.again(knock)
    without = frozenset({Failure.NONSENSE, Failure.HANGS})
    return Case(
        server.threads[0], switch, lambda: ask(path)["ok"] is True, lambda: faults(server.threads), without=without
    )


def ask(path: Path) -> Any:
    """The guard's answer to a request for its status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        client.sendall(b'{"v":1,"op":"status"}\n')
        with client.makefile("r") as stream:
            return json.loads(stream.readline())


def certificates(world: World) -> Case:
    folder = world.folder / "secrets"
    secrets_store.bootstrap(folder, secrets_store.Plan("t", "t", {"n1": ["127.0.0.1"]}, False))
    for name in ("ca.pem", "node.pem", "cacert.pem", "clientcert.pem"):
        (world.folder / name).write_text(secrets_store.for_node(folder, "n1")["certificate"])
    world.patch.setattr(certificates_module, "LOOK_S", 0.1)
    looking = Certificates(world.folder / "ca.pem", world.folder)
    switch = world.switch(certificates_module, "end_of", 5)
    world.begin(looking)

    def works() -> bool:
        before = switch.calls
        wait_until(lambda: switch.calls > before + 4, PATIENCE_S, "it looks again")
        return all(one["ends_s"] for one in looking.seen().values())

    return Case(looking.threads[0], switch, works, lambda: faults(looking.threads))


THREADS = [
    consul_watch,
    consul_worker,
    consul_writer,
    consul_peers,
    consul_maintenance,
    consul_record,
    consul_nodes,
    consul_publish,
    fencer_status,
    libvirt_connect,
    vm_disk,
    libvirt_events,
    vm_orders,
    vm_scan,
    guest_health,
    probes,
    certificates,
    client_socket,
]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with contextlib.ExitStack() as end:
        yield World(tmp_path, monkeypatch, end)


@pytest.mark.parametrize("thread", THREADS, ids=lambda thread: thread.__name__)
def test_a_thread_outlives_each_fault_tells_of_it_and_is_well_when_it_is_over(
    thread: Callable[[World], Case], world: World
) -> None:
    case = thread(world)
    if case.thread._limit_s != float("inf"):
        case.thread._limit_s = LIMIT_S
    well = "at the begin"
    for failure in [None, *(failure for failure in Failure if failure not in case.without)]:
        if failure:
            case.switch.cut(failure)
            wait_until(case.told, PATIENCE_S, f"{failure}: it is not told")
            case.settle()
            case.heard.all.clear()
            calls, end_s = case.switch.calls, time.monotonic() + 0.2
            while time.monotonic() < end_s:
                assert not case.claims(), f"{failure}: {case.claims()}"
                time.sleep(0.02)
            assert case.switch.calls - calls < HOT, f"{failure}: it runs hot"
            case.switch.mend()
            well = f"after {failure}"
        wait_until(lambda: case.works() and not case.told(), PATIENCE_S, f"{well}: it is not well; {case.told()}")


# ---- what is read from Consul


NONSENSE = {
    "HTML": "<html><body>Welcome to nginx</body></html>",
    "cut": '[{"Key": "mnha/t/vms/v/lease", "Val',
    "nothing": "",
    "null": "null",
    "a number": "5",
    "endless": "1e999",
    "a text": '"yes"',
    "an object": "{}",
    "another object": '{"Key": "mnha/t/vms/v/lease"}',
    "an empty list": "[]",
    "a list of lists": "[[]]",
    "a list of null": "[null]",
    "a list of numbers": "[1, 2]",
    "rows without anything": "[{}]",
    "rows without a value": '[{"Key": "mnha/t/vms/v/lease", "ModifyIndex": 7}]',
    "a row of another key": json.dumps([row("mnha/t/other", LEASE.to_json())]),
    "an index of zero": json.dumps([row(KEY, LEASE.to_json(), 0)]),
    "an index below zero": json.dumps([row(KEY, LEASE.to_json(), -7)]),
    "an index that is a text": json.dumps([{**row(KEY, LEASE.to_json()), "ModifyIndex": "7"}]),
    "an index that is true": json.dumps([{**row(KEY, LEASE.to_json()), "ModifyIndex": True}]),
    "a value that is no base64": '[{"Key": "mnha/t/vms/v/lease", "ModifyIndex": 7, "Value": "x"}]',
    "deep": "[" * 100_000,
    "huge": "[" + "1," * 2_000_000 + "1]",
    "not UTF-8": "\udcff\udcfe",
    "results of null": '{"Results": null, "Errors": null}',
    "results without an index": '{"Results": [{"KV": {}}]}',
    "a result of zero": '{"Results": [{"KV": {"ModifyIndex": 0}}]}',
    "a result of true": '{"Results": [{"KV": {"ModifyIndex": true}}]}',
    "a result of infinity": '{"Results": [{"KV": {"ModifyIndex": 1e999}}]}',
    "a result that is a text": '{"Results": [{"KV": {"ModifyIndex": "9"}}]}',
    "a result of before": '{"Results": [{"KV": {"ModifyIndex": 3}}]}',
    "another key's result": '{"Results": [{"KV": {"Key": "other", "ModifyIndex": 9}}]}',
    "a result with an error": '{"Results": [{"KV": {"ModifyIndex": 9}}], "Errors": [{"What": "no"}]}',
    "an error that is null": '{"Errors": [{"What": null}]}',
    "an error that is an object": '{"Errors": [{"What": {}}]}',
}
INDEX = 5
"""What the writes compare with."""


def test_nonsense_from_consul_is_never_an_answer(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a yes nor a no, nor that there is no lease, no other node, no maintenance."""
    monkeypatch.setattr(http, "MOST_BYTES", 1_000_000)
    told, changed = Told(), Told()
    servers = server.servers()
    store = ConsulStore(servers, PREFIX, told, 2.0)
    peers, watch = Peers(servers, ["n2"]), Maintenance(servers, MAINTENANCE, changed)
    others = OtherNodes(servers, "mnha/t", "n1", lambda: {"n2": {"alive": True}})
    publisher = Publisher(servers)
    watch._known = "in maintenance by me"
    for name, body in NONSENSE.items():
        server.answer = lambda method, path, body=body: Say(200, body)  # type: ignore[misc]
        told.all.clear()
        store._cas(0, LEASE, INDEX, ticket=1)
        store._read(0)
        store._watch()
        with pytest.raises(KnownFailure, match="is not known"):
            watch._watch()
        peers._watch()
        with pytest.raises(MnhaError):
            publisher._put("k", "{}", 0)
        answered, failed = told.all
        assert isinstance(answered, Answered), name
        assert answered.outcome is Outcome.UNREACHABLE, name
        assert isinstance(failed, ReadFailed), name
        assert store.contact.error, name
        assert not store.contact.reachable, name
        assert changed.all == [], name
        assert peers.seen()["n2"]["alive"] is None, name
        assert others.with_storage() == "", name


def test_nonsense_from_consul_is_never_a_refusal(server: Scripted) -> None:
    """Which comes with this status, and a text why."""
    told = Told()
    store = ConsulStore(server.servers(), PREFIX, told, 2.0)
    bodies = [body for name, body in NONSENSE.items() if name != "a result with an error"]
    for body in bodies:
        server.answer = lambda method, path, body=body: Say(409, body)  # type: ignore[misc]
        store._cas(0, LEASE, INDEX, ticket=1)
    assert [one.outcome for one in told.all] == [Outcome.UNREACHABLE] * len(bodies)


def test_an_answer_that_comes_too_slowly_is_none(server: Scripted) -> None:
    """It comes, part after part, each in time: that must not hold up who waits for it for ever."""
    server.answer = lambda method, path: Say(200, "[" + " " * 100, trickles_s=0.1)
    began_s = time.monotonic()
    with pytest.raises(MnhaError, match="timed out"):
        server.servers().read(0, 0.4, lambda consul: consul.kv.get("k"))
    assert time.monotonic() - began_s < 2.0


def test_a_token_that_is_none_is_told_and_the_next_one_counts(server: Scripted) -> None:
    told = Told()
    store = ConsulStore(server.servers(), PREFIX, told, 2.0)
    server.answer = sound
    server.token_file.write_bytes(b"\xff\xfe")
    store._cas(0, LEASE, INDEX, ticket=1)
    store._watch()
    assert [one.outcome for one in told.all] == [Outcome.UNREACHABLE]
    assert "token" in store.contact.error
    server.token_file.write_text("t\n")
    store._cas(0, LEASE, INDEX, ticket=2)
    store._watch()
    assert told.of(Answered)[-1].outcome is Outcome.GRANTED
    assert store.contact.error == ""


def test_a_lease_that_can_not_be_read_is_told_in_the_status(server: Scripted) -> None:
    told = Told()
    store = ConsulStore(server.servers(), PREFIX, told, 2.0)
    for value in ("[" * 100_000, "{}", "no json"):
        server.answer = lambda method, path, value=value: Say(200, json.dumps([row(KEY, value)]))  # type: ignore[misc]
        store._watch()
        assert "lease record can't be read" in store.contact.error
        store._read(0)
    assert [type(one) for one in told.all] == [ReadFailed] * 3
    wish = row(f"{PREFIX}/desired", "[" * 100_000)
    server.answer = lambda method, path: Say(
        200, json.dumps([wish] if "/desired" in path else [row(KEY, LEASE.to_json()), wish])
    )
    store._watch()
    store._work()
    assert told.all[-1] == DesiredSeen(None)
    store._watch()
    assert "desired state" in store.contact.error
    server.answer = sound
    store._watch()
    assert store.contact.error == ""
    assert told.of(LeaseSeen)


# ---- the fencer

GARBLED = {
    "nothing": b"",
    "no JSON": b"yes",
    "no UTF-8": b"\xff\xfe",
    "null": b"null",
    "a list": b"[]",
    "deep": b"[" * 60_000,
    "no word": b"{}",
    "a yes that is a text": b'{"ok": "true"}',
    "a yes that is a number": b'{"ok": 1}',
    "a no without a reason": b'{"ok": false}',
    "a no with a reason that is none": b'{"ok": false, "error": "no"}',
    "a no with nothing": b'{"ok": false, "error": {"message": null}}',
}


@dataclasses.dataclass
class FencerBench:
    """A link to a fencer that can be made to talk nonsense."""

    link: fencer.Link
    stub: Stub
    told: Told

    def confirmed(self) -> list[Confirmed]:
        return [one for one in self.told.of(Confirmed) if not one.error]

    def is_there(self) -> bool:
        seen = self.told.of(FencerSeen)
        return bool(seen) and seen[-1].there


@pytest.fixture
def linked(world: World) -> FencerBench:
    world.patch.setattr(fencer, "RECONNECT_S", 0.05)
    told, path = Told(), world.folder / "fencer.sock"
    stub, link = Stub(path), fencer.Link(path)
    world.end.callback(stub.close)
    desk, tickets = link.for_vm("v", told), itertools.count(1)
    world.begin(link)
    made = FencerBench(link, stub, told)
    wait_until(made.is_there, PATIENCE_S, "it is there")
    world.again(lambda: desk.grant(1.0, 2.0, next(tickets)))
    return made


@pytest.mark.parametrize("name", GARBLED)
def test_nonsense_from_the_fencer_confirms_nothing_and_is_no_refusal(linked: FencerBench, name: str) -> None:
    wait_until(linked.confirmed, PATIENCE_S, "nothing is confirmed")
    linked.stub.garble = lambda packet, is_status: packet if is_status else GARBLED[name]
    wait_until(lambda: not linked.is_there(), PATIENCE_S, "it counts as there")
    linked.told.all.clear()
    before = linked.stub.connections
    for _ in range(10):
        time.sleep(0.02)
        assert not linked.told.of(Confirmed)
    assert linked.stub.connections - before < HOT
    wait_until(lambda: linked.link.error or faults(linked.link.threads), PATIENCE_S, "it is not told")
    linked.stub.garble = lambda packet, is_status: packet
    wait_until(linked.confirmed, PATIENCE_S, "nothing is confirmed any more")
    wait_until(lambda: not linked.link.error and not faults(linked.link.threads), PATIENCE_S, "it is told for ever")


def test_a_fencer_that_answers_what_nobody_has_asked_is_connected_to_anew(world: World, tmp_path: Path) -> None:
    """What comes after that would be taken for the answer to something else."""
    told, path = Told(), tmp_path / "fencer.sock"
    stub, link = Stub(path), fencer.Link(path)
    world.end.callback(stub.close)
    link.for_vm("v", told)
    world.begin(link)
    wait_until(lambda: told.of(FencerSeen), PATIENCE_S, "it is there")
    for client in stub._clients:
        with contextlib.suppress(OSError):
            client.send(b'{"ok": true, "protected": true}')
    wait_until(lambda: FencerSeen(False) in told.all, PATIENCE_S, "it counts as there")
    assert not told.of(Confirmed)
    wait_until(lambda: told.of(FencerSeen)[-1].there, PATIENCE_S, "it is there again")


@pytest.mark.parametrize(
    "vms",
    [
        None,
        [],
        {"v": None},
        {"v": {}},
        {"v": {"kind": "run"}},
        {"v": {"kind": "run", "until_s": None, "kill_s": 2}},
        {"v": {"kind": "run", "until_s": "soon", "kill_s": 2}},
        {"v": {"kind": "run", "until_s": float("inf"), "kill_s": 2}},
        {"v": {"kind": "run", "until_s": float("nan"), "kill_s": 2}},
        {"v": {"kind": "run", "until_s": 1e12, "kill_s": 2}},
        {"v": {"kind": "run", "until_s": 1, "kill_s": 0}},
        {"v": {"kind": "run", "until_s": 1, "kill_s": float("inf")}},
    ],
    ids=str,
)  # fmt: skip
def test_a_guard_that_begins_takes_no_nonsense_for_a_moment_that_was_granted(tmp_path: Path, vms: object) -> None:
    stub = Stub(tmp_path / "fencer.sock")
    try:
        stub.about = {"vms": vms, "watchdog": {}}
        assert fencer.granted(tmp_path / "fencer.sock", 0.0) == {}
        stub.about = {"vms": {"v": {"kind": "run", "until_s": 1, "kill_s": 2}}, "watchdog": {}}
        assert fencer.granted(tmp_path / "fencer.sock", 0.0) == {"v": (1.0, 2.0)}
    finally:
        stub.close()


# ---- libvirt, and the VM


def test_connecting_to_libvirt_again_and_again_leaves_no_connection_open(world: World) -> None:
    connection, opened = libvirt_test(world), weakref.WeakSet[Any]()
    real = libvirt.open
    lost = [False]

    def count(uri: str) -> Any:
        made = real(uri)
        opened.add(made)
        return made

    world.patch.setattr(libvirt, "open", count)
    world.patch.setattr(libvirt.virConnect, "isAlive", lambda _: 0 if lost[0] else 1)
    world.begin(connection)
    total = 0
    gc.disable()
    try:
        for _ in range(5):
            lost[0] = False
            wait_until(lambda: connection.error == "", PATIENCE_S, "it is not connected")
            total += 1
            lost[0] = True
            wait_until(lambda: connection.error, PATIENCE_S, "its end is not told")
        lost[0] = False
        wait_until(lambda: connection.error == "", PATIENCE_S, "it is not connected")
        wait_until(lambda: len(opened) == 1, PATIENCE_S, "connections are left")
    finally:
        gc.enable()


@pytest.fixture
def bench(world: World) -> Bench:
    world.patch.setattr(libvirt_module, "SCAN_S", 0.2)
    return bench_of(world)


def off(bench: Bench) -> bool:
    """Whether the VM has been reported as off since the last look."""
    found = []
    with contextlib.suppress(queue.Empty):
        while True:
            found.append(bench.events.get_nowait())
    return any(isinstance(event, VmSeen) and event.vm is Vm.OFF for event in found)


@pytest.mark.parametrize("call", ["kill", "is_empty", "pids"])
def test_what_can_not_be_killed_or_looked_at_is_not_off_and_is_killed_when_it_can(
    bench: Bench, world: World, call: str
) -> None:
    bench.qemu()
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING
    switch = world.switch(bench.slices, call)
    switch.cut(Failure.RAISES)
    for _ in range(3):
        bench.hypervisor.kill()
        wait_until(lambda: not bench.hypervisor._killing, PATIENCE_S, "a kill does not end")
    if call != "pids":
        assert not off(bench)
        assert "rubbish" in bench.hypervisor.error
        switch.mend()
        bench.hypervisor.kill()
    assert bench.processes[0].wait(PATIENCE_S) == -9, "also when only its processes can't be listed"
    switch.mend()
    wait_until(lambda: off(bench), PATIENCE_S, "its end is not told")
    bench.hypervisor.kill()
    wait_until(lambda: not bench.hypervisor.error, PATIENCE_S, "it is told for ever")


def test_without_a_thread_for_it_a_kill_is_repeated_and_a_migration_has_failed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.qemu()
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING
    with monkeypatch.context() as without:

        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        without.setattr(threading.Thread, "start", start)
        bench.hypervisor.kill()
        bench.hypervisor.migrate("node2", 1)
        assert "can't start new thread" in bench.next(Moved).error
        assert "can't start new thread" in bench.hypervisor.error
    bench.hypervisor.kill()
    assert bench.processes[0].wait(PATIENCE_S) == -9
    wait_until(lambda: off(bench), PATIENCE_S, "its end is not told")


def test_the_end_of_a_vm_is_told_also_when_who_watches_it_fails(bench: Bench, world: World) -> None:
    bench.qemu()
    bench.hypervisor.open()
    assert bench.seen() is Vm.RUNNING
    switch = world.switch(bench.hypervisor, "_outlast_helpers")
    switch.cut(Failure.RAISES)
    bench.processes[0].kill()
    bench.processes[0].wait()
    wait_until(lambda: off(bench), PATIENCE_S, "its end is not told")
    assert "rubbish" in faults(bench.hypervisor.threads)["vm-vm-end"]


def test_a_start_that_can_not_be_voided_is_under_way_until_it_can(bench: Bench, world: World) -> None:
    bench.hypervisor.open()
    assert bench.seen() is Vm.OFF
    switch = world.switch(libvirt_module, "void_start")
    switch.cut(Failure.RAISES)
    bench.hypervisor.start(1, 1)
    wait_until(lambda: faults(bench.hypervisor.threads), PATIENCE_S, "it is not told")
    calls = switch.calls
    time.sleep(0.3)
    assert switch.calls - calls < HOT
    assert bench.hypervisor._starting
    rest = []
    with contextlib.suppress(queue.Empty):
        while True:
            rest.append(bench.events.get_nowait())
    assert not [event for event in rest if isinstance(event, StartFailed) or getattr(event, "generation", 0) == 1]
    switch.mend()
    assert bench.next(StartFailed).generation == 1
    seen = bench.next(VmSeen)
    assert (seen.vm, seen.generation) == (Vm.OFF, 1)
    assert not faults(bench.hypervisor.threads)


# ---- the main loop


@dataclasses.dataclass
class Main:
    """A guard's main loop with two VMs, whose adapters were not started."""

    daemon: Daemon
    thread: threading.Thread

    def status(self) -> dict[str, Any]:
        return self.daemon._loop.ask(self.daemon._status.whole)

    def faults(self) -> dict[str, str]:
        return dict(self.status()["faults"])


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Main]:
    for module in (loop_module, journal_module):
        monkeypatch.setattr(module, "FAULT_S", 0.4)
    settings = guard_config(config.load(example_with({"watchdog": "off"})), "node1")
    settings["socket"] = str(tmp_path / "guard.sock")
    settings["fencer"] = {"socket": str(tmp_path / "fencer.sock"), "slices": str(tmp_path / "mnha.slice")}
    settings["vms"].append({**settings["vms"][0], "name": "other"})
    daemon = Daemon(settings, {}, tmp_path / "guard.json")
    thread = threading.Thread(target=daemon._work, daemon=True)
    thread.start()
    yield Main(daemon, thread)
    daemon._ending._replaced_by_s = float("-inf")
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_guard_that_fails_ends_neither_the_others_nor_the_process(main: Main, world: World) -> None:
    broken, other = (main.daemon._protected[name] for name in ("mnvm", "other"))
    switches = [world.switch(broken.guard, name) for name in ("tick", "handle", "wake_s")]
    ticks = world.switch(other.guard, "tick")
    for switch in switches:
        switch.cut(Failure.RAISES)
    main.daemon._loop.post("mnvm", AbilitySeen("no"))
    main.daemon._loop.post("other", AbilitySeen("nothing works"))
    wait_until(lambda: "guard-mnvm" in main.faults(), PATIENCE_S, "it is not told")
    calls, others = switches[0].calls, ticks.calls
    time.sleep(0.5)
    assert switches[0].calls - calls < HOT
    assert ticks.calls > others
    assert main.status()["vms"]["other"]["unable"] == "nothing works"
    for switch in switches:
        switch.mend()
    main.daemon._loop.post("mnvm", AbilitySeen("still not"))
    wait_until(lambda: not main.faults(), PATIENCE_S, "it is told for ever")
    assert main.status()["vms"]["mnvm"]["unable"] == "still not"


def test_a_process_whose_guard_does_nothing_but_fail_is_no_longer_said_to_be_alive(main: Main, world: World) -> None:
    """So systemd has another one begin."""
    world.patch.setattr(loop_module, "LOST_S", 0.5)
    told: list[str] = []
    world.patch.setattr(main_module, "notify", told.append)
    switch = world.switch(main.daemon._protected["mnvm"].guard, "tick")
    switch.cut(Failure.RAISES)
    wait_until(lambda: bool(told) and "WATCHDOG" not in told[-1], PATIENCE_S, "it is said to be alive for ever")
    switch.mend()
    wait_until(lambda: "WATCHDOG=1" in told[-1], PATIENCE_S, "it is lost for ever")


def test_a_request_that_fails_in_the_main_loop_is_answered_with_that_and_the_next_one_well(
    main: Main, world: World
) -> None:
    switch = world.switch(main.daemon._protected["mnvm"].guard, "status")
    for surprise in (Surprise, KeyError):
        switch.cut(Failure.RAISES)
        with pytest.raises(surprise):
            main.status()
        switch.mend()
        assert "main" in main.faults()


@pytest.mark.parametrize(
    ("whose", "part"),
    [("_status", "sentences"), ("_status", "publish"), ("_ending", "take_signals"), ("_ending", "is_over")],
)
def test_a_part_of_the_main_loop_that_fails_is_told_and_keeps_no_other_from_its_turn(
    main: Main, world: World, whose: str, part: str
) -> None:
    switch = world.switch(getattr(main.daemon, whose), part)
    switch.cut(Failure.RAISES)
    wait_until(lambda: "main" in main.faults(), PATIENCE_S, "it is not told")
    calls = switch.calls
    time.sleep(0.3)
    assert switch.calls - calls < HOT
    switch.mend()
    wait_until(lambda: not main.faults(), PATIENCE_S, "it is told for ever")


def test_that_probes_hang_is_told_to_the_guard_and_in_the_status(main: Main) -> None:
    """Their thread can't tell it: the main one does."""
    main.daemon._protected["mnvm"].prober._thread.expect(0.0)
    wait_until(
        lambda: "do not come to an end" in main.status()["vms"]["mnvm"]["unable"], PATIENCE_S, "its guard is not told"
    )
    assert "probe-mnvm" in main.faults()
    assert main.status()["vms"]["other"]["unable"] != main.status()["vms"]["mnvm"]["unable"]


def test_what_is_written_for_people_keeps_no_guard_from_what_it_is_about_to_do(main: Main, world: World) -> None:
    switch = world.switch(main.daemon._subscribers, "publish")
    switch.cut(Failure.RAISES)
    ticket = main.daemon._answers.ticket()
    main.daemon._loop.post("mnvm", AbilitySeen("no"))
    main.daemon._loop.post("mnvm", Ordered(Op.RELEASE, ticket, "", 1.0))
    with pytest.raises(MnhaError, match="has not seen the lease"):
        main.daemon._answers.wait(ticket, PATIENCE_S)
    main.daemon._loop.post("mnvm", VmSeen(Vm.OFF, 0))
    wait_until(lambda: "journal-mnvm" in main.faults(), PATIENCE_S, "it is not told")
    assert main.status()["vms"]["mnvm"]["vm"] == "off"
    assert "guard-mnvm" not in main.faults()


@pytest.mark.parametrize("about", [{"vms": None}, {"watchdog": None}, {"watchdog": []}, {"vms": {"mnvm": None}}])
def test_a_fencer_whose_status_is_nonsense_does_not_end_the_guard(
    main: Main, tmp_path: Path, about: dict[str, Any]
) -> None:
    """It did, as soon as somebody asked for the status."""
    stub = Stub(tmp_path / "fencer.sock")
    stub.about |= about
    link = main.daemon._node.fencer
    link._look()
    assert main.status()["watchdog"]["mode"] == "unknown"
    assert link.fault("mnvm") == ""
    stub.close()


# ---- the command that looks at a node


@pytest.mark.parametrize("surprise", [Surprise, KeyError, RecursionError])
def test_a_look_of_the_check_that_fails_is_a_finding(surprise: type[Exception]) -> None:
    def look() -> str:
        raise surprise("rubbish")

    found = readiness._finding("lease", look)
    assert not found.ok
    assert "rubbish" in found.text
