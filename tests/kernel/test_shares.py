"""Shared file systems on a real kernel, with a real NFS server and clients."""

from __future__ import annotations

import shlex

import pytest

from lab.uml import End
from tests.support.example import ROOT

from .host_machine import EVERYTHING, SHARES, UNPACKED, run_tests, unpack

LIMIT_S = 500.0
SERVER = f". {shlex.quote(str(ROOT / 'tests/kernel/shares.sh'))}; serve server $LEASE_S || exit 7"
DEBIANS_LEASE_S = 90


def run_shares(lease_s: int, more: str = "") -> End:
    """What a machine said in which `on_shares.py` was run, with that lease time."""
    prepare = [unpack(SHARES), UNPACKED, f"export LEASE_S={lease_s}", SERVER]
    return run_tests("on_shares.py", prepare, LIMIT_S + 3 * lease_s, more)


def test_the_shares_of_a_host() -> None:
    said = run_shares(10)
    assert said.status == 0, f"{said.said}\n{said.console}"


@pytest.mark.nightly
def test_the_shares_of_a_host_with_all_that_may_be_wrong() -> None:
    said = run_shares(10, EVERYTHING)
    assert said.status == 0, f"{said.said}\n{said.console}"


@pytest.mark.nightly
def test_the_lock_of_a_dead_node_with_debians_lease_time() -> None:
    said = run_shares(DEBIANS_LEASE_S, "-k lock_of_a_dead_node")
    assert said.status == 0, f"{said.said}\n{said.console}"
