"""Changes a cluster's configuration where it stands in a master's pillar tree, comments and layout kept.

The pillar is for people: so what a verb changes of it, it changes in the file in which an operator would, and only
there. A file that Jinja writes, or a value that two files give, is nobody's to guess: then nothing is written, and the
values are named that somebody has to write himself.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import SingleQuotedScalarString
from yaml import ScalarNode
from yaml.resolver import Resolver

from ..config.difference import Difference
from ..config.fields import nested
from ..errors import FailedError

ROOT = ("mnha", "cluster")
STRING = "tag:yaml.org,2002:str"
LAYOUTS = ((2, 2, 0), (2, 4, 2), (4, 4, 0), (4, 6, 4), (4, 4, 2))
"""How people indent: mappings, sequences, and the dash in those."""


def changed(files: Mapping[Path, str], found: Sequence[Difference], wanted: Mapping[str, Any]) -> dict[Path, str]:
    """The files that have to be written so that the cluster is as `wanted`, with their new texts.

    :param files: the files that the cluster's pillar is made of.
    :param found: where the pillar differs from what is wanted.
    :param wanted: what is to stand under `mnha:cluster`.
    :raises FailedError: a place can't be changed; names all such places, and what to write there.
    """
    readable, others = _readable(files)
    lacking: list[str] = []
    touched: set[Path] = set()
    for one in found:
        owner = _owner(readable, one.path)
        if owner is None:
            lacking.append(str(one))
        else:
            _set(readable[owner].value, one.path, wanted)
            touched.add(owner)
    if lacking:
        why = "".join(f"; not {path}, for {reason}" for path, reason in others.items())
        raise FailedError(
            f"write by hand into the pillar, and apply: {', '.join(lacking)}. No file is the one place of that which "
            f"could be changed here{why}"
        )
    return {path: readable[path].text() for path in sorted(touched)}


def write(files: Mapping[Path, str]) -> None:
    """Replace each file at once, its owner and mode kept.

    :raises FailedError: one can't be written; what was written before it is as it was.
    """
    before: dict[Path, str] = {}
    try:
        for path, text in files.items():
            before[path] = path.read_text(encoding="utf-8")
            _replace(path, text)
    except OSError as error:
        for path, text in before.items():
            with contextlib.suppress(OSError):
                _replace(path, text)
        raise FailedError(f"the pillar can't be written: {error}") from error


def text_of(path: Path) -> str | None:
    """What a file holds now; None: it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _replace(path: Path, text: str) -> None:
    state = path.stat()
    place, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(place, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(place)
            os.fchmod(place, state.st_mode & 0o7777)
            os.fchown(place, state.st_uid, state.st_gid)
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


class _File:
    """A YAML file that is written as it was read."""

    def __init__(self, text: str) -> None:
        """
        :raises YAMLError: it is none, or more than blanks in its lines would be written otherwise than it was read.
        """
        before = text.splitlines()
        best: tuple[int, YAML, Any] | None = None
        for mapping, sequence, offset in LAYOUTS:
            self._yaml = YAML()
            self._yaml.preserve_quotes = True
            self._yaml.width = 4096
            self._yaml.indent(mapping=mapping, sequence=sequence, offset=offset)
            self.value = self._yaml.load(text)
            after = self.text().splitlines()
            if [line.split() for line in after] != [line.split() for line in before]:
                continue
            moved = sum(one != other for one, other in zip(before, after, strict=True))
            if best is None or moved < best[0]:
                best = moved, self._yaml, self.value
        if best is None:
            raise YAMLError("its layout can't be kept")
        _, self._yaml, self.value = best

    def text(self) -> str:
        """What it holds now."""
        out = io.StringIO()
        self._yaml.dump(self.value, out)
        return out.getvalue()


def _readable(files: Mapping[Path, str]) -> tuple[dict[Path, _File], dict[Path, str]]:
    """The files that hold something of the cluster and can be changed, and those that can't, with the reason."""
    found, others = dict[Path, _File](), dict[Path, str]()
    for path, text in files.items():
        if "{{" in text or "{%" in text or text.startswith("#!"):
            others[path] = "a template makes it"
            continue
        try:
            one = _File(text)
        except YAMLError as error:
            others[path] = str(error).splitlines()[0]
            continue
        if isinstance(nested(one.value, *ROOT), Mapping):
            found[path] = one
    return found, others


def _owner(files: Mapping[Path, _File], path: Sequence[str | int]) -> Path | None:
    """The only file that has the place, or else the deepest part of its path; None if there are several."""
    depths = {name: _depth(nested(one.value, *ROOT), path) for name, one in files.items()}
    deepest = [name for name, depth in depths.items() if depth == max(depths.values())]
    return deepest[0] if len(deepest) == 1 else None


def _depth(value: Any, path: Sequence[str | int]) -> int:
    """How many keys of a path are there."""
    for depth, key in enumerate(path):
        value = nested(value, key)
        if value is None:
            return depth
    return len(path)


def _set(value: Any, path: Sequence[str | int], wanted: Mapping[str, Any]) -> None:
    """Write what is wanted at the path; above it where the file has something else on the way, such as a text of
    values per node.
    """
    holder = nested(value, *ROOT)
    for depth, key in enumerate(path[:-1]):
        below, target = nested(holder, key), nested(wanted, *path[: depth + 1])
        if below is None and isinstance(target, Mapping):
            below = holder[key] = {name: target[name] for name in ("kind",) if name in target}  # says what it is
        if not isinstance(below, dict | list):
            holder[key] = _as_salt_reads_it(target)
            return
        holder = below
    target = nested(wanted, *path)
    if target is None:
        _remove(holder, path[-1])
    else:
        holder[path[-1]] = _as_salt_reads_it(target)


def _as_salt_reads_it(value: Any) -> Any:
    """A value whose texts are in quotes where YAML 1.1 would take them for something else: `52:54:00:00:00:01` is a
    number there, and `off` is false.
    """
    if isinstance(value, Mapping):
        return {key: _as_salt_reads_it(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_salt_reads_it(one) for one in value]
    if isinstance(value, str) and _tag(value) != STRING:
        return SingleQuotedScalarString(value)
    return value


def _tag(text: str) -> str:
    """What YAML 1.1 takes a text without quotes for."""
    return str(Resolver().resolve(ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]


def _remove(holder: Any, key: str | int) -> None:
    with contextlib.suppress(KeyError, IndexError):
        del holder[key]
