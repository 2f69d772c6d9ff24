"""The world as a state machine of hypothesis: faults, orders and time in any order, and short counter-examples.

The sweep is broad and long, and what it finds has hundreds of events; here hypothesis draws short plays, and shortens
one that fails to the fewest steps and the smallest numbers. The falsifying example that it prints is a script: its
lines, pasted into a test, play the same again.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mnha.core.guard import Limits
from mnha.core.model import Op, Run
from mnha.core.timing import PROFILES

from .engine import us
from .faults import KINDS, Fault, strike
from .host import WatchdogKind
from .world import HALF_SKEW_PPM, Config, ViolationError, World, names_of

WATCHDOGS = (WatchdogKind(), WatchdogKind(required=False), WatchdogKind(required=False, device=False))
CLOCKS = (0, -HALF_SKEW_PPM, HALF_SKEW_PPM)
NETWORK = ("cut", "cut up", "cut down", "slow up", "slow down", "loss", "lag", "still", "no leader")
ELSEWHERE = tuple(sorted(set(KINDS) - {*NETWORK, "desired", "takeover", "release", "reset"}))
NODES = st.integers(0, 4)
SIZES = st.sampled_from((0.0, 0.25, 0.5, 0.75, 0.99))
LONG_S = st.sampled_from((10.0, 30.0, 3.0, 15.0))
SHORT_S = st.sampled_from((9.0, 5.0, 2.5, 20.0, 1.0, 0.3))


class WorldMachine(RuleBasedStateMachine):
    """A world, and what may be done to it. Its invariants are the world's own."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None
        self.broken = False

    @initialize(
        seed=st.integers(0, 1000),
        nodes=st.sampled_from((3, 5)),
        profile=st.sampled_from(("default", "fast")),
        watchdog=st.sampled_from(WATCHDOGS),
        clocks=st.lists(st.sampled_from(CLOCKS), min_size=5, max_size=5),
        masters=st.integers(0, 2),
        lock_s=st.sampled_from((0.0, 10.0)),
        sloppy=st.sampled_from((0.0, 0.3)),
    )
    def begin(
        self, seed: int, nodes: int, profile: str, watchdog: WatchdogKind, clocks: list[int], **more: Any
    ) -> None:
        """A world begins. With no master the guards take over of their own accord."""
        masters = more["masters"]
        limits = Limits(shutdown_s=20.0, storage_s=10.0, masterless_s=20.0 if masters else 2.0)
        config = Config(
            timings=PROFILES[profile],
            kinds=(watchdog,) * nodes,
            ppm=tuple(clocks[:nodes]),
            limits=dataclasses.replace(limits, ranking=tuple(names_of(nodes))),
            masters=masters,
            masters_stay_dead=masters == 0,
            lock_s=more["lock_s"],
            sloppy=more["sloppy"],
        )
        self.world = World(seed, config)
        self.world.consul.set_desired(Run.STARTED)
        self._do(self.world.run_for, 16.0)

    def _do(self, function: Any, *args: Any) -> Any:
        """Call it; after a violation nothing more is done."""
        try:
            return function(*args)
        except ViolationError as error:
            self.broken = True
            raise AssertionError(f"{error}\n{self.world.tail() if self.world else ''}") from error

    @property
    def _world(self) -> World:
        """The world, which has begun."""
        assert self.world is not None
        return self.world

    def _strike(self, kind: str, where: int, size: float, for_s: float) -> None:
        """Something breaks: on the holder for 0, on who is to take over for 1, on a node otherwise."""
        self._do(strike, self._world, Fault(self._world.engine.now, kind, where, size, us(for_s)))

    @rule(kind=st.sampled_from(NETWORK), where=NODES, size=SIZES, for_s=LONG_S)
    def network(self, kind: str, where: int, size: float, for_s: float) -> None:
        """A node's way to Consul, or Consul, is disturbed."""
        self._strike(kind, where, size, for_s)

    @rule(kind=st.sampled_from(ELSEWHERE), where=NODES, size=SIZES, for_s=LONG_S)
    def fault(self, kind: str, where: int, size: float, for_s: float) -> None:
        """Something else breaks."""
        self._strike(kind, where, size, for_s)

    @rule(seconds=SHORT_S)
    def time_passes(self, seconds: float) -> None:
        """Time passes."""
        self._do(self._world.run_for, seconds)

    @rule(where=NODES, op=st.sampled_from(list(Op)), epoch=st.sampled_from((None, 0, 1)))
    def order(self, where: int, op: Op, epoch: int | None) -> None:
        """Somebody orders something, rightly or wrongly."""
        hosts = self._world.hosts
        self._do(self._world.order, hosts[where % len(hosts)], op, epoch)

    @rule(wish=st.sampled_from((Run.STARTED, Run.STOPPED)))
    def wish(self, wish: Run) -> None:
        """The operator wants something else."""
        self._do(self._world.consul.set_desired, wish)

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        """What holds at every moment: watchdogs are armed, and no VM is alive beyond its moment."""
        if self.world is not None and not self.broken:
            self._do(self.world.check)

    def teardown(self) -> None:
        """At last everything works again, and all must be well in time."""
        if self.world is not None and not self.broken:
            self._do(self.world.heal, Run.STARTED)
            self._do(self.world.settle)


def profile(examples: int, shrink: bool = True) -> settings:
    """The same examples each time: a failure in CI is one anywhere."""
    phases = (Phase.explicit, Phase.generate, *((Phase.shrink,) if shrink else ()))
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        derandomize=True,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


def run(examples: int, shrink: bool = True) -> None:
    """Let hypothesis look for a play that breaks an invariant.

    :raises AssertionError: it has found one; its steps are printed, and noted in the exception.
    """
    run_state_machine_as_test(WorldMachine, settings=profile(examples, shrink))
