"""Guards without Consul and libvirt, for tests of what talks to them: the socket's protocol over one shared
lease.

`FakeCluster` is the world: one lease, one wish, and per node a socket. Time is that of the machine. Takeover
orders wait for the lease to be free or expired, as the real guard's do; of two at once one wins.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

BACK_OFF_S = 10.0
"""After a failed start, as the real guard."""


class Refusal(Exception):
    """An error object of the protocol."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.message = kind, message


def boottime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class FakeCluster:
    """The lease that all fake guards share.

    :param lease_s: a lease not renewed for so long has expired; after `deadline_s` a take-over may be ordered.
    :param start_s: how long a VM takes to start.
    """

    def __init__(
        self, folder: Path, nodes: list[str], cluster: str = "example", vm: str = "mnvm",
        lease_s: float = 8.0, deadline_s: float = 5.0, start_s: float = 0.2,
    ) -> None:  # fmt: skip
        self.cluster, self.vm = cluster, vm
        self.lease_s, self.deadline_s, self.start_s = lease_s, deadline_s, start_s
        self.lock = threading.RLock()
        self.desired = "started"
        self.lease: dict[str, Any] = {
            "holder": "", "epoch": 0, "phase": "released", "target": None, "seq": 0, "index": 10, "reason": "created",
            "timings": {"renew_s": 1.0, "deadline_s": deadline_s, "kill_s": 2.0, "lease_s": lease_s},
        }  # fmt: skip
        self.touched_s = boottime_s()
        self.guards = {node: FakeGuard(self, node, folder / f"{node}.sock") for node in nodes}

    def hold(self, node: str, epoch: int | None = None) -> None:
        """Let `node` have the lease, freshly renewed."""
        with self.lock:
            self.lease.update(holder=node, phase="held", epoch=self.lease["epoch"] + 1 if epoch is None else epoch)
            if node in self.guards:
                self.guards[node].renews = False
            self.renew()

    def keep(self) -> None:
        """Renew the lease once a second if its holder was ordered to take it; what a test gave away, that renews."""
        with self.lock:
            holder = self.guards.get(self.lease["holder"])
            if holder is not None and holder.is_there and holder.renews and self.age_s >= 1.0:
                self.renew()

    def renew(self) -> None:
        with self.lock:
            self.lease["seq"] += 1
            self.lease["index"] += 1
            self.touched_s = boottime_s()

    def release(self) -> None:
        with self.lock:
            self.lease.update(holder="", phase="released")
            self.renew()

    def age(self, seconds: float) -> None:
        """Let the last renewal be `seconds` ago."""
        with self.lock:
            self.touched_s = boottime_s() - seconds

    def obey(self) -> None:
        """What each guard does by itself when the desired state is stopped."""
        holder = self.guards.get(self.lease["holder"])
        if self.desired == "stopped" and holder is not None and holder.is_there:
            holder.shut_down()

    def told(self) -> dict[str, dict[str, Any]]:
        """What each guard that is there writes into Consul of its VM."""
        return {
            node: {"state": guard.status()["vms"][self.vm]["state"], "vm": guard.vm, "failed_here": guard.backs_off}
            for node, guard in self.guards.items()
            if guard.is_there
        }

    @property
    def age_s(self) -> float:
        return boottime_s() - self.touched_s

    def start(self) -> FakeCluster:
        for guard in self.guards.values():
            guard.start()
        return self

    def stop(self) -> None:
        for guard in self.guards.values():
            guard.stop()

    def __enter__(self) -> FakeCluster:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


