"""Reads and plays a scenario: what is done to a world, as sentences with their times, and what must come of it.

A scenario is a folder named as a sentence, with a ``scenario.yaml``::

    what: Why it must be so, for people.
    world: {lock_s: 30.0}                    what differs from three nodes with the default timings (see WORLD)
    timeline:                                seconds since the VM runs on n1: one sentence of DEEDS, or a list of them
      0.0: n1 loses its power
      5.1: n2 is ordered to take over
      11.0: the end
    told: [n1 power lost, n2 taken, n2 qemu, n2 started]        exactly these events, in this order
    times: {n2 taken: 7.0 to 8.1}

The masters are silent until ``the masters react``. A capital letter in an event stands for any node but n1 that is not
named, the same throughout. ``arrange`` is a timeline before the timeline, whose events are not told. It is played with
several seeds, each with delays of its own; the invariants of the world hold in all of them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from mnha.core import lease as rules
from mnha.core.guard import Limits
from mnha.core.model import Lease, Op, Pause, Run
from mnha.core.timing import PROFILES

from .engine import SECOND, us
from .fencer import FencerProcess
from .host import Host, WatchdogKind
from .world import HALF_SKEW_PPM, Config, ViolationError, World, names_of

FOLDER = Path(__file__).with_name("scenarios")
SEEDS = range(1, 6)
FOREVER_US = us(1_000_000)

TOLD = (
    "taken", "started", "killed", "died", "released", "start failed", "reset", "power lost", "power back",
    "guard killed", "guard replaced", "guard ends", "fencer killed", "qemu", "qemu gone",
    "arriving", "switched over", "migration ended", "migration failed", "paused", "resumed",
)  # fmt: skip
"""The events that are told; logs, answers and orders are not."""

WATCHDOGS = {
    "required": WatchdogKind(),
    "automatic": WatchdogKind(required=False),
    "none": WatchdogKind(required=False, device=False),
}


class ScenarioError(Exception):
    """A scenario can't be read."""


class UnmetError(AssertionError):
    """What must be so is not so."""


class Stage:
    """A world, the time since the timeline began, and what was told since."""

    def __init__(self, config: Config, seed: int) -> None:
        self.world = World(seed, config)
        self.kept: tuple[Lease | None, int, float] = (None, 0, 0.0)
        for master in self.world.masters:
            master.dead_until_us = FOREVER_US
        self.begin()

    def begin(self) -> None:
        """From here on times count, and events are told."""
        self.begun_us, self._from = self.world.engine.now, len(self.world.events)

    def run_until(self, at_s: float) -> None:
        """Let time pass."""
        self.world.engine.run_until(self.begun_us + us(at_s))
        self.world.check()

    def happen(self, function: Callable[..., None], *words: str) -> None:
        """Do something, as one of the world's events."""
        self.world.engine.after(0, function, self, *words)
        self.world.engine.run_until(self.world.engine.now)

    def until_us(self, seconds: str) -> int:
        """So many seconds from now, on the engine's clock."""
        return self.world.engine.now + us(float(seconds))

    def host(self, name: str) -> Host:
        """The node of that name."""
        return next(host for host in self.world.hosts if host.name == name)

    def events(self, *kinds: str) -> list[tuple[float, str]]:
        """What was told, as (seconds, ``node event``)."""
        told = self.world.events[self._from :]
        return [((at - self.begun_us) / SECOND, f"{name} {kind}") for at, kind, name, _ in told if kind in kinds]

    def answers(self, name: str) -> list[str]:
        """The answers to a node's orders."""
        events = self.world.events[self._from :]
        return [text for _, kind, host, text in events if (kind, host) == ("answer", name)]

    def runs_on(self) -> list[str]:
        """Where the VM runs."""
        return [host.name for host in self.world.hosts if host.hypervisor.runs]


# ---- what can be done

DEEDS: list[tuple[re.Pattern[str], Callable[..., None]]] = []
"""Sentences and what they do."""


