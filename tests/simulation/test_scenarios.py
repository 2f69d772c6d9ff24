"""Scenarios, named as sentences: what is done to the world, and the trace of events that must come of it, in full.

A trace is written as ``node event`` lines. Events not listed in `TOLD` (logs, orders) are left out; of those listed
none may be missing, and none may come unexpected.
"""

from __future__ import annotations

import dataclasses

import pytest

from mnha.model import Op, Run, State
from mnha.timing import PROFILES, Timings

from .engine import us
from .host import Host, WatchdogKind
from .world import HALF_SKEW_PPM, Config, ViolationError, World

TOLD = (
    "taken", "started", "killed", "died", "released", "start failed", "reset", "power lost", "power back",
    "guard killed", "guard replaced", "fenced by systemd", "qemu", "qemu gone",
)  # fmt: skip

NO_WATCHDOG = WatchdogKind(required=False, device=False)
DEFAULT = PROFILES["default"]


class Stage:
    """A world with the VM running on n1, and what was told since."""

    def __init__(self, config: Config | None = None, seed: int = 1, others: Timings | None = None) -> None:
        self.world = World(seed, config or Config())
        self.n1, self.n2, self.n3 = self.world.hosts[:3]
        if others:  # not yet started: the observers have another configuration than the holder
            self.n2.timings = self.n3.timings = others
        for master in self.world.masters:
            master.dead_until_us = us(100_000)  # masters order when the scenario says so
        self.run_for(12.0)
        self.world.consul.set_desired(Run.STARTED)
        self.run_for(1.0)
        self.world.order(self.n1, Op.TAKEOVER)
        self.run_for(3.0)
        assert self.n1.hypervisor.runs
        self.begin()

    def begin(self) -> None:
        """Forget what was told."""
        self.begun_us, self._told = self.world.engine.now, len(self.world.events)

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run_for(seconds)
        self.world.check_watchdogs()

    def masters_react(self) -> None:
        """The masters are alive from now on."""
        for master in self.world.masters:
            master.dead_until_us = 0

    def told(self) -> list[str]:
        """What was told, as ``node event``."""
        return [f"{host} {kind}" for _, kind, host, _ in self.world.events[self._told :] if kind in TOLD]

    def when_s(self, host: Host, kind: str) -> float:
        """When the first event of a kind was told, in seconds since :meth:`begin`."""
        for when_us, one, name, _ in self.world.events[self._told :]:
            if (one, name) == (kind, host.name):
                return (when_us - self.begun_us) / 1e6
        raise AssertionError(f"{host.name} never told {kind}:\n{self.world.tail()}")

    def answers(self, host: Host) -> list[str]:
        """The answers to orders."""
        events = self.world.events[self._told :]
        return [text for _, kind, name, text in events if (kind, name) == ("answer", host.name)]


FAILOVER = ["n1 power lost", "n2 taken", "n2 qemu", "n2 started"]


def test_holder_loses_its_power() -> None:
    stage = Stage()
    stage.n1.lose_power()
    stage.run_for(DEFAULT.deadline_s + 0.1)
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.run_for(6.0)
    assert stage.told() == FAILOVER
    assert DEFAULT.lease_s - DEFAULT.renew_s <= stage.when_s(stage.n2, "taken") <= DEFAULT.lease_s + 0.1
    assert stage.when_s(stage.n2, "started") <= DEFAULT.lease_s + 1.2


def test_nobody_takes_over_unless_ordered() -> None:
    stage = Stage()
    stage.n1.lose_power()
    stage.run_for(120.0)
    assert stage.told() == ["n1 power lost"]


def test_holder_loses_consul_but_keeps_its_storage() -> None:
    stage = Stage()
    stage.masters_react()
    stage.n1.link.cut_up = stage.n1.link.cut_down = True
    stage.run_for(20.0)
    other = stage.told()[2].split()[0]
    assert other in ("n2", "n3")
    assert stage.told() == ["n1 killed", "n1 qemu gone", f"{other} taken", f"{other} qemu", f"{other} started"]
    assert DEFAULT.deadline_s - DEFAULT.renew_s <= stage.when_s(stage.n1, "killed") <= DEFAULT.deadline_s + 0.01