class FakeGuard:
    """One node's guard; `orders` has every order that came."""

    def __init__(self, world: FakeCluster, node: str, path: Path) -> None:
        self.world, self.node, self.path = world, node, path
        self.vm = "off"
        self.checks: dict[str, dict[str, Any]] = {"storage": {"ok": True, "why": ""}}
        self.vm_checks: dict[str, dict[str, Any]] = {}
        self.network_checks: dict[str, dict[str, Any]] = {}
        self.peers: dict[str, dict[str, Any]] = {}
        self.consul_reachable = True
        self.fails_to_start = False
        self.silent = False
        self.renews = False
        self.starts_failed = 0
        self.not_before_s = 0.0
        self.watchdog = {"mode": "off", "device": None, "armed": False, "failing": False, "why": ""}
        self.last_fence: dict[str, Any] | None = None
        self.health: dict[str, Any] = {"hung": False, "why": ""}
        self.paused: dict[str, Any] | None = None
        self.orders: list[dict[str, Any]] = []
        self._socket: socket.socket | None = None

    # -- the socket ---------------------------------------------------------------------------------------------
    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self._socket.listen(16)
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def stop(self) -> None:
        """As after a crash: the socket's file stays, nobody listens."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None

    @property
    def is_there(self) -> bool:
        return self._socket is not None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, client.makefile("rwb") as stream:
            for line in stream:
                while self.silent:
                    time.sleep(0.05)
                request = json.loads(line)
                try:
                    assert request["v"] == 1
                    answer = {"v": 1, "ok": True, "result": self.answer(request)}
                except Refusal as refusal:
                    answer = {"v": 1, "ok": False, "error": {"kind": refusal.kind, "message": refusal.message}}
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()

    @property
    def backs_off(self) -> bool:
        """Whether it could not start the VM a while ago: it takes nothing, and masters ask others first."""
        return boottime_s() < self.not_before_s

    # -- requests -----------------------------------------------------------------------------------------------
    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] in ("status", "events"):
            return self.status()
        self.orders.append(request)
        if request.get("vm") not in (None, self.world.vm):
            raise Refusal("invalid", f"no VM {request['vm']!r} is under guard on {self.node}")
        match request["op"]:
            case "takeover":
                return self._take_over(request)
            case "stop" | "release":
                return self.shut_down()
            case "adopt_share":
                return {"id": "an-id"}
            case "accept_disk":
                return {"vm": self.world.vm, "message": f"{self.world.vm} is started from its image again"}
            case "reset":
                return {"message": "reset", "node": self.node}
        raise Refusal("invalid", f"the guard knows no {request['op']!r}")

    def status(self) -> dict[str, Any]:
        world = self.world
        with world.lock:
            age_s, held = world.age_s, world.lease["phase"] != "released"
            lease = {
                **world.lease, "age_s": age_s, "expires_in_s": world.lease_s - age_s,
                "overdue": age_s >= world.deadline_s, "expired": held and age_s >= world.lease_s,
            }  # fmt: skip
            mine = lease["holder"] == self.node
            return {
                "v": 1,
                "guard": {"version": "fake", "pid": 1, "since_s": 0.0, "uptime_s": 1.0},
                "cluster": world.cluster,
                "node": self.node,
                "boottime_s": boottime_s(),
                "consul": {"reachable": self.consul_reachable, "known_leader": True, "error": ""},
                "watchdog": self.watchdog,
                "checks": self.checks,
                "network_checks": self.network_checks,
                "peers": self.peers,
                "vms": {
                    world.vm: {
                        "state": "running" if mine else "standby",
                        "sentence": "holds the lease, the VM is running" if mine else "watches the lease",
                        "lease": lease, "desired": world.desired, "vm": self.vm, "checks": self.vm_checks,
                        "last_fence": self.last_fence, "paused": self.paused,
                        "starts_failed": self.starts_failed, "health": self.health, "vm_pid": 123,
                    }
                },
            }  # fmt: skip

    def _take_over(self, request: dict[str, Any]) -> dict[str, Any]:
        """Wait until the lease may be taken; void when it is renewed or taken by another."""
        world = self.world
        if self.backs_off:
            raise Refusal("refused", f"{self.node} could not start the VM and backs off")
        index, until_s = world.lease["index"], boottime_s() + request["wait_s"]
        timeline = {"ordered_s": boottime_s()}
        if world.lease["phase"] != "released" and world.age_s < world.deadline_s:
            raise Refusal("refused", f"{world.lease['holder']} holds the lease")
        while True:
            with world.lock:
                lease = world.lease
                if world.desired != "started":
                    raise Refusal("refused", f"the VM is not to run: desired is {world.desired}")
                if lease["epoch"] != request["epoch"]:
                    raise Refusal(
                        "refused", f"{lease['holder'] or 'nobody'} has the lease by now, epoch {lease['epoch']}"
                    )
                if lease["phase"] != "released" and lease["index"] != index:
                    raise Refusal("refused", f"{lease['holder']} has renewed the lease of epoch {lease['epoch']}")
                if lease["phase"] == "released" or world.age_s >= world.lease_s:
                    timeline["expired_s"] = world.touched_s + world.lease_s
                    world.hold(self.node)
                    self.renews = True
                    break
            if boottime_s() > until_s:
                raise Refusal("timeout", "the time given for the order is over")
            time.sleep(0.01)
        timeline["taken_s"] = boottime_s()
        time.sleep(world.start_s)
        if self.fails_to_start:
            self.starts_failed += 1
            self.not_before_s = boottime_s() + BACK_OFF_S
            world.release()
            raise Refusal("failed", f"{self.node} could not start the VM: as told")
        self.vm = "running"
        timeline["started_s"] = boottime_s()
        return {"message": f"the VM runs on {self.node}", "epoch": world.lease["epoch"], "node": self.node,
                "timeline": timeline}  # fmt: skip

    def shut_down(self) -> dict[str, Any]:
        """Give up the VM and the lease."""
        self.vm = "off"
        if self.world.lease["holder"] == self.node:
            self.world.release()
        return {"message": f"{self.world.vm} is off on {self.node}", "node": self.node}
