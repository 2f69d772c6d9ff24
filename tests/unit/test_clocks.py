"""Which clock is read where: the lease lives by CLOCK_BOOTTIME alone, and the wall clock is for people's eyes only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.library import LIBRARY, closure

CORE = tuple(path.stem for path in sorted((LIBRARY / "core").glob("*.py")) if path.stem not in ("choose", "placement"))
"""Pure: the time comes in as a number. `choose` and `placement` are the masters'."""
CLOCKS = {"time", "time_ns", "clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "now", "utcnow", "today",
          "perf_counter", "localtime", "gmtime", "ctime", "strftime"}  # fmt: skip
WALL = CLOCKS - {"clock_gettime", "clock_gettime_ns", "monotonic", "monotonic_ns", "perf_counter"}


def modules_of_the_guard() -> list[Path]:
    """The daemon and all of the library that it imports, directly or not."""
    return closure(LIBRARY / "daemon/main.py")


def readings(path: Path, words: set[str]) -> Iterator[str]:
    """`function: call` for each call of something named like a clock, with the function that it stands in."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in words:
                yield f"{path.name}: {function.name}: {ast.unparse(node.func)}"


def test_the_guards_modules_are_found() -> None:
    names = {path.stem for path in modules_of_the_guard()}
    assert {*CORE, "consul", "libvirt", "watchdog", "probe", "health", "clock", "server", "journal"} <= names


@pytest.mark.parametrize("name", CORE)
def test_the_core_reads_no_clock_and_can_not(name: str) -> None:
    tree = ast.parse((LIBRARY / "core" / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert imported & {"time", "datetime", "os", "ctypes"} == set()


def test_the_guard_reads_the_wall_clock_only_to_write_when_things_happened() -> None:
    found = [reading for path in modules_of_the_guard() for reading in readings(path, WALL)]
    assert found == ["journal.py: note: datetime.datetime.now"]


def test_the_one_clock_of_the_guard_is_boottime() -> None:
    found = [reading for path in modules_of_the_guard() for reading in readings(path, {"clock_gettime"})]
    assert found == ["clock.py: boottime_s: time.clock_gettime"]
    assert "time.clock_gettime(time.CLOCK_BOOTTIME)" in (LIBRARY / "host/clock.py").read_text(encoding="utf-8")