def deed(sentence: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Put a sentence into the table: NODE and NUMBER are its parameters, other words are given by (a|b)."""
    pattern = sentence.replace("NODE", r"(n\d)").replace("NUMBER", r"([\d.]+)")

    def register(function: Callable[..., None]) -> Callable[..., None]:
        DEEDS.append((re.compile(pattern), function))
        return function

    return register


def find_deed(sentence: str) -> tuple[Callable[..., None], tuple[str, ...]]:
    """The function of a sentence, and its words.

    :raises ScenarioError: there is no such sentence.
    """
    for pattern, function in DEEDS:
        if found := pattern.fullmatch(sentence):
            return function, found.groups()
    raise ScenarioError(f"nobody knows how to do: {sentence}")


@deed("the end")
def _end(stage: Stage) -> None:
    pass


@deed("NODE loses its power")
def _power(stage: Stage, node: str) -> None:
    stage.host(node).lose_power()


@deed("NODE loses its power, its lock stays for NUMBER s")
def _power_locked(stage: Stage, node: str, seconds: str) -> None:
    stage.host(node).lose_power(us(float(seconds)))


@deed("NODE has power again")
def _power_back(stage: Stage, node: str) -> None:
    stage.host(node).boot_up()


@deed("NODE freezes for NUMBER s")
def _freeze(stage: Stage, node: str, seconds: str) -> None:
    stage.host(node).freeze(us(float(seconds)))


@deed("(the requests of|the answers to|all messages of) NODE are lost")
def _cut(stage: Stage, which: str, node: str) -> None:
    link = stage.host(node).link
    link.cut_up = link.cut_up or which != "the answers to"
    link.cut_down = link.cut_down or which != "the requests of"


@deed("NODE takes NUMBER s to reach Consul, and NUMBER s back")
def _slow(stage: Stage, node: str, up: str, down: str) -> None:
    link = stage.host(node).link
    link.steady, link.slow_up_s, link.slow_down_s = True, float(up), float(down)


@deed("the agent of NODE stands still")
def _still(stage: Stage, node: str) -> None:
    stage.host(node).link.still = True


@deed("the agent of NODE lags behind by NUMBER s")
def _lag(stage: Stage, node: str, seconds: str) -> None:
    stage.host(node).link.lag_s = float(seconds)


@deed("the network of NODE is well")
def _heal(stage: Stage, node: str) -> None:
    host = stage.host(node)
    host.link = type(host.link)()
    stage.world.consul.catch_up(host)


@deed("the network of NODE is well, but its agent stands still")
def _heal_still(stage: Stage, node: str) -> None:
    host = stage.host(node)
    host.link = type(host.link)(still=True)


@deed("Consul has no leader for NUMBER s")
def _leaderless(stage: Stage, seconds: str) -> None:
    stage.world.consul.leader_from_us = stage.until_us(seconds)


@deed("Consul has no leader for NUMBER s, every NUMBER s, NUMBER times")
def _leader_changes(stage: Stage, seconds: str, every: str, times: str) -> None:
    for number in range(int(times)):
        stage.world.engine.after(us(number * float(every)), _leaderless, stage, seconds)


@deed("the lease is deleted")
def _delete(stage: Stage) -> None:
    stage.world.consul.delete()


@deed("the lease is created again")
def _create(stage: Stage) -> None:
    stage.world.consul.create(rules.created_again(stage.world.config.timings))


@deed("the record is kept as NODE could read it")
def _keep(stage: Stage, node: str) -> None:
    consul = stage.world.consul
    stage.kept = (consul.lease, consul.index, stage.host(node).now_s())


@deed("the kept record comes as the answer to a read of NODE")
def _late_answer(stage: Stage, node: str) -> None:
    lease, index, asked_s = stage.kept
    process = stage.host(node).process
    if process is None:
        raise ScenarioError(f"{node} has no guard to answer to")
    process.post_lease(lease, index, asked_s=asked_s)


@deed("Consul is restored to the kept record, with NODE as holder")
def _restore(stage: Stage, node: str) -> None:
    lease, index, _ = stage.kept
    if lease is None:
        raise ScenarioError("no record was kept")
    stage.world.consul.restore(dataclasses.replace(lease, holder=node), index)


@deed("somebody writes NODE into the lease as its holder")
def _forge(stage: Stage, node: str) -> None:
    consul = stage.world.consul
    if consul.lease is None:
        raise ScenarioError("there is no lease")
    consul.write_by_hand(dataclasses.replace(consul.lease, holder=node))


@deed("the VM is (wanted|not wanted)")
def _wish(stage: Stage, wish: str) -> None:
    stage.world.consul.set_desired(Run.STARTED if wish == "wanted" else Run.STOPPED)


@deed("the masters react")
def _masters(stage: Stage) -> None:
    for master in stage.world.masters:
        master.dead_until_us = 0


@deed("NODE is ordered to (take over|release|reset)")
def _order(stage: Stage, node: str, what: str) -> None:
    stage.world.order(stage.host(node), {"take over": Op.TAKEOVER, "release": Op.RELEASE, "reset": Op.RESET}[what])


@deed("NODE is ordered to reset, after NUMBER s in which the guest may shut down")
def _order_gentle(stage: Stage, node: str, seconds: str) -> None:
    stage.world.order(stage.host(node), Op.RESET, wait_s=60.0, gentle_s=float(seconds))


@deed("NODE is ordered to migrate to NODE")
def _migrate(stage: Stage, node: str, target: str) -> None:
    stage.world.order(stage.host(node), Op.MIGRATE, target=target)


@deed("the guard of NODE is (killed|ended)")
def _guard_dies(stage: Stage, node: str, how: str) -> None:
    process = stage.host(node).process
    if process is None:
        raise ScenarioError(f"{node} has no guard")
    process.crash() if how == "killed" else process.end()


@deed("the fencer of NODE is killed")
def _fencer_dies(stage: Stage, node: str) -> None:
    _fencer(stage, node).crash()


@deed("the fencer of NODE is killed, and forgets")
def _fencer_dies_and_forgets(stage: Stage, node: str) -> None:
    _fencer(stage, node).crash()
    stage.host(node).remembered = {}


@deed("the fencer of NODE stands still for NUMBER s")
def _fencer_stalls(stage: Stage, node: str, seconds: str) -> None:
    _fencer(stage, node).stall(us(float(seconds)))


def _fencer(stage: Stage, node: str) -> FencerProcess:
    """The fencer of a node.

    :raises ScenarioError: it has none.
    """
    fencer = stage.host(node).fencer
    if fencer is None:
        raise ScenarioError(f"{node} has no fencer")
    return fencer


@deed("the guard of NODE stands still for NUMBER s")
def _stall(stage: Stage, node: str, seconds: str) -> None:
    process = stage.host(node).process
    if process is None:
        raise ScenarioError(f"{node} has no guard")
    process.stall(us(float(seconds)))


@deed("the guard of NODE stands still for NUMBER s in its next call")
def _trap(stage: Stage, node: str, seconds: str) -> None:
    process = stage.host(node).process
    if process is None:
        raise ScenarioError(f"{node} has no guard")
    process.trap(1, us(float(seconds)))


@deed("the guard of NODE replaces itself in NUMBER s")
def _replace(stage: Stage, node: str, seconds: str) -> None:
    process = stage.host(node).process
    if process is None:
        raise ScenarioError(f"{node} has no guard")
    process.replace(us(float(seconds)))


@deed("the guard of NODE replaces itself in NUMBER s, with the (default|fast) timings")
def _replace_with(stage: Stage, node: str, seconds: str, profile: str) -> None:
    stage.host(node).timings = PROFILES[profile]
    _replace(stage, node, seconds)


@deed("libvirtd of NODE hangs for NUMBER s")
def _libvirt(stage: Stage, node: str, seconds: str) -> None:
    stage.host(node).hypervisor.hung_until_us = stage.until_us(seconds)


@deed("libvirtd of NODE is well")
def _libvirt_well(stage: Stage, node: str) -> None:
    stage.host(node).hypervisor.hung_until_us = 0
    stage.host(node).hypervisor.go_on()


@deed("QEMU on NODE can't be killed for NUMBER s")
def _stuck(stage: Stage, node: str, seconds: str) -> None:
    stage.host(node).hypervisor.stuck_until_us = stage.until_us(seconds)


@deed("every start on NODE fails")
def _starts_fail(stage: Stage, node: str) -> None:
    stage.host(node).hypervisor.fail_starts = 1.0


@deed("no migration succeeds")
def _no_migration(stage: Stage) -> None:
    for host in stage.world.hosts:
        host.hypervisor.refuses_migrations = True


@deed("the disk of the VM fails on NODE for NUMBER s")
def _disk_fails(stage: Stage, node: str, seconds: str) -> None:
    vm = stage.host(node).hypervisor
    vm.disk_fails_until_us = stage.until_us(seconds)
    vm.guest_pauses(Pause.IO_ERROR)


@deed("the disk of the VM is full for NUMBER s")
def _disk_full(stage: Stage, seconds: str) -> None:
    stage.world.full_until_us = stage.until_us(seconds)
    for host in stage.world.hosts:
        host.hypervisor.guest_pauses(Pause.NO_SPACE)
    stage.world.probe_all()
    stage.world.engine.after(us(float(seconds)), stage.world.probe_all)


@deed("the guest is (suspended|resumed) by somebody on NODE")
def _suspended(stage: Stage, what: str, node: str) -> None:
    vm = stage.host(node).hypervisor
    vm.guest_pauses(Pause.OPERATOR) if what == "suspended" else vm.guest_goes_on()


@deed("the guest (powers itself off|crashes|is deaf) on NODE")
def _guest(stage: Stage, what: str, node: str) -> None:
    vm = stage.host(node).hypervisor
    if what == "is deaf":
        vm.deaf = True
    else:
        vm.guest_ends(crashed=what == "crashes")


@deed("the storage of NODE (hangs|is well)")
def _storage(stage: Stage, node: str, how: str) -> None:
    host = stage.host(node)
    host.lose_storage() if how == "hangs" else host.regain_storage()


@deed("NODE (loses|regains) its management network")
def _management(stage: Stage, node: str, how: str) -> None:
    host = stage.host(node)
    host.lose_management() if how == "loses" else host.regain_management()


@deed("the guard of NODE sees no record of any node")
def _blind(stage: Stage, node: str) -> None:
    stage.world.records.blind_until_us[node] = FOREVER_US


@deed("every guard believes that no other node is any good")
def _deluded(stage: Stage) -> None:
    stage.world.records.deluded_until_us = dict.fromkeys(names_of(len(stage.world.hosts)), FOREVER_US)


@deed("NODE can not run the VM")
def _unable(stage: Stage, node: str) -> None:
    host = stage.host(node)
    host.unable = "no bridge"
    if host.process is not None:
        host.process.probe()


@deed("the watchdog of NODE refuses to be armed for NUMBER s")
def _watchdog_refuses(stage: Stage, node: str, seconds: str) -> None:
    stage.host(node).watchdog.refuses_until_us = stage.until_us(seconds)


# ---- what a scenario says


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A scenario as it stands in its file."""

    name: str
    what: str
    config: Config
    running: bool
    arrange: list[tuple[float, str]]
    timeline: list[tuple[float, str]]
    expected: dict[str, Any]

    def play(self, seed: int) -> Stage:
        """Play it, and compare what came of it with what must.

        :raises UnmetError: it is not so.
        :raises ViolationError: an invariant of the world is broken.
        """
        stage = Stage(self.config, seed)
        stage.run_until(12.0)
        if self.running:
            stage.world.consul.set_desired(Run.STARTED)
            stage.run_until(13.0)
            stage.world.order(stage.host("n1"), Op.TAKEOVER)
            stage.run_until(16.0)
            if stage.runs_on() != ["n1"]:
                raise UnmetError(f"the VM could not be started on n1\n{stage.world.tail()}")
        for timeline in (self.arrange, self.timeline):
            stage.begin()
            for at_s, sentence in timeline:
                stage.run_until(at_s)
                function, words = find_deed(sentence)
                stage.happen(function, *words)
        return stage

    def check(self, seed: int) -> None:
        """Play it with a seed, and compare.

        :raises UnmetError: with all that is not as it must be, and the end of the trace.
        """
        try:
            stage = self.play(seed)
        except ViolationError as error:
            if re.search(self.expected.get("violation", "(?!)"), str(error)):
                return
            raise
        faults = _unmet(stage, self.expected)
        if faults:
            raise UnmetError("\n".join([f"{self.name}, seed {seed}:", *faults, stage.world.tail()]))


def _unmet(stage: Stage, expected: dict[str, Any]) -> list[str]:
    """What is not as it must be."""
    events = stage.events(*TOLD)
    told, names = _with_letters([line for _, line in events], expected)
    faults = []
    if "told" in expected and told != expected["told"]:
        faults.append(f"told: {told}, not {expected['told']}")
    begun = expected.get("told first", [])
    if told[: len(begun)] != begun:
        faults.append(f"told first: {told[: len(begun)]}, not {begun}")
    faults += [f"told: {line}" for line in expected.get("never told", []) if line in told]
    faults += [f"told {told.count(line)} times: {line}" for line in expected.get("once", []) if told.count(line) != 1]
    running = [names.get(name, name) for name in stage.runs_on()]
    wanted = str(expected.get("running", ""))
    if wanted and wanted != (" and ".join(running) or "nobody") and not (wanted == "one node" and len(running) == 1):
        faults.append(f"the VM runs on {running}, not on {wanted}")
    for line, span in expected.get("times", {}).items():
        low_s, high_s = (float(word) for word in span.split(" to "))
        at_s = next((at for (at, _), name in zip(events, told, strict=True) if _means(line, name)), None)
        if at_s is None or not low_s <= at_s <= high_s:
            faults.append(f"{line} at {at_s} s, not at {span} s")
    real = {letter: name for name, letter in names.items()}
    for name, begins in expected.get("answers", {}).items():
        answers = stage.answers(real.get(name, name))
        if len(answers) != len(begins) or not all(a.startswith(b) for a, b in zip(answers, begins, strict=True)):
            faults.append(f"{name} answered {answers}, not {begins}")
    if "violation" in expected:
        faults.append(f"no violation: {expected['violation']}")
    return faults


def _means(line: str, told: str) -> bool:
    """Whether an event is meant by `line`, which may begin with ``any node``."""
    return told == line or (line.startswith("any node ") and told.partition(" ")[2] == line.removeprefix("any node "))


def _with_letters(told: list[str], expected: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """`told` with letters for the nodes that `expected` does not name, in the order of their first appearance."""
    text = str(expected)
    letters = sorted(set(re.findall(r"\b[A-Z]\b", text)))
    names: dict[str, str] = {}
    for line in told:
        name = line.split()[0]
        if letters and name != "n1" and name not in names and not re.search(rf"\b{name}\b", text):
            names[name] = letters.pop(0)
    return [f"{names.get(line.split()[0], line.split()[0])} {line.partition(' ')[2]}" for line in told], names


# ---- reading

WORLD: dict[str, Callable[[Any], Any]] = {
    "timings": lambda name: PROFILES[name],
    "others": lambda name: PROFILES[name],
    "lock_s": float,
    "masters": int,
    "unheard": float,
    "copy_s": float,
}
"""Keys of ``world`` that are fields of :class:`Config`; the rest is read in :func:`_config`."""

LIMITS = ("start_s", "shutdown_s", "storage_s", "management_s", "masterless_s")
KEYS = ("what", "world", "begins", "arrange", "timeline")
EXPECTATIONS = ("told", "told first", "never told", "once", "running", "times", "answers", "violation")


def _config(data: dict[str, Any]) -> Config:
    """The world of a scenario."""
    data = dict(data)
    nodes = int(data.pop("nodes", 3))
    clocks = {"slow": -HALF_SKEW_PPM, "fast": HALF_SKEW_PPM, "true": 0}
    ppm = tuple(clocks[clock] for clock in data.pop("clocks", ["true"] * nodes))
    kinds = (WATCHDOGS[data.pop("watchdog", "required")],) * nodes
    limits: dict[str, Any] = {name: float(data.pop(name)) for name in LIMITS if name in data}
    limits["ranking"] = tuple(data.pop("ranking", names_of(nodes)))
    fields = {name: WORLD[name](value) for name, value in data.items()}
    return Config(kinds=kinds, ppm=ppm, limits=Limits(**limits), **fields)


def _timeline(data: dict[float, str | list[str]] | None) -> list[tuple[float, str]]:
    """A timeline as (seconds, sentence), in order."""
    steps: list[tuple[float, str]] = []
    for at_s, sentences in (data or {}).items():
        if steps and at_s < steps[-1][0]:
            raise ScenarioError(f"{at_s} s comes after {steps[-1][0]} s")
        steps += [(float(at_s), sentence) for sentence in ([sentences] if isinstance(sentences, str) else sentences)]
    for _, sentence in steps:
        find_deed(sentence)
    return steps


def read(path: Path) -> Scenario:
    """Read ``scenario.yaml``.

    :raises ScenarioError: a key or a sentence is unknown, or nothing is expected.
    """
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    unknown = sorted(set(data) - {*KEYS, *EXPECTATIONS})
    expected = {name: data[name] for name in EXPECTATIONS if name in data}
    begins = data.get("begins", "running")
    try:
        if unknown or not expected or begins not in ("running", "stopped"):
            raise ScenarioError(f"unknown are {unknown}, expected is {expected}, it begins {begins}")
        config = _config(data.get("world", {}))
        arrange, timeline = _timeline(data.get("arrange")), _timeline(data["timeline"])
    except (ScenarioError, KeyError, TypeError, ValueError) as error:
        raise ScenarioError(f"{path}: {error!r}") from error
    return Scenario(path.parent.name, data["what"], config, begins == "running", arrange, timeline, expected)


def every() -> list[Scenario]:
    """All scenarios, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*/scenario.yaml"))]
