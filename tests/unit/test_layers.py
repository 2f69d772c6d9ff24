"""The library's packages, and who may import whom: an import upwards, or sideways, fails."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support.library import LIBRARY, imports, modules

MAY_IMPORT: dict[str, set[str]] = {
    "": set(),  # the version, and how the library is loaded
    "errors": set(),
    "keys": set(),
    "core": {"errors"},
    "host": {"errors"},
    "config": {"errors", "core", "host"},
    "oldsuite": {"errors", "config"},
    "secrets": {"errors", "host"},
    "consul": {"errors", "keys"},
    "guest": {"errors", "config"},
    "fencer": {"", "errors", "host"},
    "daemon": {"", "errors", "keys", "core", "consul", "guest", "host", "fencer"},
    "master": {"", "errors", "keys", "core", "config", "consul", "oldsuite"},
    "zsha": {"", "errors", "consul", "daemon", "master", "oldsuite"},
}
"""From the ground up: what a package may import besides itself. The core knows errors and nothing else."""


def part_of(path: Path) -> str:
    """The package of a file, or the name of a module that lies beside the packages."""
    relative = path.relative_to(LIBRARY)
    return relative.parts[0] if len(relative.parts) > 1 else "" if path.stem == "__init__" else path.stem


def name_of(path: Path) -> str:
    return str(path.relative_to(LIBRARY))


def test_every_package_has_its_place() -> None:
    assert {part_of(path) for path in modules()} == set(MAY_IMPORT)


def test_the_table_has_no_circle_and_no_line_that_nobody_uses() -> None:
    order = list(MAY_IMPORT)
    assert [(one, other) for one, others in MAY_IMPORT.items() for other in others
            if order.index(other) >= order.index(one)] == []  # fmt: skip
    used = {(part_of(path), part_of(other)) for path in modules() for other in imports(path)}
    assert {(one, other) for one, others in MAY_IMPORT.items() for other in others} - used == set()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_imports_upwards(path: Path) -> None:
    part = part_of(path)
    used = {part_of(other) for other in imports(path)} - {part}
    assert used <= MAY_IMPORT[part], f"{part} may import {sorted(MAY_IMPORT[part])}"


@pytest.mark.parametrize("path", [p for p in modules() if part_of(p) in {"core", "errors", "fencer"}], ids=name_of)
def test_core_and_fencer_need_nothing_but_the_standard_library(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    plain |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert {name.split(".")[0] for name in plain} - sys.stdlib_module_names == set()
