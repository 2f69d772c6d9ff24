"""What a dry run can't know: which services that don't run yet it would have started before."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.host.dry_run import awaited


def state(name: str, result: bool | None, function: str = "running") -> dict[str, dict[str, Any]]:
    return {f"service_|-id_|-{name}_|-{function}": {"name": name, "result": result}}


@pytest.mark.parametrize(
    ("running", "unit"),
    [
        (state("libvirtd", None), "libvirtd"),
        (state("libvirtd", True), ""),
        (state("libvirtd", False), ""),
        (state("consul", None), ""),
        (state("libvirtd", None, "enabled"), ""),
        ({"file_|-a_|-libvirtd_|-running": {"name": "libvirtd", "result": None}}, ""),
        ({}, ""),
    ],
)
def test_only_a_service_that_would_be_started_is_waited_for(running: dict[str, Any], unit: str) -> None:
    assert awaited(running, "libvirtd") == unit


def test_all_of_them_are_named() -> None:
    assert awaited(state("consul", None) | state("libvirtd", None), "libvirtd", "consul") == "libvirtd, consul"
