"""The tables of docs/architecture.md and docs/failure-model.md against the code and the tests that they name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mnha.core.model import SENTENCES, State
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenario import FOLDER
from tests.support.example import ROOT

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
GUARD, DAEMON = ROOT / "salt/_utils/mnha/core/guard.py", ROOT / "salt/_utils/mnha/daemon"
REACTOR = ROOT / "salt/reactor"
EVENT = re.compile(
    r"lease_\w+|vm_(running|off|paused|hung|failed|unprotected|protected)|guard_(unreachable|back)|fenced"
)


def functions(path: Path, *names: str) -> Iterator[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name in names]
    assert {node.name for node in found} == set(names)
    yield from found


def strings(node: ast.AST) -> set[str]:
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def keys_told(path: Path, *names: str) -> set[str]:
    """The keys of the mappings that these functions return."""
    mappings = [node for f in functions(path, *names) for node in ast.walk(f) if isinstance(node, ast.Dict)]
    return set().union(*(strings(key) for mapping in mappings for key in mapping.keys if key is not None))


@pytest.mark.parametrize(("path", "names"), [(GUARD, ("status", "_lease_status")), (DAEMON / "status.py", ("whole",))])
def test_the_status_is_written_down_key_by_key(path: Path, names: tuple[str, ...]) -> None:
    block = TEXT.split("Status, `result` of `status`:")[1].split("## Events")[0]
    told = keys_told(path, *names)
    assert told
    assert {key for key in told if not re.search(rf'"{key}"', block)} == set()


def test_every_request_that_the_guard_knows_is_in_the_table() -> None:
    known = keys_told(DAEMON / "requests.py", "handlers") | {"events"}
    table = TEXT.split("## The guard's socket")[1].split("Status, `result`")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == known


def test_every_event_of_the_beacons_is_in_the_table_and_the_table_has_no_other() -> None:
    sent = strings(ast.parse((ROOT / "salt/_beacons/mnvm_health.py").read_text(encoding="utf-8")))
    words = {text.rsplit("/", 1)[-1] for text in sent if EVENT.fullmatch(text.rsplit("/", 1)[-1])}
    told = {match.group() for match in EVENT.finditer(TEXT.split("## Events")[1])}
    assert told == words | {"vm_running", "vm_off", "vm_paused"}  # made of the VM's state


def test_every_mapped_event_has_its_file_and_its_row() -> None:
    rows = (REACTOR / "README.md").read_text(encoding="utf-8")
    mapped = yaml.safe_load((REACTOR / "reactor.yaml").read_text(encoding="utf-8"))["reactor"]
    files = [Path(name).name for entry in mapped for names in entry.values() for name in names]
    assert sorted(files) == sorted(path.name for path in REACTOR.glob("*.sls"))
    assert [name for name in files if f"| {name} |" not in rows] == []


def test_every_state_of_a_guard_is_in_the_glossary_with_its_sentence() -> None:
    section = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").split("\n## How a guard stands\n")[1]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    assert [(row[0].strip(" `"), row[1]) for row in rows] == [(state.value, SENTENCES[state]) for state in State]
    assert {len(row) for row in rows} == {5}


# ---- docs/failure-model.md: no claim without something that shows it

FAILURES = (ROOT / "docs/failure-model.md").read_text(encoding="utf-8")
SHOWN = re.compile(r"`([a-z0-9]+(?:_[a-z0-9]+)+)`")


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables of a section, without their headings."""
    section = FAILURES.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [row for row in cells if row[-1].strip() not in {"and tests", "shown by"}]


@pytest.mark.parametrize(("heading", "least"), [("The argument", 7), ("Migration", 4), ("Faults", 33)])
def test_each_step_and_each_fault_names_what_shows_it(heading: str, least: int) -> None:
    tables = rows(heading)
    assert len(tables) >= least
    assert [row[0] for row in tables if not SHOWN.search(row[-1])] == []


def test_all_that_shows_something_exists() -> None:
    tests = {
        node.name
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    known = tests | set(MUTANTS) | {path.name for path in FOLDER.iterdir()}
    named = {
        name
        for heading in ("The argument", "Migration")
        for row in rows(heading)
        for name in SHOWN.findall("".join(row[1:]))
    }
    named |= {name for row in rows("Faults") for name in SHOWN.findall(row[-1])}
    assert len(named) > 80
    assert named - known == set()
