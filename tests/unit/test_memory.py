"""What a node's memory has left beside the VMs that are there or on their way; guards are what a view says of them."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from mnha.core.model import Op, Order, Vm
from mnha.daemon import memory as module
from mnha.daemon.memory import Memory
from tests.unit.core.views import lease, sighting, view

ORDERED = Order(Op.TAKEOVER, "ordered", until_s=9e9)
CONFIG = {
    "node": "me",
    "memory_reserve_mib": 1024,
    "vms": [{"name": "x", "memory_mib": 8192}, {"name": "y", "memory_mib": 4096}],
}


def guard(vm: Vm = Vm.OFF, pid: int | None = None, **fields: Any) -> Any:
    return SimpleNamespace(view=view(**{"vm": vm, "sighting": sighting(lease("you")), **fields}), vm_pid=pid)


MINE = {"sighting": sighting(lease("me"))}


def memory(monkeypatch: pytest.MonkeyPatch, free_mib: int, **guards: Any) -> Memory:
    monkeypatch.setattr(module, "free_memory_mib", lambda: free_mib)
    return Memory(CONFIG, {"x": guard(), "y": guard(), **guards})


def test_the_host_keeps_its_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory(monkeypatch, 9216).lack("x") == ""
    assert memory(monkeypatch, 9215).lack("x") == (
        "9215 MiB of memory are free, 1024 MiB for the host; the VM needs 8192 MiB"
    )


@pytest.mark.parametrize("other", [guard(Vm.STARTING), guard(order=ORDERED), guard(**MINE), guard(Vm.UNKNOWN)])
def test_what_another_vm_may_still_take_is_not_free(monkeypatch: pytest.MonkeyPatch, other: Any) -> None:
    assert memory(monkeypatch, 9216 + 4096, y=other).lack("x") == ""
    assert "4096 MiB of them for y" in memory(monkeypatch, 9216 + 4095, y=other).lack("x")


def test_what_a_vm_has_taken_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = guard(Vm.RUNNING, pid=os.getpid())
    resident_mib = module._resident_mib(os.getpid())
    assert 0 < resident_mib < 4096
    found = memory(monkeypatch, 20000, y=runs)
    assert found.free_mib() == pytest.approx(20000 - 4096 + resident_mib, abs=4)
    assert memory(monkeypatch, 20000, y=guard(Vm.RUNNING, pid=None)).free_mib() == 20000 - 4096
    assert memory(monkeypatch, 100, y=guard(Vm.RUNNING)).free_mib() == 0


def test_what_is_only_on_its_way_is_not_told_as_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice counts it: it is off here by the record."""
    assert memory(monkeypatch, 20000, y=guard(order=ORDERED)).free_mib() == 20000


def test_an_order_is_refused_when_the_vm_ordered_before_leaves_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    found = memory(monkeypatch, 10000, y=guard(order=ORDERED))
    assert found.objection("x").startswith("me can't run the VM: 10000 MiB of memory are free, 4096 MiB of them for y")
    assert memory(monkeypatch, 10000).objection("x") == ""
    assert memory(monkeypatch, 0, x=guard(Vm.RUNNING)).objection("x") == ""
    assert memory(monkeypatch, 0, x=guard(**MINE)).objection("x") == ""


def test_of_two_that_have_their_lease_here_the_larger_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two were taken at once: not both are given back. Nor is one for the sake of the host's reserve."""
    found = memory(monkeypatch, 8192, x=guard(**MINE), y=guard(**MINE))
    assert found.lack("x") == ""
    assert "8192 MiB of them for x" in found.lack("y")
