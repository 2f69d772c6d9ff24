"""Who leads Consul in the lab, as a test wants it."""

from __future__ import annotations

import time

from lab import consul, health
from tests.support.scene import Scene, eventually

ELECTION_S = 20.0
TRIES = 16
"""With three servers, every other election is won by the one that is wanted; each try takes 4 to 5 s."""


def lead(scene: Scene, *nodes: str) -> None:
    """Have the Consul server of one of `nodes` lead: stop whichever does, until it is so. Consul 1.8 can't be told.

    An election now and then takes so long that the holder loses its VM and starts it again: all is well on return.
    """
    for _ in range(TRIES):
        leader = eventually(lambda: consul.leader(scene.cluster), ELECTION_S, "Consul has a leader")
        if leader in nodes:
            health.wait_healthy(scene.cluster)
            return
        scene.cluster.run(leader, ["systemctl", "stop", "consul"], check=True)
        try:
            eventually(
                lambda leader=leader: consul.leader(scene.cluster, but=leader) not in ("", leader),
                ELECTION_S,
                "another leads",
            )
        finally:
            scene.cluster.run(leader, ["systemctl", "start", "consul"], check=True)
        time.sleep(2)  # the one that was stopped is a follower again, with all there is to know: the next one may win
    raise AssertionError(f"{' or '.join(nodes)} was not elected in {TRIES} elections")
