"""What the states tell those who upgrade a host by themselves, read by the languages in which it is written."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "salt/states/host/files"
ASK = """
our %nrconf = (override_rc => {});
defined(do $ARGV[0]) or die($@ || $!);
my ($found) = grep { $ARGV[1] =~ /$_/ } keys %{$nrconf{override_rc}};
print defined $found ? $nrconf{override_rc}{$found} : "as ever";
"""
"""As needrestart does: the first pattern that fits a service's name says whether it is restarted."""


@pytest.mark.parametrize(
    ("service", "restarted"),
    [
        ("consul.service", "0"), ("mnha-guard.service", "0"), ("mnha-fencer.service", "0"),
        ("libvirtd.service", "as ever"), ("consul-template.service", "as ever"), ("salt-minion.service", "as ever"),
    ],
)  # fmt: skip
def test_needrestart_leaves_alone_what_a_vm_hangs_on_and_nothing_else(service: str, restarted: str) -> None:
    words = ["perl", "-we", ASK, str(FILES / "needrestart.conf"), service]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == restarted


def test_unattended_upgrades_leaves_consul_to_the_operator() -> None:
    words = ["apt-config", "-c", str(FILES / "apt.conf"), "dump", "--format", "%f=%v%n"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "Unattended-Upgrade::Package-Blacklist::=^consul$" in told
