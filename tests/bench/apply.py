"""How long `state.apply` takes on all nodes at once when there is nothing to change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from lab.provision import MASTER
from lab.settings import LabError
from lab.witness import Witness
from tests.bench.bed import Bed, Round, repeat
from tests.bench.stats import Measure, Target

NAME = "apply"
LIMIT_S, TIMEOUT_S = 15.0, 200.0
MOST_ROUNDS = 3
APPLIED = "applied"
WORDS = ("salt", "--timeout=200", "--static", "--out=json", "*", "state.apply")


def rounds(bed: Bed, count: int) -> Iterator[Round]:
    """Apply again and again; the first time, which may change what a fault has left, is not counted."""
    _apply(bed)
    return repeat(bed, NAME, min(count, MOST_ROUNDS), _measure)


def _measure(bed: Bed, witness: Witness, this: Round) -> None:
    """One round."""
    begin_s = time.monotonic()
    try:
        changed = _apply(bed)
    except LabError as error:
        this.fault = str(error)
        return
    this.moments[APPLIED] = time.monotonic() - begin_s
    this.fault = f"{changed} states have failed or changed something" if changed else ""


def _apply(bed: Bed) -> int:
    """Apply; how many states have failed or changed something, on all nodes.

    :raises LabError: a node has not answered.
    """
    done = bed.cluster.run(MASTER, WORDS, timeout_s=TIMEOUT_S)
    try:
        nodes = json.loads(done.stdout)
        states = [state for name in bed.cluster.names for state in nodes[name].values()]
        return sum(state["result"] is not True or bool(state["changes"]) for state in states)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        text = (done.stdout + done.stderr)[-2000:]
        raise LabError(f"`{' '.join(WORDS)}` ended with {done.returncode}: {text}") from error


def measures(found: list[Round], name: str = NAME) -> list[Measure]:
    """The rounds as figures."""
    values = tuple(this.moments[APPLIED] for this in found if APPLIED in this.moments and not this.fault)
    title = "state.apply on three nodes at once, nothing to change"
    return [Measure(name, title, "s", values, (Target("max", LIMIT_S),), len(found) - len(values))]
