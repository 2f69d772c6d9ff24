"""Which files of a master's pillar tree another master of one cluster needs, and which are none of its business.

Needed are the top file, what Salt reads while it compiles the pillars of the cluster's nodes, what those files import
by Jinja (a name that is written out), and what the cluster's `salt:pillar_files` names besides. So one cluster's nodes
don't get the secrets that stand in another's pillar.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import salt.pillar
import salt.utils.minions

from ..errors import FailedError

MAX_FILES = 2000
_IMPORT = re.compile(r"{%-?\s*(?:from|include|extends|import(?:_yaml|_json|_text)?)\s+['\"]([^'\"]+)['\"]")
_known: dict[Any, tuple[Any, list[str]]] = {}
"""The last answers, for each node of a cluster asks several times in a run of states; as many as there are clusters."""


@dataclass(frozen=True)
class Tree:
    """A pillar tree by relative paths: text of the files that are needed, names of the others."""

    needed: dict[str, str]
    others: list[str]


def of_cluster(opts: Mapping[str, Any], nodes: Sequence[str], patterns: Sequence[str]) -> Tree:
    """What the masters of a cluster need of this master's tree.

    :param opts: the master's.
    :param patterns: what they get besides, by names as a shell has them (`*` goes through folders as well).
    :raises FailedError: there are so many files that it can't be the right folder.
    """
    files = _files([Path(root) for root in opts["pillar_roots"].get("base", [])])
    state = (tuple(nodes), tuple(patterns), tuple((str(path), *_state(path)) for path in files.values()))
    place = (tuple(nodes), str(opts["pillar_roots"]))
    if place not in _known or _known[place][0] != state:
        read = {path: name for name, path in files.items()}
        used = {read[path] for node in nodes for path in _read_for(opts, node) if path in read}
        used |= {name for name in files if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)}
        _known[place] = (state, sorted(_with_imports(used, files)))
    needed = _known[place][1]
    texts = {name: files[name].read_text(encoding="utf-8") for name in needed}
    return Tree(texts, sorted(files.keys() - texts.keys()))


def files_of(opts: Mapping[str, Any], nodes: Sequence[str]) -> dict[Path, str]:
    """The files that the pillars of `nodes` are made of on this master, the top file included, with their texts."""
    files = _files([Path(root) for root in opts["pillar_roots"].get("base", [])])
    used = {path for node in nodes for path in _read_for(opts, node)}
    return {path: path.read_text(encoding="utf-8") for path in files.values() if path in used}


def _files(roots: Iterable[Path]) -> dict[str, Path]:
    """Regular files that are not hidden, by relative path; of several roots the first counts."""
    files: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                files.setdefault(str(relative), path)
            if len(files) > MAX_FILES:
                raise FailedError(f"more than {MAX_FILES} files below {root}: is it the right folder?")
    return files


def _state(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return seen.st_mtime_ns, seen.st_size


def _read_for(opts: Mapping[str, Any], node: str) -> set[Path]:
    """The top file and every SLS that Salt reads to compile a node's pillar."""
    _, grains, _ = salt.utils.minions.get_minion_data(node, opts)
    pillar = salt.pillar.Pillar(dict(opts), grains or {"id": node}, node, "base")
    found: set[Path] = set()
    cache_file, get_state = pillar.client.cache_file, pillar.client.get_state

    def noted_file(*words: Any, **named: Any) -> Any:
        place = cache_file(*words, **named)
        found.add(Path(place or "/"))
        return place

    def noted_state(*words: Any, **named: Any) -> Any:
        state = get_state(*words, **named)
        found.add(Path(state.get("dest") or "/"))
        return state

    pillar.client.cache_file, pillar.client.get_state = noted_file, noted_state
    pillar.compile_pillar(ext=False)
    return found


def _with_imports(names: Iterable[str], files: Mapping[str, Path]) -> set[str]:
    """Files, and what they import by Jinja, and so on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found and name in files:
            found.add(name)
            waiting += _imports(name, files[name].read_text(encoding="utf-8"))
    return found


def _imports(name: str, text: str) -> Iterator[str]:
    for path in _IMPORT.findall(text):
        yield posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path.startswith(".") else path
