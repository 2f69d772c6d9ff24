"""What another host's CPU is asked for, so that a running guest can go on there."""

from __future__ import annotations

import pytest

from mnha.errors import FailedError
from mnha.guest import cpu

RUNNING = """<domain type='{kind}'><os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
  <cpu mode='custom' match='exact' check='full'><model fallback='forbid'>Skylake-Server</model>
    <feature policy='require' name='avx512f'/></cpu></domain>"""


def test_the_running_guests_cpu_is_asked_for_with_all_its_features() -> None:
    found = cpu.wanted(RUNNING.format(kind="kvm"))
    assert found is not None
    assert (found["arch"], found["kind"]) == ("x86_64", "kvm")
    assert found["cpu"].startswith("<cpu ")
    assert 'name="avx512f"' in found["cpu"]


@pytest.mark.parametrize(
    "xml", [RUNNING.format(kind="qemu"), "<domain type='kvm'/>"], ids=["emulated", "none is given"]
)
def test_what_any_host_can_do_is_not_asked_for(xml: str) -> None:
    assert cpu.wanted(xml) is None


def test_what_is_no_domain_is_told() -> None:
    with pytest.raises(FailedError, match="not XML"):
        cpu.wanted("")