def test_a_cut_that_leaves_time_for_one_renewal_costs_nothing() -> None:
    """Every request of the cut is lost without a word, and must not keep the next one from being sent."""
    stage = Stage()
    stage.masters_react()
    stage.n1.link.cut_up = stage.n1.link.cut_down = True
    stage.run_for(DEFAULT.deadline_s - 2 * DEFAULT.renew_s - 0.1)
    stage.n1.link = type(stage.n1.link)()
    stage.run_for(30.0)
    assert stage.told() == []
    assert stage.n1.hypervisor.runs


@pytest.mark.parametrize("direction", ["cut_up", "cut_down"])
def test_a_one_way_cut_fences_the_holder_like_a_full_one(direction: str) -> None:
    stage = Stage()
    stage.masters_react()
    setattr(stage.n1.link, direction, True)
    stage.run_for(25.0)
    assert stage.told()[:2] == ["n1 killed", "n1 qemu gone"]
    assert len([line for line in stage.told() if line.endswith("started")]) == 1


def test_a_reply_lost_after_the_commit_costs_nothing() -> None:
    """The next renewal is refused; the read tells that it was the own one, and the VM lives on."""
    stage = Stage()
    stage.n1.link.cut_down = True
    stage.run_for(1.05)
    assert stage.world.counts["reply lost after the commit"] >= 1
    stage.n1.link.cut_down = False  # and its agent stands still: only a consistent read can tell
    stage.n1.link.still = True
    stage.run_for(20.0)
    assert stage.told() == []
    assert stage.n1.hypervisor.runs


def test_replies_that_take_seconds_move_the_deadline_by_when_they_were_asked_for() -> None:
    stage = Stage()
    stage.masters_react()
    stage.n1.link.steady, stage.n1.link.slow_up_s, stage.n1.link.slow_down_s = True, 0.0, 3.6
    stage.run_for(3.2)
    stage.n1.link.cut_up = True
    stage.run_for(25.0)
    assert stage.told()[:2] == ["n1 killed", "n1 qemu gone"]
    assert stage.when_s(stage.n1, "killed") <= 3.0 + DEFAULT.deadline_s


def test_two_masters_order_two_candidates_and_one_wins() -> None:
    stage = Stage()
    stage.n1.lose_power()
    stage.run_for(6.0)
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.world.order(stage.n3, Op.TAKEOVER)
    stage.run_for(6.0)
    winner, loser = (stage.n2, stage.n3) if stage.n2.hypervisor.runs else (stage.n3, stage.n2)
    assert stage.told() == ["n1 power lost", f"{winner.name} taken", f"{winner.name} qemu", f"{winner.name} started"]
    assert [answer.split(":")[0] for answer in stage.answers(winner)] == ["ok"]
    assert stage.answers(loser) == [f"refused: {winner.name} has the lease by now, epoch 2: ordered"]


def test_a_takeover_from_a_live_holder_is_refused_with_its_name() -> None:
    stage = Stage()
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.run_for(1.0)
    assert stage.told() == []
    [answer] = stage.answers(stage.n2)
    assert answer.startswith("refused: n1 holds the lease, seen renewed")


def test_an_armed_takeover_is_void_when_the_holder_renews_after_all() -> None:
    stage = Stage()
    stage.n1.link.cut_up = True
    stage.run_for(DEFAULT.deadline_s + 0.8)
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.n1.link.cut_up = False
    stage.run_for(6.0)
    assert stage.told() == ["n1 killed", "n1 qemu gone", "n1 qemu", "n1 started"]
    assert stage.answers(stage.n2) == ["refused: n1 has renewed the lease of epoch 1"]


def test_guard_restarts_under_a_running_vm_and_the_vm_is_killed_first() -> None:
    stage = Stage()
    assert stage.n1.process is not None
    stage.n1.process.crash()
    stage.run_for(8.0)
    told = stage.told()
    assert told[:3] == ["n1 guard killed", "n1 fenced by systemd", "n1 qemu gone"]
    assert stage.when_s(stage.n1, "qemu gone") < 0.5


