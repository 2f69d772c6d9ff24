"""Turns what pydantic found into faults an operator can act on. Pure."""

from __future__ import annotations

import copy
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..errors import Fault
from .fields import Wrong, join, nested, show
from .kinds import Section
from .rules import TAKEN_OUT

_KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a text",
    "dict": "a mapping",
    "model_type": "a mapping",
    "list": "a list",
    "tuple": "a list",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "below the minimum of"),
    "greater_than": ("gt", "not above"),
    "less_than_equal": ("le", "above the maximum of"),
    "less_than": ("lt", "not below"),
    "finite_number": ("", "not finite"),
}


def from_pydantic(error: ValidationError, model: type[BaseModel], data: Any) -> list[Fault]:
    """All faults that `error` holds; their paths are relative to `data`, which was to become a `model`."""
    return [fault for detail in error.errors() for fault in _faults(detail, model, data)]


def without_faulty(error: ValidationError, data: Any) -> Any:
    """A copy of `data` in which every value that `error` complains about is replaced by ``TAKEN_OUT``."""
    result = copy.deepcopy(data)
    for detail in error.errors():
        path = _path(detail["loc"], data)
        place = nested(result, *path[:-1]) if path else None
        if isinstance(place, dict) and path[-1] in place:
            # An unknown key is taken out as a whole; a known one leaves a trace, so that it does not count as missing.
            if detail["type"] == "extra_forbidden":
                del place[path[-1]]
            else:
                place[path[-1]] = TAKEN_OUT
        elif isinstance(place, list) and isinstance(path[-1], int):
            place[path[-1]] = None
    return result


def _path(loc: Iterable[str | int], data: Any) -> list[str | int]:
    """The keys of `loc` as they stand in `data`: without the names that pydantic puts in for its own purposes.

    These are `[key]` for a mapping's key, and the value of `kind` where one of several sections is chosen by it.
    """
    path: list[str | int] = []
    for key in loc:
        here = nested(data, *path)
        tag = isinstance(here, Mapping) and key not in here and here.get("kind") == key
        if key != "[key]" and not tag:
            path.append(key)
    return path


def _faults(detail: ErrorDetails, model: type[BaseModel], data: Any) -> list[Fault]:
    path, value, context = _path(detail["loc"], data), detail.get("input"), detail.get("ctx", {})
    kind, where = detail["type"], join(*path)
    reason = context.get("error")
    if isinstance(reason, Wrong):
        return [
            Fault(join(where, f.path), value if f.value is None and not f.path else f.value, f.problem, f.remedy)
            for f in reason.faults
        ]
    if kind == "missing":
        return [Fault(where, None, "is missing", f"give it: {_meaning(model, path)}")]
    if kind == "extra_forbidden":
        sections = _sections(model, path[:-1], data)
        known = [name for section in sections for name in section.model_fields]
        why = next((f": {section.NOT_HERE[key]}" for section in sections if issubclass(section, Section)
                    for key in (str(path[-1]),) if key in section.NOT_HERE), "")  # fmt: skip
        return [Fault(where, value, f"is no known key{why}", _did_you_mean(str(path[-1]), known))]
    if kind in ("literal_error", "union_tag_invalid"):
        expected = context.get("expected") or context.get("expected_tags") or ""
        words = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        if kind == "union_tag_invalid":
            where, value = join(where, "kind"), context.get("tag")
        remedy = f"{_hint(str(value), words)}write one of them: {_meaning(model, path)}"
        return [Fault(where, value, f"{show(value)} is none of {', '.join(words)}", remedy)]
    if kind == "union_tag_not_found":
        return [Fault(join(where, "kind"), None, "is missing", f"give it: {_meaning(model, path)}")]
    if kind in _BOUNDS:
        bound, words_ = _BOUNDS[kind]
        limit = f" {context[bound]:g}" if bound in context else ""
        return [Fault(where, value, f"{show(value)} is {words_}{limit}", _meaning(model, path))]
    for prefix, name in _KINDS.items():
        if kind.startswith(prefix):
            return [Fault(where, value, f"{show(value)} is not {name}", _type_remedy(name, value, model, path))]
    return [Fault(where, value, detail["msg"], _meaning(model, path))]


def _type_remedy(name: str, value: Any, model: type[BaseModel], path: list[str | int]) -> str:
    if isinstance(value, str) and name in ("true or false", "a whole number", "a number"):
        return f"write {name}, without quotes"
    return f"write {name}: {_meaning(model, path)}"


def _did_you_mean(word: str, known: list[str]) -> str:
    return f"{_hint(word, known)}known are {', '.join(known)}"


def _hint(word: str, known: list[str]) -> str:
    """The one of `known` that was probably meant, as a question; empty if none is like it."""
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    close = close or [name for name in names if len(word) > 1 and name.startswith(word.lower())]
    return f"did you mean {names[close[0]]}? " if close else ""


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a value of type `annotation` may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def _step(annotation: Any, key: str | int) -> tuple[Any, str]:
    """The type and the description of what stands under `key` in a value of type `annotation`."""
    for model in _models_in(annotation):
        if key in model.model_fields:
            field = model.model_fields[str(key)]
            return field.annotation, field.description or ""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return arguments[1], ""
    if typing.get_origin(annotation) is tuple:
        return arguments[0], ""
    return None, ""


def _meaning(model: type[BaseModel], path: list[str | int]) -> str:
    """The description of the key at `path`, or of the nearest one above it that has one."""
    annotation: Any = model
    meaning = ""
    for key in path:
        annotation, description = _step(annotation, key)
        meaning = description or meaning
    return meaning[:1].lower() + meaning[1:].rstrip(".") if meaning else "see pillar/defaults.yaml"


def _sections(model: type[BaseModel], path: list[str | int], data: Any) -> list[type[BaseModel]]:
    """What the section at `path` may be."""
    annotation: Any = model
    for key in path:
        annotation, _ = _step(annotation, key)
    models = _models_in(annotation)
    kind = nested(data, *path, "kind")
    chosen = [
        m for m in models if "kind" in m.model_fields and kind in typing.get_args(m.model_fields["kind"].annotation)
    ]
    return chosen or models
