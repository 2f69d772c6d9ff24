"""Every known-bad variant is caught, by a layer that the table names."""

from __future__ import annotations

import pytest

from .mutants import MUTANTS, Caught, by_constructor, by_scenarios, by_tests, written

TABLE = written()


def still_caught(caught: Caught) -> bool:
    """Whether what stands in the table still holds; the layers that cost least are tried first."""
    mutant = MUTANTS[caught.name]
    if caught.scenarios:
        return bool(by_scenarios(mutant, caught.scenarios))
    if caught.seed:
        return bool(mutant.find([int(caught.seed)]))
    if caught.constructor:
        return bool(by_constructor(mutant))
    return bool(caught.unit and by_tests(caught.name, [caught.unit]))


def test_the_table_has_all_variants() -> None:
    assert list(TABLE) == list(MUTANTS), "python -m tests.simulation.mutants --write"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_layer_catches(name: str) -> None:
    assert still_caught(TABLE[name]), "python -m tests.simulation.mutants --write tries all layers anew"


def test_what_is_right_is_not_caught() -> None:
    """Else the layers would prove nothing."""
    from .mutants import Mutant

    right = Mutant("nothing")
    assert by_constructor(right) == ""
    assert by_scenarios(right) == []
    assert right.find(range(20)) is None
