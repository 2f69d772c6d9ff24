"""The margin to the quorum, by autopilot's rows."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.consul import voters
from mnha.consul.voters import Margin
from mnha.errors import RefusedError, UnreachableError


def rows(*words: str) -> list[dict[str, Any]]:
    """Each `voter`, `lame` (it does not vote), `ill`, or `dead`."""
    return [
        {
            "node": f"node{number}",
            "voter": word != "lame",
            "healthy": word in ("voter", "lame"),
            "alive": word != "dead",
        }
        for number, word in enumerate(words, 1)
    ]


@pytest.mark.parametrize(
    ("words", "servers", "may_fail", "should"),
    [
        (("voter",) * 3, 3, 1, 1),
        (("voter",) * 5, 5, 2, 2),
        (("voter", "voter", "ill"), 3, 0, 1),
        (("voter", "voter", "lame"), 3, 0, 1),
        (("voter", "lame", "lame"), 3, 0, 1),
        (("voter", "voter", "voter", "lame", "lame"), 5, 1, 2),
        (("voter", "dead", "dead"), 3, -1, 1),
        (("voter", "voter"), 2, 0, 0),
        (("voter",), 1, 0, 0),
    ],
)
def test_the_margin(words: tuple[str, ...], servers: int, may_fail: int, should: int) -> None:
    margin = Margin.of(rows(*words), servers)
    assert (margin.may_fail, margin.should) == (may_fail, should)
    assert margin.is_full == (set(words) == {"voter"})


def test_a_server_counts_when_it_votes_and_is_healthy() -> None:
    assert voters.lack(rows("voter", "voter", "voter"), "node3") == ""
    assert voters.lack(rows("voter", "voter", "lame"), "node3") == "the server of node3 does not vote yet"
    assert voters.lack(rows("voter", "voter", "ill"), "node3") == "the server of node3 is not healthy yet"
    assert voters.lack(rows("voter", "voter"), "node3") == "the leader does not know the server of node3 yet"


def test_a_server_without_data_joins_when_all_others_that_are_alive_vote() -> None:
    assert voters.obstacle(rows("voter", "voter", "dead"), "node3") == ""
    assert voters.obstacle(rows("voter", "dead", "dead"), "node3") == ""
    assert voters.obstacle(rows("voter", "lame", "dead"), "node3").startswith("node2 of Consul's servers do not vote")


def test_what_is_waited_for_is_told_when_it_does_not_come() -> None:
    now_s, asked = [0.0], [UnreachableError("no leader"), "it does not vote yet", ""]

    def why_not() -> str:
        one = asked[0] if len(asked) == 1 else asked.pop(0)
        if isinstance(one, Exception):
            raise one
        return str(one)

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    voters.wait_until(why_not, 10, lambda: now_s[0], sleep)
    assert now_s[0] == 1.0
    asked[:] = ["it does not vote yet"]
    with pytest.raises(RefusedError, match="it does not vote yet .waited for 10 s."):
        voters.wait_until(why_not, 10, lambda: now_s[0], sleep)
