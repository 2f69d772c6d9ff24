"""How long an operator waits for `salt-run mnha.status`."""

from __future__ import annotations

import time
from collections.abc import Iterator

from lab.pillar import CLUSTER_NAME
from lab.settings import LabError
from lab.witness import Witness
from tests.bench.bed import Bed, Round, repeat
from tests.bench.stats import Measure, Target

NAME = "status"
LIMIT_S = 2.0
TIMEOUT_S = 60.0
KNOWN_S = 10.0
"""So long after a power cut Consul has noticed it, with a leader's election before it in the worst case."""
STATUS = ("salt-run", "mnha.status", f"cluster={CLUSTER_NAME}")
NOTHING = ("salt-run", "test.arg")
ALL_UP, JUST_LOST, ONE_DEAD, START_UP = "all_up", "just_lost", "one_dead", "start_up"
TITLES = {
    ALL_UP: "mnha.status, all nodes up",
    JUST_LOST: "mnha.status, at a node's power cut",
    ONE_DEAD: f"mnha.status, {KNOWN_S:g} s after it",
    START_UP: "of which salt-run's own start-up (test.arg)",
}


def rounds(bed: Bed, count: int) -> Iterator[Round]:
    """Ask on the holder with all nodes up, at the moment at which one of the candidates loses its power, and when that
    is known; `count` times."""
    return repeat(bed, NAME, count, _measure)


def _measure(bed: Bed, witness: Witness, this: Round) -> None:
    """One round; the candidates lose their power in turn, one of them often leads Consul."""
    holder = this.facts["holder"]
    candidates = [name for name in bed.cluster.names if name != holder]
    lost = candidates[this.number % len(candidates)]
    this.facts |= {"asked_on": holder, "dead": lost, "dead_was_leader": lost == this.facts["consul_leader"]}
    _ask(bed, this, START_UP, holder, NOTHING)
    _ask(bed, this, ALL_UP, holder, STATUS)
    bed.cluster.poweroff(lost)
    _ask(bed, this, JUST_LOST, holder, STATUS)
    time.sleep(KNOWN_S)
    _ask(bed, this, ONE_DEAD, holder, STATUS)


def _ask(bed: Bed, this: Round, moment: str, node: str, words: tuple[str, ...]) -> None:
    """Note the wall time of a command, entering the node (some ms) included."""
    begin_s = time.monotonic()
    try:
        done = bed.cluster.run(node, words, timeout_s=TIMEOUT_S)
    except LabError as error:
        this.fault = str(error)
        return
    seconds = time.monotonic() - begin_s
    if moment == START_UP or CLUSTER_NAME in done.stdout:
        this.moments[moment] = seconds
        this.facts[f"{moment}_code"] = done.returncode
    else:
        this.fault = f"`{' '.join(words)}` ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"


def measures(found: list[Round], name: str = NAME) -> list[Measure]:
    """The rounds as figures."""
    target = (Target("max", LIMIT_S),)
    return [
        Measure(name, title, "s", values, () if key == START_UP else target, len(found) - len(values))
        for key, title in TITLES.items()
        for values in [tuple(this.moments[key] for this in found if key in this.moments)]
    ]
