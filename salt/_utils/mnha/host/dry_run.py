"""What a run of states would change, by what its states have said so far: files, services. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ATTRIBUTES = frozenset({"mode", "user", "group", "owner", "uid", "gid", "attrs"})
"""Changes of a file that leave its content."""
REMOVED = "#### removed ####\n"
PROGRAMS = {"consul": "/usr/bin/consul"}
"""What a package brings that a service depends on."""


def touched(running: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The files that would be changed, one of which only owner or mode would be as `attributes:FILE`.

    :param running: the results of the states before this one, as Salt has them (`__running__`).
    """
    return list(dict.fromkeys(file for tag, result in running.items() for file in _of_state(tag, result)))


def awaited(running: Mapping[str, Mapping[str, Any]], *units: str) -> str:
    """Of services that don't run, those that the run would start before: what needs them can't be known in a dry run;
    empty if there is none.

    :param running: as in :func:`touched`.
    """
    started = [
        str(result.get("name"))
        for tag, result in running.items()
        if tag.startswith("service_|-") and tag.endswith("running") and result.get("result") is None
    ]
    return ", ".join(unit for unit in units if unit in started)


def _of_state(tag: str, result: Mapping[str, Any]) -> Iterator[str]:
    state, _, name, function = tag.split("_|-")
    changes = result.get("changes") or {}
    if result.get("result") is False:
        return
    if (state, function) == ("file", "recurse"):
        yield from (_named(file, change) for file, change in changes.items())
        # Of files that it would remove Salt tells here alone.
        _, _, removed = str(result.get("comment")).partition(REMOVED)
        yield from removed.splitlines()
    elif not changes:
        return
    elif state == "file":
        yield _named(str(result.get("name") or name), changes)
    elif state == "pkg":
        yield from (program for package, program in PROGRAMS.items() if package in _keys(changes))


def _named(file: str, change: Any) -> str:
    """The file, marked if only its attributes would change."""
    return f"attributes:{file}" if isinstance(change, Mapping) and set(change) <= ATTRIBUTES else file


def _keys(changes: Mapping[str, Any]) -> set[str]:
    """All keys, at any depth: Salt has packages below `installed` or at the top."""
    below = [_keys(value) for value in changes.values() if isinstance(value, Mapping)]
    return set(changes).union(*below)
