"""Every folder of ``scenarios/`` is a test, named by its sentence. And a scenario can fail, and be wrong."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from .scenario import FOLDER, SEEDS, Scenario, ScenarioError, UnmetError, every, read

ALL = every()


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.name)
def test_scenario(scenario: Scenario) -> None:
    for seed in SEEDS:
        scenario.check(seed)


def test_there_are_many_scenarios_and_each_says_why() -> None:
    assert len(ALL) >= 40
    assert sorted(scenario.name for scenario in ALL) == sorted(path.name for path in FOLDER.iterdir())
    assert [scenario.name for scenario in ALL if len(scenario.what.split()) < 5] == []


@pytest.mark.parametrize(
    "expected",
    [
        {"told": ["n1 power lost", "n2 taken", "n2 qemu"]},
        {"told": ["n1 power lost", "n3 taken", "n3 qemu", "n3 started"]},
        {"told first": ["n2 taken"]},
        {"never told": ["n2 qemu"]},
        {"once": ["n1 killed"]},
        {"running": "n3"},
        {"running": "nobody"},
        {"times": {"n2 taken": "0 to 5"}},
        {"times": {"n3 taken": "0 to 50"}},
        {"times": {"any node taken": "8.2 to 50"}},
        {"answers": {"n2": ["refused: "]}},
        {"answers": {"n2": []}},
        {"violation": "alive on"},
    ],
    ids=str,
)
def test_an_expectation_that_is_not_met_fails(expected: dict[str, Any]) -> None:
    power_loss = read(FOLDER / "the_holder_loses_its_power/scenario.yaml")
    with pytest.raises(UnmetError, match=r"(?s)the_holder_loses_its_power, seed 1:.*n2 +taken"):
        dataclasses.replace(power_loss, expected=expected).check(1)


def test_a_letter_stands_for_one_node_throughout() -> None:
    power_loss = read(FOLDER / "the_holder_loses_its_power/scenario.yaml")
    same = {"told": ["n1 power lost", "A taken", "A qemu", "A started"], "running": "A"}
    dataclasses.replace(power_loss, expected=same).check(1)
    with pytest.raises(UnmetError, match="seed 1"):
        dataclasses.replace(power_loss, expected={"told": ["n1 power lost", "A taken", "B qemu", "B started"]}).check(1)


GOOD = "what: It must be so.\ntimeline: {0.0: the end}\ntold: []\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("the end", "n1 explodes"), "nobody knows how to do: n1 explodes"),
        (GOOD.replace("told: []", ""), "expected is {}"),
        (GOOD + "tolled: []\n", "unknown are .'tolled'."),
        (GOOD.replace("timeline: {0.0: the end}", ""), "KeyError.'timeline'"),
        (GOOD.replace("0.0: the end", "5.0: the end, 1.0: the end"), "1.0 s comes after 5.0 s"),
        (GOOD + "world: {colour: red}\n", "KeyError.'colour'"),
        (GOOD + "world: {watchdog: perhaps}\n", "KeyError.'perhaps'"),
        (GOOD + "begins: somehow\n", "begins somehow"),
    ],
    ids=["deed", "nothing expected", "key", "no timeline", "order", "world", "watchdog", "begins"],
)
def test_a_scenario_that_can_not_be_read_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(GOOD, encoding="utf-8")
    read(path).check(1)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=words):
        read(path)
