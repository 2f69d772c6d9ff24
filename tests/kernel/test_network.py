"""The hosts' networks on a real kernel: bonds with LACP, bridges, and changes that are taken back."""

from __future__ import annotations

import pytest

from lab.uml import End

from .host_machine import CABLES, EVERYTHING, NETWORKS, install, run_tests

LIMIT_S, WHOLE_LIMIT_S = 600.0, 1100.0
"""Twice what it takes on two idle cores."""


def run_network(limit_s: float, more: str = "") -> End:
    """What a machine said in which `on_network.py` was run."""
    return run_tests("on_network.py", [install(NETWORKS), CABLES], limit_s, more)


def test_the_networks_of_a_host() -> None:
    said = run_network(LIMIT_S)
    assert said.status == 0, f"{said.said}\n{said.console}"


@pytest.mark.nightly
def test_the_networks_of_a_host_with_all_that_may_be_wrong() -> None:
    said = run_network(WHOLE_LIMIT_S, EVERYTHING)
    assert said.status == 0, f"{said.said}\n{said.console}"