def test_guard_restarts_with_the_vm_still_running_and_kills_it() -> None:
    """ExecStopPost has failed: the guard does not know how long the VM it finds may run."""
    stage = Stage()
    assert stage.n1.process is not None
    stage.n1.systemd_fences = False
    stage.n1.process.crash()
    stage.run_for(7.0)
    told = [line for line in stage.told() if line != "n1 killed"]  # told only if it was seen before it was dead
    assert told == ["n1 guard killed", "n1 qemu gone", "n1 qemu", "n1 started"]


def test_guard_replaces_itself_without_consul_and_keeps_to_the_old_deadline() -> None:
    stage = Stage(Config(kinds=(NO_WATCHDOG,) * 3))
    stage.masters_react()
    assert stage.n1.process is not None
    stage.n1.link.cut_up = True
    stage.run_for(3.7)
    stage.n1.process.replace(us(0.2))
    stage.run_for(15.0)
    # Not "killed": a new guard that has not yet been told of the VM kills it all the same, but has nothing to note.
    assert [text for text in stage.told() if text != "n1 killed"][:3] == [
        "n1 guard replaced",
        "n1 qemu gone",
        "n2 taken",
    ]
    assert stage.when_s(stage.n1, "qemu gone") <= DEFAULT.deadline_s + DEFAULT.kill_s


def test_observer_with_shorter_timings_waits_by_those_of_the_holder() -> None:
    """While a new configuration spreads; the holder's VM does not die until the watchdog resets the node."""
    stage = Stage(Config(lock_s=0.0), others=PROFILES["fast"])
    stage.n1.hypervisor.stuck_until_us = us(1000)
    stage.n1.link.cut_up = True
    stage.run_for(DEFAULT.deadline_s - DEFAULT.renew_s + 0.2)
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.run_for(5.0)
    assert stage.told() == ["n1 killed", "n1 reset", "n1 power lost", "n2 taken", "n2 qemu", "n2 started"]


def test_guard_replaces_itself_under_a_running_vm_and_the_vm_lives_on() -> None:
    stage = Stage()
    assert stage.n1.process is not None
    before = stage.n1.process
    before.replace(us(1.0))
    stage.run_for(20.0)
    assert stage.told() == ["n1 guard replaced"]
    assert stage.n1.process not in (None, before)
    assert stage.n1.hypervisor.runs


def test_guard_replaces_itself_while_its_own_agent_lags_behind_and_the_vm_lives_on() -> None:
    """The first thing that the new guard hears is older than the take-over."""
    stage = Stage()
    stage.n1.lose_power()
    stage.run_for(6.0)
    stage.n2.link.still = True
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.run_for(6.0)
    assert stage.n2.process is not None
    assert stage.n2.hypervisor.runs
    stage.begin()
    stage.n2.process.replace(us(0.2))
    stage.world.consul.leader_from_us = stage.world.engine.now + us(1.5)
    stage.run_for(10.0)
    assert stage.told() == ["n2 guard replaced"]


def test_guard_that_is_replaced_too_slowly_is_reset_by_the_watchdog() -> None:
    stage = Stage()
    assert stage.n1.process is not None
    stage.n1.process.replace(us(60.0))
    stage.run_for(12.0)
    assert stage.told() == ["n1 guard replaced", "n1 reset", "n1 power lost"]
    assert stage.when_s(stage.n1, "reset") <= DEFAULT.reset_s


def test_stopped_guard_is_reset_by_the_watchdog_before_anybody_takes_over() -> None:
    stage = Stage(Config(lock_s=0.0))
    stage.masters_react()
    assert stage.n1.process is not None
    stage.n1.process.stall(us(60.0))
    stage.run_for(12.0)
    other = "n2" if stage.n2.hypervisor.runs else "n3"
    assert stage.told() == ["n1 reset", "n1 power lost", f"{other} taken", f"{other} qemu", f"{other} started"]


