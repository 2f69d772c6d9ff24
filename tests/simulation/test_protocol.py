"""Every state of the lease's protocol: safe with the inequality, unsafe with one tick less, or with any rule broken."""

from __future__ import annotations

import pytest

from .protocol import BREACHES, ON, Rules, search

TIMINGS = [(1, 1), (2, 1), (1, 2)]
"""D and K in ticks."""


@pytest.mark.parametrize(("deadline", "kill"), TIMINGS)
def test_no_order_of_events_leads_to_two_writers(deadline: int, kill: int) -> None:
    found = search(Rules(deadline + kill, deadline, kill))
    assert found.way == ()
    assert found.states > 50_000


@pytest.mark.parametrize(("deadline", "kill"), TIMINGS)
def test_the_inequality_can_not_be_any_weaker(deadline: int, kill: int) -> None:
    way = search(Rules(deadline + kill - 1, deadline, kill)).way
    assert way[-1].endswith("starts the VM")


@pytest.mark.parametrize("breach", BREACHES)
def test_no_rule_can_be_left_out(breach: str) -> None:
    assert search(Rules(3, 2, 1, breach)).way, BREACHES[breach]


@pytest.mark.parametrize("index", [0, 1])
def test_either_node_may_run_the_vm(index: int) -> None:
    """What is proved is not that nothing ever runs."""
    found = search(Rules(2, 1, 1), bad=lambda state: state.nodes[index].vm == ON)
    assert found.way[-1] == f"node {index + 1} starts the VM"
