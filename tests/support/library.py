"""Who imports whom in ``salt/_utils/mnha``, read from the text of the files: nothing is imported for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "salt/_utils/mnha"


def modules(library: Path = LIBRARY) -> list[Path]:
    """All files of the library."""
    return sorted(library.rglob("*.py"))


def imports(path: Path, library: Path = LIBRARY) -> set[Path]:
    """The files of the library that one of its files imports, wherever in it the import stands."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        names = [base / alias.name for alias in node.names]
        found |= {file for name in [base, *names] for file in _files(name) if library in file.parents}
    return found - {path}


def _files(name: Path) -> Iterator[Path]:
    """The file of a module or package of this name, if there is one."""
    for file in (name.with_name(f"{name.name}.py"), name / "__init__.py"):
        if file.is_file():
            yield file


def closure(start: Path, library: Path = LIBRARY) -> list[Path]:
    """A file of the library and all of it that this one imports, directly or not, their packages included."""
    found: set[Path] = set()
    todo = [start]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            packages = [folder / "__init__.py" for folder in path.parents if library in (folder, *folder.parents)]
            todo += [*imports(path, library), *packages]
    return sorted(found)
