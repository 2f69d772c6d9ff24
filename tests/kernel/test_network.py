"""The hosts' networks on a real kernel: bonds with LACP, bridges, and changes that are taken back."""

from __future__ import annotations

import pytest

from lab.uml import End

from .host_machine import CABLES, NETWORKS, install, run_tests

LIMIT_S = 1100.0
"""Twice what it takes on two idle cores."""


@pytest.fixture(scope="module")
def said() -> End:
    """What a machine said in which `on_network.py` was run."""
    return run_tests("on_network.py", [install(NETWORKS), CABLES], LIMIT_S)


def test_the_networks_of_a_host(said: End) -> None:
    assert said.status == 0, f"{said.said}\n{said.console}"
