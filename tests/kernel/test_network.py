"""The hosts' networks on a real kernel: bonds with LACP, bridges, and changes that are taken back."""

from __future__ import annotations

import shlex
import sys

import pytest

from lab import build
from lab.settings import Settings
from lab.uml import End, Machine
from tests.support.example import ROOT

from .test_watchdog import BOOT_S

PACKAGES = ("ifupdown2", "bridge-utils")
LIMIT_S = 400.0


@pytest.fixture(scope="module")
def said() -> End:
    """What a machine said in which `on_network.py` was run."""
    settings = Settings.from_environment()
    repository = build.build_repository(settings, "packages", "node-packages.txt", build.build_base(settings))
    debs = [str(path) for name in PACKAGES for path in sorted(repository.glob(f"{name}_*.deb"))]
    options = "-p no:cacheprovider --color=no -x -v"
    program = f"""
    export DEBIAN_FRONTEND=noninteractive
    mkdir -p /etc/network/interfaces.d
    dpkg --force-all --install {shlex.join(debs)} >/run/dpkg 2>&1 || {{ cat /run/dpkg; exit 3; }}
    . {shlex.quote(str(ROOT / "tests/kernel/cables.sh"))}
    cd {shlex.quote(str(ROOT))} && export PYTHONPATH=salt/_utils:. PYTHONDONTWRITEBYTECODE=1
    exec {shlex.quote(sys.executable)} -m pytest {options} tests/kernel/on_network.py
    """
    with Machine(program, systemd=True) as machine:
        return machine.wait(BOOT_S + LIMIT_S)


def test_the_networks_of_a_host(said: End) -> None:
    assert said.status == 0, f"{said.said}\n{said.console}"
