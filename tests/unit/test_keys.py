"""Consul's keys are spelt in one place: as docs/architecture.md lists them, and nowhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mnha import keys
from tests.support.example import ROOT
from tests.support.library import LIBRARY

SPELT = re.compile(
    r"^mnha/(\{\}|$)(?!.*consul_roles)|/(lease|desired|last_start)$"
    r"|(^|\{\}/)(vms|nodes|maintenance|history|actions|masters|versions)/(\{\}|$)|^actions/"
)
"""A key, or a part of one, in a string whose inserted values are written ``{}``."""
OTHERS = {LIBRARY / "secrets/store.py"}
"""``nodes/<node>/`` is a folder of its own there, of files."""
SOURCES = sorted(path for path in (ROOT / "salt").rglob("*.py") if path != LIBRARY / "keys.py" and path not in OTHERS)


def spelt(text: str) -> list[str]:
    """The strings of a source that spell a key."""
    tree = ast.parse(text)
    inner = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    strings = [
        "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)  # type: ignore[misc]
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
    ] + [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner
    ]
    return [one for one in strings if SPELT.search(one)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_key_is_spelt_elsewhere(path: Path) -> None:
    assert spelt(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        'f"mnha/{cluster}/{key}"', 'f"mnha/{cluster}"', 'f"{prefix}/lease"', 'key.endswith("/desired")',
        'f"vms/{vm}/"', '"nodes/"', 'f"{prefix}/nodes/{node}"', 'f"actions/{action}{attempt}"', '"actions/some"',
    ],
)  # fmt: skip
def test_each_way_to_spell_one_is_found(line: str) -> None:
    assert spelt(line) != []


def test_they_are_those_of_the_architecture_page() -> None:
    section = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## Consul KV")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    assert told == {
        keys.CONFIG, keys.SHARE, keys.disk("<vm>"), keys.lease("<vm>"), keys.desired("<vm>"), keys.last_start("<vm>"),
        keys.node("<node>"), keys.master("<host>"), keys.version(7),
        keys.maintenance("<node>"), keys.action("consul-restart"), keys.action("<id>"),
        keys.history("<UTC time>-<node>-<n>"),
    }  # fmt: skip
    assert f"`{keys.full('<cluster>', '')}`" in section


def test_a_lease_tells_its_vm_and_nothing_else_does() -> None:
    assert keys.vm_of_lease(keys.lease("mnvm")) == "mnvm"
    assert keys.vm_of_lease(keys.desired("mnvm")) is None
