"""A planned live migration: how long it takes, and how long the guest stands still."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.settings import LabError
from lab.shell import wait_until
from lab.witness import Witness
from tests.bench.bed import Bed, Round, repeat
from tests.bench.stats import Measure, Target
from tests.support.pulse import Pulse

NAME = "migrate"
BEAT_S = 0.2
"""The guest writes five heartbeats a second: so much of the longest time between two is no standstill."""
LIMIT_S = 120.0
BEATS_S = 20.0
WHOLE, TYPED, STANDSTILL, BY_CLOCKS, BY_LIBVIRT = "whole", "typed", "standstill", "by_clocks", "by_libvirt"
TITLES = {
    WHOLE: "order → VM runs at its target",
    TYPED: "salt-run mnha.migrate, from its begin to its end",
    STANDSTILL: "longest time between two heartbeats, less 0.2 s",
    BY_CLOCKS: "standstill, as mnha.migrate tells it",
    BY_LIBVIRT: "downtime, by libvirt",
}
TARGETS = {WHOLE: (Target("median", 3.0),), STANDSTILL: (Target("median", 0.3),)}


def rounds(bed: Bed, count: int) -> Iterator[Round]:
    """Migrate the VM to the best other node, `count` times."""
    return repeat(bed, NAME, count, _measure)


def _measure(bed: Bed, witness: Witness, this: Round) -> None:
    """One round.

    :raises LabError: it failed, or the guest has booted.
    """
    holder = this.facts["holder"]
    with Pulse(bed.cluster.settings.disk_image) as pulse:
        wait_until(lambda: bool(pulse.boots), BEATS_S, "the guest writes")
        began_s = witness.mark("migrate", holder)
        told = typed(bed.cluster, holder, "migrate")
        this.moments[TYPED] = bed.cluster.boottime() - began_s
        end_s = bed.cluster.boottime()
        wait_until(lambda: pulse.last_s > end_s + 2 * BEAT_S, BEATS_S, "the guest goes on")
        if len(pulse.boots) != 1:
            raise LabError(f"the guest has booted\n{witness.table()}")
        this.moments[STANDSTILL] = max(0.0, pulse.longest_gap_s(began_s) - BEAT_S)
    this.facts["new_node"] = told["node"]
    newest = [event for event in typed(bed.cluster, holder, "history")["history"] if event["event"] == "migrated"][-1]
    this.moments |= moments(told, newest)


def typed(cluster: Cluster, node: str, verb: str) -> dict[str, Any]:
    """Type a verb on a node; what it returns.

    :raises LabError: it failed.
    """
    words = ["salt-run", "--out=json", f"mnha.{verb}", f"cluster={CLUSTER_NAME}"]
    done = cluster.run(node, words, timeout_s=LIMIT_S)
    if done.returncode:
        raise LabError(f"`{' '.join(words)}` ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return dict(json.loads(done.stdout)[CLUSTER_NAME])


def moments(told: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, float]:
    """What `mnha.migrate` has told of one, and recorded of it; what it does not know is missing."""
    downtime_ms = (recorded.get("figures") or {}).get("downtime_ms")
    found = {
        WHOLE: told["took_s"],
        BY_CLOCKS: told["downtime_s"],
        BY_LIBVIRT: None if downtime_ms is None else downtime_ms / 1000,
    }
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def measures(found: list[Round], name: str = NAME) -> list[Measure]:
    """The rounds as figures."""
    return [
        Measure(name, title, "s", values, TARGETS.get(key, ()), len(found) - len(values))
        for key, title in TITLES.items()
        for values in [tuple(this.moments[key] for this in found if key in this.moments)]
    ]