def test_qemu_that_can_not_be_killed_is_reset_by_the_watchdog() -> None:
    stage = Stage()
    stage.masters_react()
    stage.n1.hypervisor.stuck_until_us = us(1000)
    stage.n1.link.cut_up = True
    stage.run_for(15.0)
    assert stage.told()[:3] == ["n1 killed", "n1 reset", "n1 power lost"]
    assert stage.when_s(stage.n1, "reset") <= DEFAULT.reset_s


def test_frozen_node_with_a_watchdog_is_reset_before_anybody_takes_over() -> None:
    stage = Stage()
    stage.masters_react()
    stage.n1.freeze(us(60.0))
    stage.run_for(12.0)
    assert stage.told()[:2] == ["n1 reset", "n1 power lost"]


def test_frozen_node_without_a_watchdog_is_the_documented_gap() -> None:
    """A non-guarantee of the guard: the world must be able to show it, or it shows nothing."""
    stage = Stage(Config(kinds=(NO_WATCHDOG,) * 3))
    stage.masters_react()
    stage.n1.freeze(us(60.0))
    with pytest.raises(ViolationError, match="while the VM may be alive on n1"):
        stage.run_for(12.0)


def test_libvirtd_hangs_while_starting_and_wakes_after_the_deadline() -> None:
    """What was ordered before must not come to life when somebody else has the lease."""
    stage = Stage()
    stage.masters_react()
    stage.n2.hypervisor.hung_until_us = stage.world.engine.now + us(25.0)
    stage.n3.hypervisor.hung_until_us = stage.world.engine.now + us(25.0)
    stage.n1.lose_power()
    stage.run_for(10.0)
    starter = next(host for host in (stage.n2, stage.n3) if host.hypervisor.pending)
    other = stage.n3 if starter is stage.n2 else stage.n2
    starter.link.cut_up = True
    other.hypervisor.hung_until_us = 0
    stage.run_for(40.0)
    assert other.hypervisor.runs
    assert f"{starter.name} qemu" not in stage.told()
    assert stage.told().count(f"{other.name} started") == 1


def test_guard_dies_while_libvirtd_hangs_in_its_start() -> None:
    """The next guard voids what its predecessor ordered before it says that nothing is alive."""
    stage = Stage()
    stage.masters_react()
    for host in (stage.n2, stage.n3):
        host.hypervisor.hung_until_us = stage.world.engine.now + us(25.0)
    stage.n1.lose_power()
    stage.run_for(10.0)
    starter = next(host for host in (stage.n2, stage.n3) if host.hypervisor.pending)
    assert starter.process is not None
    starter.process.crash()
    stage.run_for(60.0)
    assert sum(host.hypervisor.runs for host in stage.world.hosts) == 1


@pytest.mark.parametrize("profile", ["default", "fast"])
def test_answers_that_take_two_fifths_of_the_deadline_cost_nothing(profile: str) -> None:
    timings = PROFILES[profile]
    stage = Stage(Config(timings=timings))
    stage.masters_react()
    link = stage.n1.link
    link.slow_down_s = link.slow_up_s = link.lag_s = timings.deadline_s * 0.2
    link.steady = True
    stage.run_for(120.0)
    assert stage.told() == []


def test_late_grant_after_a_release_revives_nothing() -> None:
    """A renewal's grant comes while the lease is being given back, and the operator wants the VM after all."""
    stage = Stage()
    link = stage.n1.link
    link.steady = True
    link.slow_up_s, link.slow_down_s = 0.02, 2.0
    stage.run_for(1.0)  # a renewal is committed by now, and its grant under way
    stage.world.consul.set_desired(Run.STOPPED)
    link.slow_up_s = 2.6
    stage.run_for(0.1)
    stage.n1.hypervisor.guest_ends(crashed=False)
    stage.run_for(1.2)  # the lease is being given back
    stage.world.consul.set_desired(Run.STARTED)
    stage.run_for(10.0)
    assert stage.told() == ["n1 qemu gone", "n1 released"]


