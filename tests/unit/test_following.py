"""What becomes of a wish, by Consul's records: readings that a table gives, on a clock of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mnha.core.timing import LONGEST_S, PROFILES
from mnha.errors import InputError, UnreachableError
from mnha.master.following import Look, follow

TIMINGS = PROFILES["default"]
LEASE: dict[str, Any] = {
    "holder": "node1", "epoch": 7, "phase": "held", "seq": 5, "timings": {"renew_s": 1.0, "lease_s": 8.0},
}  # fmt: skip
FREE = {**LEASE, "holder": "", "phase": "released"}
NEVER_TAKEN = {**LEASE, "holder": "", "epoch": 0}


def record(state: str, vm: str) -> dict[str, Any]:
    return {"guard": {"vms": {"mnvm": {"state": state, "vm": vm}}}}


class World:
    """Consul as it is at each moment: `at(now_s)` makes the reading, or raises."""

    def __init__(self, at: Callable[[float], Look]) -> None:
        self.now_s, self._at = 0.0, at

    def follow(self, wanted: str, wait_s: float = 60.0) -> dict[str, Any]:
        return follow(lambda: self._at(self.now_s), "mnvm", wanted, wait_s, lambda: self.now_s, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds


def renewed(now_s: float, until_s: float = float("inf"), **changes: Any) -> dict[str, Any]:
    """The lease as its holder renews it each second, until it does not any more."""
    return {**LEASE, "seq": int(min(now_s, until_s)), **changes}


def test_a_vm_that_runs_is_seen_with_the_next_renewal() -> None:
    world = World(lambda now_s: Look(renewed(now_s), record("running", "running")))
    seen = world.follow("running")
    assert (seen["outcome"], seen["holder"]) == ("running", "node1")
    assert world.now_s < 1.5


def test_a_vm_that_stands_paused_is_not_waited_for() -> None:
    world = World(lambda now_s: Look(renewed(now_s), record("paused", "paused")))
    assert world.follow("running")["outcome"] == "paused"
    assert world.now_s < 1.5


def test_the_record_of_a_holder_that_does_not_renew_is_not_believed() -> None:
    """Its guard is gone with its node: what stands there is old."""
    world = World(lambda now_s: Look(LEASE, record("running", "running")))
    assert world.follow("running")["outcome"] == "overdue"
    assert 3.0 < world.now_s < 4.5


@pytest.mark.parametrize(("state", "vm"), [("stopping", "running"), ("degraded", "paused"), ("starting", "starting")])
def test_a_vm_that_stops_is_paused_or_starts_does_not_run_yet(state: str, vm: str) -> None:
    def at(now_s: float) -> Look:
        return Look(renewed(now_s), record(*(("running", "running") if now_s > 5 else (state, vm))))

    world = World(at)
    assert world.follow("running")["outcome"] == "running"
    assert world.now_s > 5


def test_one_that_never_runs_is_waited_for_as_long_as_was_said() -> None:
    world = World(lambda now_s: Look(renewed(now_s), record("degraded", "off")))
    seen = world.follow("running", wait_s=20)
    assert (seen["outcome"], seen["told"]["state"]) == ("timeout", "degraded")
    assert 20 <= world.now_s < 21


@pytest.mark.parametrize("lease", [FREE, NEVER_TAKEN, {}], ids=["given back", "never taken", "not there"])
def test_a_vm_whose_lease_nobody_holds_is_off(lease: dict[str, Any]) -> None:
    world = World(lambda now_s: Look(lease, {}))
    assert world.follow("off")["outcome"] == "off"
    assert world.now_s == 0


@pytest.mark.parametrize(("lease", "after_s"), [(FREE, 0.0), (NEVER_TAKEN, 3.5)], ids=["given back", "never taken"])
def test_a_lease_that_nobody_holds_has_to_be_taken_by_order_as_soon_as_guards_take_one(
    lease: dict[str, Any], after_s: float
) -> None:
    world = World(lambda now_s: Look(lease, {}))
    assert world.follow("running")["outcome"] == "free"
    assert after_s <= world.now_s < after_s + 0.5


@pytest.mark.parametrize(("wanted", "wish"), [("off", "started"), ("running", "stopped")])
def test_who_is_overruled_by_another_wish_does_not_wait(wanted: str, wish: str) -> None:
    def at(now_s: float) -> Look:
        run = wish if now_s > 2 else {"off": "stopped", "running": "started"}[wanted]
        return Look(renewed(now_s), record("stopping", "running"), {"run": run, "by": "root@m2"})

    world = World(at)
    seen = world.follow(wanted)
    assert (seen["outcome"], seen["desired"]) == ("overruled", {"run": wish, "by": "root@m2"})
    assert world.now_s < 2.5


def test_off_is_when_the_lease_is_given_back() -> None:
    world = World(lambda now_s: Look(FREE if now_s > 3 else renewed(now_s), record("stopping", "running")))
    assert world.follow("off")["outcome"] == "off"
    assert 3 < world.now_s < 3.5


def test_a_vm_that_moved_meanwhile_is_followed_to_where_it_is() -> None:
    world = World(
        lambda now_s: Look(FREE if now_s > 9 else renewed(now_s, holder="node2" if now_s > 2 else "node1"), {})
    )
    assert world.follow("off")["outcome"] == "off"
    assert world.now_s > 9


def test_a_silent_holder_has_no_vm_any_more_when_others_may_take_its_lease_and_not_before() -> None:
    world = World(lambda now_s: Look(renewed(now_s, until_s=4), {}))
    seen = world.follow("off")
    assert (seen["outcome"], seen["holder"]) == ("expired", "node1")
    assert 4 + 8 < world.now_s < 4 + 9
    unknown = World(lambda now_s: Look({**LEASE, "timings": None}, {}))
    assert unknown.follow("off", wait_s=90)["outcome"] == "expired"
    assert unknown.now_s > LONGEST_S


def test_a_moment_without_consul_is_waited_out_and_one_without_end_is_told() -> None:
    def at(now_s: float) -> Look:
        if now_s < 5:
            raise UnreachableError("no leader")
        return Look(FREE, {})

    assert World(at).follow("off")["outcome"] == "off"
    with pytest.raises(UnreachableError, match="no leader"):
        World(at).follow("off", wait_s=3)


def test_something_else_is_not_followed() -> None:
    with pytest.raises(InputError, match="running or off, not 'away'"):
        World(lambda now_s: Look(LEASE, {})).follow("away")
