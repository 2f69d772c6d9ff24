"""The script of the lab's chaos: the same for a seed, in the simulation's words, and of some variety."""

from __future__ import annotations

from itertools import islice

from tests.integration.faults.chaos import BEYOND_SIMULATION, KINDS, script, target
from tests.integration.faults.test_chaos import SEED
from tests.simulation import faults


def test_a_seed_gives_the_same_script_each_time_and_another_seed_another() -> None:
    assert list(islice(script(7), 50)) == list(islice(script(7), 50))
    assert list(islice(script(7), 50)) != list(islice(script(8), 50))


def test_the_kinds_have_the_words_of_the_simulation() -> None:
    assert set(KINDS) - set(faults.KINDS) == BEYOND_SIMULATION


def test_a_long_script_has_every_kind_and_steps_in_order() -> None:
    bursts = list(islice(script(SEED), 200))
    assert {step.kind for burst in bursts for step in burst} == set(KINDS)
    assert all(list(burst) == sorted(burst, key=lambda step: step.at_s) for burst in bursts)


def test_what_every_run_of_the_tests_plays_has_the_dangerous_faults_on_the_holder() -> None:
    on_holder = {step.kind for burst in islice(script(SEED), 5) for step in burst if step.where % 4 == 0}
    everywhere = {step.kind for burst in islice(script(SEED), 5) for step in burst}
    assert {"freeze", "cut up", "no leader", "crash", "fencer crash"} <= on_holder
    assert {"power", "stall", "release", "cut", "masters dead", "desired", "fencer stall"} <= everywhere


def test_every_fourth_number_strikes_the_holder_if_there_is_one() -> None:
    names = ["node1", "node2", "node3"]
    assert [target(where, names, "node3") for where in (0, 4, 5)] == ["node3", "node3", "node3"]
    assert [target(where, names, "") for where in (0, 1, 2)] == names
