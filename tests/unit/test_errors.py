"""The exception tree, and how an error crosses the guard's socket."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from mnha import errors

CLASSES = [
    errors.InputError,
    errors.ConfigurationError,
    errors.RefusedError,
    errors.UnreachableError,
    errors.DeadlineError,
    errors.FailedError,
    errors.BugError,
]


@pytest.mark.parametrize("class_", CLASSES)
def test_every_error_keeps_its_kind_and_message_across_the_socket(class_: type[errors.MnhaError]) -> None:
    error = class_("node2 holds the lease")
    back = errors.from_wire(error.to_wire())
    assert (back.kind, back.message, str(back)) == (error.kind, error.message, "node2 holds the lease")
    assert error.kind in typing.get_args(errors.Kind)


def test_every_kind_of_the_protocol_has_an_error() -> None:
    assert {class_.kind for class_ in CLASSES} == set(typing.get_args(errors.Kind))


@pytest.mark.parametrize(
    "wire", [{}, {"kind": "broken", "message": "x"}, {"kind": "refused"}, {"kind": [], "message": "x"}]
)
def test_an_error_outside_the_protocol_is_a_bug(wire: dict[str, Any]) -> None:
    assert isinstance(errors.from_wire(wire), errors.BugError)


def test_one_fault_is_the_message_and_several_are_a_list() -> None:
    one = errors.Fault("a:b", 3, "is three", "write four")
    assert str(errors.ConfigurationError(faults=[one])) == "a:b: is three; write four"
    several = errors.ConfigurationError(faults=[one, errors.Fault("c", None, "is missing", "")])
    assert str(several) == "2 faults in the configuration:\n  a:b: is three; write four\n  c: is missing"
    assert several.faults[1].path == "c"


def test_a_message_of_its_own_goes_before_the_faults() -> None:
    assert str(errors.ConfigurationError("lease_s is too short")) == "lease_s is too short"
    assert errors.ConfigurationError("x").faults == ()
