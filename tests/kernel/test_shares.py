"""Shared file systems on a real kernel, with a real NFS server and clients."""

from __future__ import annotations

import shlex

import pytest

from lab.uml import End
from tests.support.example import ROOT

from .host_machine import SHARES, UNPACKED, run_tests, unpack

LIMIT_S = 400.0
FILE_SERVER = f". {shlex.quote(str(ROOT / 'tests/kernel/shares.sh'))}; serve server 10 || exit 7"


@pytest.fixture(scope="module")
def said() -> End:
    """What a machine said in which `on_shares.py` was run."""
    return run_tests("on_shares.py", [unpack(SHARES), UNPACKED, FILE_SERVER], LIMIT_S)


def test_the_shares_of_a_host(said: End) -> None:
    assert said.status == 0, f"{said.said}\n{said.console}"
