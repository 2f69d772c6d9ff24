"""Every known-bad variant of the guard is caught, by the layer that its table names."""

from __future__ import annotations

import importlib

import pytest

from .mutants import MUTANTS, Mutant, seeds_of_table
from .world import ViolationError

AROUND = 40
"""Seeds that are tried when the world has changed and the known seed does not catch a variant any more."""


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if not mutant.test])
def test_sweep_catches(name: str) -> None:
    mutant = MUTANTS[name]
    known = seeds_of_table().get(name, 0)
    assert mutant.find((known, *range(AROUND))), "python -m tests.simulation.mutants --write finds the seeds anew"


@pytest.mark.parametrize(
    "mutant", [mutant for mutant in MUTANTS.values() if mutant.test], ids=lambda mutant: mutant.what
)
def test_named_test_catches(mutant: Mutant) -> None:
    path, name = mutant.test.split("::")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    function = getattr(module, name)
    marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    arguments = {mark.args[0]: mark.args[1][0] for mark in marks}
    function(**arguments)
    with mutant.applied(), pytest.raises((AssertionError, ViolationError)):
        function(**arguments)
