"""How long a change of a host's network takes, all checks included, and how long a neighbour is not reached meanwhile:
on a kernel of its own, with LACP (`tests/kernel`).
"""

from __future__ import annotations

from lab.settings import LabError
from lab.shell import say
from tests.bench.stats import Measure
from tests.kernel.host_machine import CABLES, NETWORKS, install, run_program

NAME = "network"
LIMIT_S = 500.0
CHANGES = 5
TITLES = {"changed": "a bond's option changed, verified", "gap": "of which the neighbour was out of reach"}


def run() -> dict[str, tuple[float, ...]]:
    """The figures of some changes, in seconds.

    :raises LabError: the machine ended otherwise.
    """
    end = run_program(f"-m tests.kernel.change_network {CHANGES}", [install(NETWORKS), CABLES], LIMIT_S)
    words = [line.split() for line in end.said.splitlines()]
    found = {key: tuple(float(line[1]) for line in words if line[:1] == [key] and len(line) == 2) for key in TITLES}
    if end.status != 0 or not all(len(values) == CHANGES for values in found.values()):
        raise LabError(f"the machine ended with {end.status}: {end.said[-2000:]}")
    say(f"{NAME}: {found}")
    return found


def measures(found: dict[str, tuple[float, ...]]) -> list[Measure]:
    """The changes as figures."""
    return [Measure(NAME, TITLES[key], "s", values) for key, values in found.items()]
