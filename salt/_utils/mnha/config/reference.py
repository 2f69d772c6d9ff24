"""The reference of all configuration keys, as a commented YAML file: generated from the model, so that it can't drift.

python -m mnha.config.reference > pillar/defaults.yaml
"""

from __future__ import annotations

import json
import textwrap
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .model import ClusterConfig

HEADER = """\
# Every key of a cluster's configuration: what it means, and its default. A key without a value here has none: where it
# is marked "required" it must be given, else it may be left out.
#
# This file is for reading. Nothing loads it, and it is generated (`make generated`): the defaults themselves stand in
# salt/_utils/mnha/config/model.py. `salt-run mnha.check_config` checks a pillar against them.
"""
WIDTH = 118
_PLACEHOLDER = {"mounts": "FOLDER", "nodes": "NODE", "vms": "VM", "bonds": "BOND"}
"""What stands for a name that the operator chooses, by the key of the mapping."""


def reference() -> str:
    """The whole file."""
    lines = [HEADER, "mnha:", "  cluster:", *_section(ClusterConfig, 4)]
    return "\n".join(lines) + "\n"


def _section(model: type[BaseModel], indent: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield from _comment(field, indent)
        yield from _key(name, field, indent)


def _comment(field: FieldInfo, indent: int) -> Iterator[str]:
    prefix = " " * indent + "# "
    text = ("(required) " if field.is_required() else "") + (field.description or "")
    yield from textwrap.wrap(text, WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False)


def _key(name: str, field: FieldInfo, indent: int) -> Iterator[str]:
    blank = " " * indent
    sections = _sections(field.annotation)
    origin = _origin(field.annotation)
    if not sections:
        yield f"{blank}{name}:{_value(field)}"
    elif origin is dict:
        lines = [f"{blank}{name}:", f"{blank}  {_PLACEHOLDER[name]}:", *_section(sections[0], indent + 4)]
        yield from lines if field.is_required() else _all_commented(lines)
    elif origin is tuple:
        yield f"{blank}{name}:"
        yield f"{blank}  -"
        yield from _section(sections[0], indent + 4)
    elif len(sections) > 1:
        # One of several, chosen by `kind`: the default one as keys, the others as comments.
        yield f"{blank}{name}:"
        yield from _chosen(sections, field, indent + 2)
    elif field.default is None:
        yield f"{blank}{name}:"
        yield from _all_commented(_section(sections[0], indent + 2))
    else:
        yield f"{blank}{name}:"
        yield from _section(sections[0], indent + 2)


def _all_commented(lines: Iterable[str]) -> Iterator[str]:
    """What is shown of something that need not be there."""
    return (line if line.lstrip().startswith("#") else _commented(line) for line in lines)


def _chosen(sections: list[type[BaseModel]], field: FieldInfo, indent: int) -> Iterator[str]:
    for section in sections:
        is_default = isinstance(field.default, section)
        for name, inner in section.model_fields.items():
            if name == "kind":
                (kind,) = typing.get_args(inner.annotation)
                line = f"{' ' * indent}kind: {kind}"
                yield from _comment(FieldInfo(description=inner.description, default=kind), indent)
                yield line if is_default else _commented(line)
                continue
            yield from _comment(inner, indent)
            line = f"{' ' * indent}{name}:{_value(inner)}"
            yield line if is_default else _commented(line)


def _commented(line: str) -> str:
    """A line of YAML as a comment that can be told from an explanation."""
    bare = line.lstrip()
    return f"{line[: len(line) - len(bare)]}#: {bare}"


def _value(field: FieldInfo) -> str:
    """A default as YAML in flow style, which JSON is; nothing if there is none."""
    default: Any = None if field.is_required() else field.default
    if default is None:
        return ""
    if isinstance(default, str):
        # `off` without quotes would be read as false.
        return f" {default}" if default[:1].isalnum() and default not in ("off", "on", "yes", "no") else f" {default!r}"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return f" {json.dumps(default)}"


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The sections somewhere inside a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in typing.get_args(annotation) for section in _sections(part)]


def _origin(annotation: Any) -> Any:
    return typing.get_origin(annotation)


if __name__ == "__main__":
    print(reference(), end="")
