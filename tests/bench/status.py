"""How long an operator waits for `salt-run mnha.status`."""

from __future__ import annotations

import time

from lab.provision import CLUSTER_NAME
from lab.settings import LabError
from lab.shell import say
from lab.witness import Witness
from tests.bench.bed import Bed, Round, prove, running_node
from tests.bench.stats import Measure, Target

NAME = "status"
LIMIT_S = 2.0
TIMEOUT_S = 60.0
STATUS = ("salt-run", "mnha.status", f"cluster={CLUSTER_NAME}")
NOTHING = ("salt-run", "test.arg")
ALL_UP, ONE_DEAD, START_UP = "all_up", "one_dead", "start_up"
TITLES = {
    ALL_UP: "mnha.status, all nodes up",
    ONE_DEAD: "mnha.status, one node dead",
    START_UP: "of which salt-run's own start-up (test.arg)",
}


def rounds(bed: Bed, count: int) -> list[Round]:
    """Ask `count` times with all nodes up, and as often from the moment at which a candidate lost its power."""
    bed.prepare()
    found = [Round(number) for number in range(1, count + 1)]
    with Witness(bed.cluster) as witness:
        holder = running_node(witness)
        lost = next(name for name in reversed(bed.cluster.names) if name != holder)
        for this in found:
            this.facts = {"asked_on": holder, "dead": lost}
            _ask(bed, this, START_UP, holder, NOTHING)
            _ask(bed, this, ALL_UP, holder, STATUS)
        bed.cluster.poweroff(lost)
        for this in found:
            _ask(bed, this, ONE_DEAD, holder, STATUS)
            say(f"{NAME} {this.number}/{count}: {this.line()}")
        bed.heal()
        prove(bed.cluster, witness)
    return found


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
    limits = {ALL_UP: (Target("max", LIMIT_S),), ONE_DEAD: (Target("max", LIMIT_S),)}
    return [
        Measure(name, title, "s", values, limits.get(key, ()), len(found) - len(values))
        for key, title in TITLES.items()
        for values in [tuple(this.moments[key] for this in found if key in this.moments)]
    ]
