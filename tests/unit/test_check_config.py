"""`salt-run mnha.check_config`, loaded and given pillars by Salt itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader
import yaml

from tests.support.example import ROOT, example_with

TREE = ROOT / "salt"
Check = Callable[[dict[str, Any] | str], dict[str, Any]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """What it answers about a node whose pillar is the example with changes, or this text."""
    opts = salt.config.master_config(None)
    written = yaml.safe_load((TREE / "states/salt/files/master.conf").read_text().replace("/srv/mnha", str(ROOT)))
    opts = {**opts, **written, "root_dir": str(tmp_path), "cachedir": str(tmp_path / "cache"),
            "pillar_roots": {"base": [str(tmp_path / "pillar")]}}  # fmt: skip
    runners = salt.loader.runner(opts, utils=salt.loader.utils(opts))

    def ask(changes: dict[str, Any] | str) -> dict[str, Any]:
        folder = tmp_path / "pillar"
        folder.mkdir()
        (folder / "top.sls").write_text("base: {'*': [cluster]}")
        (folder / "cluster.sls").write_text(
            changes if isinstance(changes, str) else yaml.safe_dump(example_with(changes))
        )
        found = runners["mnha.check_config"](node="node1")
        return dict(found["data"]["node1"])

    return ask


def shown(data: dict[str, Any]) -> str:
    """What the terminal shows of it."""
    spec = importlib.util.spec_from_file_location("outputter", TREE / "_output/mnha.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.output(data))


def test_a_pillar_without_fault_passes(check: Check) -> None:
    assert check({}) == {"result": True, "comment": "config file check pass", "faults": {}, "doubts": {}}


def test_what_may_turn_out_badly_is_warned_of_and_passes(check: Check) -> None:
    told = check({"vms:mnvm:memory_mib": 32768})
    assert (told["result"], told["faults"]) == (True, {})
    assert told["comment"] == "config file check pass; 1 doubt"
    (line,) = told["doubts"]["node1"]
    assert line.startswith("mnha:cluster:vms:mnvm:memory_mib: a killed VM of 32 GiB may take 3.20 s or longer")
    assert f"    {line}" in shown({"node1": told}).splitlines()


def test_a_fault_does_not_pass(check: Check) -> None:
    told = check({"vms:mnvm:memory_mib": 262144})
    assert not told["result"]
    assert "raise kill_s to 26" in told["faults"]["node1"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mnha:\n  cluster: [1\n  name: x\n", "line 3, column"),
        ("mnha:\n  cluster: 1\n  cluster: 2\n", "line 3"),
        ("mnha:\n{% if %}\n", "Jinja syntax error: Expected an expression, got 'end of statement block'; line 2"),
        ("mnha:\n  cluster: {{ nothing.name }}\n", "'nothing' is undefined; line 2"),
        ("include:\n  - absent\nmnha: 1\n", "'absent'"),
    ],
    ids=["YAML", "a key twice", "Jinja's syntax", "an unknown variable", "a file that is not there"],
)
def test_a_pillar_that_does_not_render_is_told_with_file_and_line(
    check: Check, tmp_path: Path, text: str, words: str
) -> None:
    told = check(text)
    assert not told["result"]
    (line,) = told["faults"]["node1"]
    assert words in line
    assert "absent" in words or str(tmp_path / "pillar/cluster.sls") in line
    assert "\n" not in line
    assert "is missing" not in line, "a consequence, which would lead astray"
