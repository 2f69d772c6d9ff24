"""The guard's socket under attack, by root even: the VM's lease is renewed as if nothing was."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lab import guards
from tests.support import renewals
from tests.support.scene import Scene, eventually

ATTACK_S = 10.0
OLDEST_S = 2.0
"""Two renewals: the lease is renewed each second, and runs for five."""
GOOD_CLIENT_S = 2.0
"""How long a client that behaves may have to wait meanwhile; it asks again while the guard serves too many."""
LINES = (
    b"garbage\n" * 50,
    b"x" * 200_000,
    b'{"v":1,"op":"status"}\n' * 20,
    b'{"v":1',
    b'{"v":1,"op":"events"}\n',
    b'{"v":1,"op":"takeover","epoch":0,"wait_s":1}\n',
    b'{"v":1,"op":"stop","wait_s":1}\n',
    b"[" * 60_000 + b"\n",
)


class Attackers:
    """Threads that connect, send something bad, and leave in the middle; some never read."""

    def __init__(self, path: Path) -> None:
        self.path, self.connections = path, 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(4)]

    def __enter__(self) -> Attackers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self, number: int) -> None:
        held: list[socket.socket] = []
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                held.append(client)
                client.settimeout(1)
                client.connect(str(self.path))
                client.setblocking(False)
                client.send(LINES[number % len(LINES)])
            number += 1
            self.connections += 1
            if len(held) > 50:
                for client in held:
                    client.close()
                held.clear()
                time.sleep(0.05)
        for client in held:
            client.close()


def longest_wait(scene: Scene, until_s: float) -> float:
    """The longest time that a good client had to wait for its answer."""
    longest_s = 0.0
    while time.monotonic() < until_s:
        began_s = time.monotonic()
        while True:
            answer = {}
            with contextlib.suppress(Exception):
                answer = guards.ask(scene.cluster, scene.holder, "status", timeout_s=5)
            if answer.get("ok"):
                break
            time.sleep(0.01)
        longest_s = max(longest_s, time.monotonic() - began_s)
        time.sleep(0.1)
    return longest_s


def test_the_lease_is_renewed_in_time_whatever_is_sent_to_the_socket(scene: Scene, tell: Callable[[str], None]) -> None:
    renewals.count_anew(scene)
    before = scene.status(scene.holder)
    watching = scene.others[0]
    ages: list[float] = []
    path = Path("/proc") / str(scene.cluster.node(scene.holder).init_pid()) / "root" / guards.GUARD_SOCKET
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            ages.append(float(scene.status(watching)["lease"]["age_s"]))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with Attackers(path) as attackers:
            waited_s = longest_wait(scene, time.monotonic() + ATTACK_S)
    finally:
        stop.set()
        watcher.join()
    after = eventually(lambda: scene.status(scene.holder), 5, "the guard has room for clients again")
    tell(
        f"{attackers.connections} connections in {ATTACK_S:g} s; a good client waited {waited_s * 1000:.0f} ms at most;"
        f" {watching} saw the lease {max(ages):.2f} s old at most;"
        f" {renewals.line(after['renewals'])}"
    )
    assert attackers.connections > 1000
    assert len(ages) > 50
    assert max(ages) < OLDEST_S
    assert waited_s < GOOD_CLIENT_S
    assert (after["vm_pid"], after["lease"]["epoch"]) == (before["vm_pid"], before["lease"]["epoch"])
    assert after["renewals"]["refused"] == before["renewals"]["refused"]
    assert after["renewals"]["lost"] == before["renewals"]["lost"]
