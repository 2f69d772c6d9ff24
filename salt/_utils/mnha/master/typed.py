"""What an operator types after a verb, checked before anything is done: all faults at once, and a failing exit code.

Salt itself ends with exit code 0 after arguments that a runner does not take, and with a stack trace after a value of a
wrong type. Needs nothing but the standard library: a verb has to say something where Salt's packages are lost, too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import InputError, MnhaError
from . import verbs

Verb = Callable[..., dict[str, Any]]
After = Callable[[str, Mapping[str, Any], dict[str, Any]], object]
"""Of the verb's name, the arguments that were given, and what it returned."""


def change(after: After) -> Callable[[Verb], Verb]:
    """As :func:`verb`, for a verb that changes something.

    :param after: hears of it when it is done, well or not.
    """
    return lambda function: verb(function, after)


def verb(function: Verb, after: After = lambda name, given, returned: None) -> Verb:
    """A runner's function that checks its arguments, and whose errors are told as those of its work.

    Annotations say what an argument may be: `str`, `int`, `float`, `bool`, and such a one `| None`.
    """
    signature, name = inspect.signature(function), f"mnha.{function.__name__}"

    @functools.wraps(function)
    def checked(*words: Any, **named: Any) -> dict[str, Any]:
        named = {key: value for key, value in named.items() if not key.startswith("__")}  # what Salt adds
        try:
            given = arguments(signature, name, words, named)
            returned = function(**given)
        except MnhaError as error:
            cluster = named.get("cluster") or "mnha"
            return verbs.returned(str(cluster), {"result": False, "comment": error.message, "kind": error.kind})
        after(name, given, returned)
        return returned

    del checked.__wrapped__  # or Salt would refuse by its signature, with exit code 0
    return checked


def arguments(
    signature: inspect.Signature, name: str, words: Sequence[Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments by name, each of the type that the signature says.

    :param name: what the verb is called, for the message.
    :param words: those without a name.
    :raises InputError: with all that is wrong.
    """
    parameters = signature.parameters
    places = [key for key, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    faults = [f"{word!r} is a word too many" for word in words[len(places) :]]
    given = dict(zip(places, words, strict=False))
    faults += [f"{key} is given twice" for key in named if key in given]
    faults += [f"{key}={value!r} is not known" for key, value in named.items() if key not in parameters]
    given |= {key: value for key, value in named.items() if key in parameters}
    missing = [key for key, one in parameters.items() if one.default is one.empty and key not in given]
    faults += [f"{key} is missing" for key in missing]
    result = {}
    for key, value in given.items():
        try:
            result[key] = _converted(str(parameters[key].annotation), value)
        except ValueError as error:
            faults.append(f"{key} is {value!r}: give {error}")
    if faults:
        raise InputError(f"{name}: {'; '.join(faults)}. It takes {_usage(parameters)}; `salt-run -d {name}` tells more")
    return result


def _converted(annotation: str, value: Any) -> Any:
    """A value as what an annotation says.

    :raises ValueError: it is none; says what to give.
    """
    kinds = annotation.split(" | ")
    if value is None and "None" in kinds:
        return None
    if isinstance(value, bool):
        if "bool" in kinds:
            return value
    elif "str" in kinds and isinstance(value, str | int | float):
        return str(value)
    elif "int" in kinds or "float" in kinds:
        return _number(value, whole="int" in kinds)
    raise ValueError(_WANTED[kinds[0]])


def _number(value: Any, whole: bool) -> int | float:
    """A number of what was typed.

    :raises ValueError: it is none; says what to give.
    """
    wanted = ValueError(_WANTED["int" if whole else "float"])
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise wanted from None
    if number <= 0 or number != number or (whole and not number.is_integer()):
        raise wanted
    return int(number) if whole else number


_WANTED = {"str": "a name", "int": "a whole number above 0", "float": "a number above 0", "bool": "True or False"}


def _usage(parameters: Mapping[str, inspect.Parameter]) -> str:
    """Which arguments there are, as they are typed."""
    named = [one for one in parameters.values() if one.kind is one.KEYWORD_ONLY]
    words = [one.name.upper() for one in parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    return " ".join([*words, *(f"{one.name}={'…' if one.default is None else one.default}" for one in named)])
