"""The highstate's layers of networks and storage on a real kernel: a bond with LACP, a bridge, NFS over both."""

from __future__ import annotations

import shlex

import pytest

from lab.uml import End
from tests.support.example import ROOT

from .host_machine import CABLES, NETWORKS, SHARES, UNPACKED, install, installed, run_tests, unpack

LIMIT_S = 200.0
FILE_SERVER = f". {shlex.quote(str(ROOT / 'tests/kernel/serve.sh'))}; serve neighbour 10 || exit 7"
CLOCK = """
printf '_chrony:x:903:903::/var/lib/chrony:/usr/sbin/nologin\\n' >>/etc/passwd
printf '_chrony:x:903:\\n' >>/etc/group
mkdir -p /var/lib/chrony /var/log/chrony; chown 903 /var/lib/chrony /var/log/chrony
"""
"""What the scripts of chrony's package would have made."""


@pytest.fixture(scope="module")
def said() -> End:
    """What a machine said in which `on_layers.py` was run."""
    packages = [install(NETWORKS), unpack((*SHARES, "chrony")), installed("nfs-common"), installed("chrony")]
    prepare = [*packages, UNPACKED, CLOCK, CABLES, FILE_SERVER]
    return run_tests("on_layers.py", prepare, LIMIT_S)


@pytest.mark.nightly
def test_the_layers_of_a_host(said: End) -> None:
    assert said.status == 0, f"{said.said}\n{said.console}"
