"""Rules of the repository that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import mnha
from lab.__main__ import parser
from tests.support.example import ROOT

CONSTRAINTS = ROOT / "requirements/constraints.txt"


def sources(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def public_functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def test_the_file_root_does_not_shadow_salt() -> None:
    assert not (ROOT / "salt/__init__.py").exists(), "it would hide the real salt from `import salt`"


@pytest.mark.parametrize("path", sources("salt/_modules/*.py", "salt/_runners/*.py"), ids=name_of)
def test_every_function_an_operator_can_call_shows_how(path: Path) -> None:
    silent = [f.name for f in public_functions(path) if "CLI Example:" not in (ast.get_docstring(f) or "")]
    assert silent == []


def test_there_is_one_version() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert metadata["project"]["version"] == metadata["tool"]["towncrier"]["version"] == mnha.__version__


def requirements_in(path: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


@pytest.mark.parametrize("name", ["minion", "guard", "lab", "bench", "test"])
def test_every_requirement_has_a_constraint_that_fits(name: str) -> None:
    exact = {r.name.lower().replace("_", "-"): r for r in requirements_in(CONSTRAINTS)}
    for requirement in requirements_in(ROOT / f"requirements/{name}.txt"):
        (pin,) = exact[requirement.name.lower().replace("_", "-")].specifier
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{requirement} is constrained to {pin}"


@pytest.mark.parametrize("path", sources("changelog.d/*"), ids=name_of)
def test_changelog_fragments_have_a_type(path: Path) -> None:
    assert path.name == "README.md" or re.fullmatch(r"\+[\w-]+\.(security|added|changed|removed|fixed)\.md", path.name)


def commands_of(*arguments: str) -> list[str]:
    """What `make` would run, without making the virtual environment."""
    command = ["make", "--no-print-directory", "-n", "-o", ".venv/.made-from-requirements", *arguments]
    # The tests may run below a make of their own, whose settings are not ours.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return run.stdout.splitlines()


LAB_TARGETS = ["up", "status", "shell", "poweroff", "poweron", "cut", "heal", "down"]


@pytest.mark.parametrize("target", LAB_TARGETS)
def test_every_lab_target_calls_a_verb_that_the_lab_has(target: str) -> None:
    (command,) = [line for line in commands_of(f"lab-{target}", "NODE=node1") if "-m lab" in line]
    parser().parse_args(command.split("-m lab")[1].split())


def test_a_node_may_be_named_with_or_without_its_key() -> None:
    with_keys = commands_of("lab-cut", "NODE=node2", "NET=mgmt")
    assert any(line.endswith("-m lab cut node2 mgmt") for line in with_keys)
    assert commands_of("lab-cut", "node2", "mgmt")[: len(with_keys)] == with_keys
