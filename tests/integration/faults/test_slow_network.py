"""A storage network with round trips of 200 ms: nobody is told lost, and the VM runs on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from lab.settings import STORAGE
from tests.integration.security.test_gossip import members
from tests.support.scene import Scene

TRIP_MS = 200.0
LASTS_S = 30.0
SETTLE_S = 5.0


@pytest.fixture
def slow(scene: Scene) -> Iterator[Scene]:
    for name in scene.cluster.names:
        scene.cluster.delay(name, STORAGE, TRIP_MS / 4)
    time.sleep(SETTLE_S)
    yield scene
    for name in scene.cluster.names:
        scene.cluster.heal(name)


@pytest.mark.nightly
def test_with_round_trips_of_200_ms_no_living_node_is_told_failed(slow: Scene, tell: Callable[[str], None]) -> None:
    pid, looks, lost = slow.qemu_pid(slow.holder), 0, 0
    end_s = time.monotonic() + LASTS_S
    while time.monotonic() < end_s:
        for name in slow.cluster.names:
            looks += 1
            lost += set(members(slow.cluster, name).values()) != {"alive"}
        time.sleep(0.2)
    assert lost == 0, f"{lost} of {looks} looks"
    slow.await_renewals()
    assert slow.qemu_pid(slow.holder) == pid
    tell(f"round trips of {TRIP_MS:g} ms: {looks} looks at the members, all alive in each")
