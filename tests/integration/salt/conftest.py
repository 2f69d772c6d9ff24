"""Real masters and minions on loopback, fake guards, and a folder in place of Consul."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnha.secrets import store
from tests.support.example import example_with
from tests.support.fake_guard import FakeCluster
from tests.support.salt_cluster import ROOT, SaltCluster, wait_until

NODES = ["node1", "node2", "node3"]


class World:
    """The Salt cluster, the fake guards, and what stands for Consul between them."""

    def __init__(self, folder: Path, masters: int) -> None:
        self.folder = folder
        (folder / "kv").mkdir(parents=True)
        self.guards = FakeCluster(folder, NODES)
        reactor = (ROOT / "salt/reactor/reactor.yaml").read_text().replace("/srv/mnha/salt", str(ROOT / "salt"))
        beacons = {name: [{"interval": 1}, {"cluster": "example"}] for name in ("mnvm_health", "node_liveness")}
        test_root = Path(__file__).parent / "root"
        self.salt = SaltCluster(
            folder / "salt", masters=masters, minions=NODES, salt_roots=[test_root, ROOT / "salt"],
            pillar=example_with({}),
            master_opts=yaml.safe_load(reactor) | {
                "ext_pillar": [{"mnha_secrets": {}}],
                "mnha_secrets_folder": str(folder / "secrets"),
                "mnha_guard_file": str(folder / "guard.json"),  # none: the masters are no nodes, but where a test wants
                "mnha_policy_token": str(folder / "policy"),
            },
            minion_opts={"beacons": beacons, "beacons_before_connect": True, "mnha_test_folder": str(folder),
                         "auth_timeout": 5, "auth_tries": 1},
            per_minion_opts={node: {"mnha_guard_socket": str(folder / f"{node}.sock"),
                                    "mnha_cluster_file": str(folder / f"{node}-cluster.json")} for node in NODES},
        )  # fmt: skip
        plan = store.Plan("example", "example", {node: ["127.0.0.1"] for node in NODES}, True)
        store.bootstrap(folder / "secrets" / "example", plan)
        self._stop = threading.Event()
        self.members(NODES)

    def put(self, key: str, value: Any) -> None:
        self._write(self.folder / "kv" / key.replace("/", "%"), value)

    @staticmethod
    def _write(path: Path, value: Any) -> None:
        """Replace a file as a whole: minions read it at any moment."""
        new = path.with_name(f"{path.name}.{threading.get_ident()}.new")  # the mirror writes as well as the test
        new.write_text(json.dumps(value))
        new.replace(path)

    def put_record(self, node: str, vm: dict[str, Any]) -> None:
        """What a node's guard says of it and of its VM."""
        checks = {"storage": {"ok": True, "why": ""}}
        record = {"v": 1, "node": node, "guard": {"vms": {"mnvm": vm}}, "cpus": 8, "free_memory_mib": 32000,
                  "checks": checks}  # fmt: skip
        self.put(f"nodes/{node}", record)

    def get(self, prefix: str) -> dict[str, Any]:
        paths = sorted((self.folder / "kv").glob(prefix.replace("/", "%") + "*"))
        return {path.name.replace("%", "/"): json.loads(path.read_text()) for path in paths if path.suffix != ".new"}

    def members(self, alive: list[str]) -> None:
        rows = [{"node": node, "address": "", "status": "alive" if node in alive else "failed"} for node in NODES]
        self._write(self.folder / "members.json", rows)

    def _mirror(self) -> None:
        """Carry the fake guards' lease and records into the folder, and the wish back, which they obey."""
        told: dict[str, Any] = {}
        while not self._stop.wait(0.02):
            self.guards.keep()
            with self.guards.lock:  # not a lease that is old by the time it is written
                self.put("vms/mnvm/lease", dict(self.guards.lease))
                wish = self.get("vms/mnvm/desired").get("vms/mnvm/desired")
                if wish:
                    self.guards.desired = wish["run"]
                    self.guards.obey()
            for node, vm in self.guards.told().items():
                if told.get(node) != vm:
                    told[node] = vm
                    self.put_record(node, vm)

    def run_json(self, *args: str, master: str = "m1") -> tuple[int, dict[str, Any]]:
        """`salt-run` with its exit code and what it says of the cluster."""
        done = self.salt.run(master, *args, "--out=json")
        return done.returncode, json.loads(done.stdout)["example"]

    def status(self, *args: str, master: str = "m1", heard: int = len(NODES)) -> tuple[int, dict[str, Any]]:
        """`mnha.status` by which so many minions have answered: on a busy machine one is given up now and then."""
        told: list[tuple[int, dict[str, Any]]] = []

        def tell() -> bool:
            told[:] = [self.run_json("mnha.status", *args, master=master)]
            return bool(told[0][1]["minions"] == heard)

        wait_until(tell, 120, f"{heard} minions answer")
        return told[0]

    def start(self) -> None:
        self.put("vms/mnvm/desired", {"run": "stopped"})
        self.guards.start()
        threading.Thread(target=self._mirror, daemon=True).start()
        self.salt.start()
        self.salt.salt("m1", "saltutil.sync_all")

    def stop(self) -> None:
        self._stop.set()
        self.salt.stop()
        self.guards.stop()

    def desire(self, run: str) -> None:
        """Write the desired state, and wait until the guards know it: what they do then is not for an older one."""
        self.put("vms/mnvm/desired", {"run": run})
        wait_until(lambda: self.guards.desired == run, 60, f"the guards know that the VM is to be {run}")

    def hold(self, node: str) -> None:
        """The VM is to run, and `node` has its lease: in one step, for each without the other is acted upon."""
        with self.guards.lock:
            self.guards.hold(node)
            self.put("vms/mnvm/lease", dict(self.guards.lease))
            self.put("vms/mnvm/desired", {"run": "started"})
            self.guards.desired = "started"

    def reset(self) -> None:
        """A healthy cluster whose VM is stopped; the epoch goes on, so that no claim of an earlier test is in
        the way.
        """
        self.desire("stopped")
        self.members(NODES)
        for guard in self.guards.guards.values():
            guard.vm, guard.orders, guard.fails_to_start, guard.silent = "off", [], False, False
            guard.not_before_s = 0.0
        self.guards.hold("node1", self.guards.lease["epoch"] + 10)
        self.guards.release()


@contextlib.contextmanager
def frozen(world: World, *names: str) -> Iterator[None]:
    """Some daemons of Salt's answer nothing meanwhile."""
    for name in names:
        world.salt.daemon(name).freeze()
    try:
        yield
    finally:
        for name in names:
            world.salt.daemon(name).thaw()


@pytest.fixture(scope="session")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"), masters=2)
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture
def world(_world: World) -> World:
    _world.reset()
    return _world


@pytest.fixture
def running(world: World) -> Iterator[None]:
    """node1 runs the VM and renews its lease."""
    world.hold("node1")
    world.guards.guards["node1"].vm = "running"
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.5):
            world.guards.renew()

    thread = threading.Thread(target=renew)
    thread.start()
    time.sleep(0.1)  # the records follow the guards
    yield
    over.set()
    thread.join()
