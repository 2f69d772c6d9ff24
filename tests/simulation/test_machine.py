"""hypothesis plays with the world; and finds, in few steps, what is wrong with a guard that is."""

from __future__ import annotations

import pytest

from . import machine
from .mutants import MUTANTS

EXAMPLES = 400


def test_no_play_breaks_an_invariant() -> None:
    machine.run(EXAMPLES)


def test_a_counter_example_is_short() -> None:
    """A guard that takes a kill for done is found by the order that has the VM killed."""
    with MUTANTS["off_assumed"].applied(), pytest.raises(AssertionError) as failure:
        machine.run(EXAMPLES)
    steps = [line for line in "\n".join(failure.value.__notes__).splitlines() if line.startswith("state.")]
    done = [line for line in steps if "all_is_as_it_must_be" not in line]
    assert done[0].startswith("state.begin(")
    assert 2 <= len(done) <= 6, done