def test_late_answer_of_a_read_does_not_kill_what_was_started_since() -> None:
    stage = Stage()
    assert stage.n2.process is not None
    stage.n1.lose_power()
    stage.run_for(5.5)
    process, old = stage.n2.process, (stage.world.consul.lease, stage.world.consul.index)
    asked_s = stage.n2.now_s()
    stage.world.order(stage.n2, Op.TAKEOVER)
    stage.run_for(6.0)
    assert stage.n2.hypervisor.runs
    stage.begin()
    process.post_lease(*old, asked_s=asked_s)
    stage.run_for(5.0)
    assert stage.told() == []
    assert stage.n2.hypervisor.runs


def test_an_index_that_really_fell_is_believed() -> None:
    """Consul was restored from a copy: a read that was asked for after the last sighting says so."""
    stage = Stage()
    stage.masters_react()
    lease, index = stage.world.consul.lease, stage.world.consul.index
    stage.run_for(5.0)
    assert lease is not None
    stage.world.consul.restore(dataclasses.replace(lease, holder="n3"), index)
    stage.run_for(30.0)
    assert stage.told()[:2] == ["n1 killed", "n1 qemu gone"]
    assert sum(host.hypervisor.runs for host in stage.world.hosts) == 1


def test_missing_lease_is_not_free() -> None:
    stage = Stage()
    stage.masters_react()
    stage.world.consul.delete()
    stage.run_for(60.0)
    assert stage.told() == ["n1 killed", "n1 qemu gone"]
    states = {host.process.guard.state for host in stage.world.hosts if host.process}
    assert State.UNCONFIGURED in states


def test_leader_change_shorter_than_the_deadline_costs_nothing() -> None:
    stage = Stage()
    stage.masters_react()
    for _ in range(10):
        stage.world.consul.leader_from_us = stage.world.engine.now + us(2.0)
        stage.run_for(6.0)
    assert stage.told() == []
    assert stage.n1.hypervisor.runs


def test_guest_that_powers_itself_off_starts_again_in_place() -> None:
    stage = Stage()
    stage.masters_react()
    stage.n1.hypervisor.guest_ends(crashed=False)
    stage.run_for(5.0)
    assert stage.told() == ["n1 qemu gone", "n1 qemu", "n1 started"]


def test_deaf_guest_is_killed_after_its_time_and_the_lease_given_back() -> None:
    stage = Stage()
    stage.n1.hypervisor.deaf = True
    stage.world.consul.set_desired(Run.STOPPED)
    stage.run_for(stage.world.config.limits.shutdown_s + 2.0)
    assert stage.told() == ["n1 killed", "n1 qemu gone", "n1 released"]
    assert stage.when_s(stage.n1, "killed") == pytest.approx(60.0, abs=0.1)


def test_image_locked_by_a_dead_client_is_never_forced() -> None:
    stage = Stage(Config(lock_s=30.0))
    stage.masters_react()
    stage.n1.lose_power(locked_us=us(30.0))
    stage.run_for(75.0)
    told = stage.told()
    assert "n2 start failed" in told or "n3 start failed" in told
    assert sum(host.hypervisor.runs for host in stage.world.hosts) == 1
    runner = next(host for host in stage.world.hosts if host.hypervisor.runs)
    assert stage.when_s(runner, "qemu") >= 30.0


def test_clocks_at_both_ends_of_the_skew_and_timings_at_the_edge() -> None:
    """The holder's clock is the slowest allowed, the observers' the fastest: the tightest the inequality allows."""
    stage = Stage(Config(ppm=(-HALF_SKEW_PPM, HALF_SKEW_PPM, HALF_SKEW_PPM), lock_s=0.0))
    stage.masters_react()
    stage.n1.hypervisor.stuck_until_us = us(1000)
    stage.n1.link.cut_up = True
    stage.run_for(15.0)
    assert stage.when_s(stage.n1, "reset") < min(
        stage.when_s(host, "taken") for host in (stage.n2, stage.n3) if host.hypervisor.runs
    )
