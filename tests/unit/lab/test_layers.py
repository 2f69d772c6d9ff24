"""The lab's modules import one another in one direction only."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import lab

FOLDER = Path(lab.__file__).parent


def imports(path: Path) -> set[str]:
    """The modules of the lab that a module of it imports, wherever in it that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("lab.") for alias in node.names if alias.name.startswith("lab.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "lab":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lab."):
            found.add(node.module.removeprefix("lab."))
    return found


def test_no_module_is_imported_by_what_it_imports() -> None:
    graph = {path.stem: imports(path) for path in FOLDER.glob("*.py")}
    assert graph["provision"] >= {"cluster", "pillar"}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle
    assert order.index("settings") < order.index("cluster") < order.index("__main__")
