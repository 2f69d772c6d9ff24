"""What the bench of migrations makes of its rounds."""

from __future__ import annotations

from tests.bench import migrate
from tests.bench.bed import Round

TOLD = {"took_s": 2.5, "downtime_s": 0.21}
RECORDED = {"figures": {"downtime_ms": 61}}


def test_what_was_told_of_a_migration_becomes_moments_and_what_nobody_knows_is_missing() -> None:
    assert migrate.moments(TOLD, RECORDED) == {"whole": 2.5, "by_clocks": 0.21, "by_libvirt": 0.061}
    assert migrate.moments({**TOLD, "downtime_s": None}, {"figures": None}) == {"whole": 2.5}


def test_the_targets_are_three_seconds_in_all_and_a_third_of_one_without_the_guest() -> None:
    rounds = [Round(number, moments={"whole": 2.9, "standstill": 0.31}) for number in (1, 2)]
    met = {m.name: m.is_met() for m in migrate.measures(rounds) if m.targets}
    assert met == {migrate.TITLES["whole"]: True, migrate.TITLES["standstill"]: False}
    assert {m.missing for m in migrate.measures([Round(1, fault="it failed")])} == {1}
