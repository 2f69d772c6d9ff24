"""How many of Consul's servers vote, and how many of them may fail before the quorum is lost.

A server that joins anew, as after its data were lost, does not vote at first: autopilot makes it a voter when it has
been healthy for its stabilisation time (:data:`mnha.consul.server_config.AUTOPILOT`, 5 s). Until then the quorum rests
on the others, and two that are wiped one soon after the other leave one voter, whose loss is that of the quorum though
two servers are up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import MnhaError, RefusedError

if TYPE_CHECKING:  # it is slow to import, and a status needs nothing of it
    from .http import Server

HEALTH = "/v1/operator/autopilot/health"
POLL_S = 0.5

Row = Mapping[str, Any]


def health(consul: Server) -> dict[str, Any]:
    """Autopilot's view, which the leader has: is every server healthy, how many may fail, and each server's row."""
    # 429 is this call's way to say "not all are healthy"; the body is as good as with 200.
    answer = consul.http.call(lambda reply: json.loads(reply.body), "GET", HEALTH, also=(429,))
    servers = [
        {
            "node": server["Name"],
            "address": server["Address"],
            "alive": server["SerfStatus"] == "alive",
            "leader": server["Leader"],
            "voter": server["Voter"],
            "healthy": server["Healthy"],
            "version": server["Version"],
        }
        for server in sorted(answer["Servers"] or [], key=lambda server: server["Name"])
    ]
    return {"healthy": answer["Healthy"], "may_fail": answer["FailureTolerance"], "servers": servers}


@dataclass(frozen=True)
class Margin:
    """How far Consul is from the loss of its quorum.

    :param servers: how many there should be: one on each node.
    :param voters: the names of those that vote; `well`: those of them that are healthy.
    """

    servers: int
    voters: tuple[str, ...]
    well: tuple[str, ...]

    @classmethod
    def of(cls, rows: Sequence[Row], servers: int) -> Margin:
        """By autopilot's rows, as :func:`health` has them."""
        voters = [row for row in rows if row["voter"]]
        return cls(
            servers, tuple(row["node"] for row in voters), tuple(row["node"] for row in voters if row["healthy"])
        )

    @property
    def may_fail(self) -> int:
        """How many voters more may fail now; negative: there is no quorum."""
        return len(self.well) - (len(self.voters) // 2 + 1)

    @property
    def should(self) -> int:
        """How many may fail when all is well."""
        return (self.servers - 1) // 2

    @property
    def is_full(self) -> bool:
        """Whether every server votes and is healthy."""
        return len(self.well) >= self.servers

    def to_dict(self) -> dict[str, Any]:
        """For a status."""
        return {"servers": self.servers, "voters": list(self.voters), "well": list(self.well),
                "may_fail": self.may_fail, "should": self.should}  # fmt: skip


def obstacle(rows: Sequence[Row], node: str) -> str:
    """Why the server of `node` had better not join with empty data now; empty if it may.

    Its former self is taken out of the voters when it comes, so all others that are alive have to vote.
    """
    others = [row for row in rows if row["node"] != node and row["alive"]]
    lame = [row["node"] for row in others if not (row["voter"] and row["healthy"])]
    return f"{', '.join(lame)} of Consul's servers do not vote yet, or are not healthy" if lame else ""


def lack(rows: Sequence[Row], node: str) -> str:
    """Why the server of `node` does not count for the quorum; empty if it does."""
    own = next((row for row in rows if row["node"] == node), None)
    if own is None:
        return f"the leader does not know the server of {node} yet"
    if not own["healthy"]:
        return f"the server of {node} is not healthy yet"
    return "" if own["voter"] else f"the server of {node} does not vote yet"


def wait_until(
    why_not: Callable[[], str],
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until nothing speaks against it any more.

    :param why_not: what does; what it raises does too.
    :raises RefusedError: something still does after `wait_s`.
    """
    end_s = clock() + wait_s
    while True:
        try:
            why = why_not()
        except MnhaError as error:
            why = error.message
        if not why:
            return
        if clock() > end_s:
            raise RefusedError(f"{why} (waited for {wait_s:g} s); see `salt-run mnha.status`")
        sleep(POLL_S)
