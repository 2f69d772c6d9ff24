"""Timings that are not safe can't be made."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnha.core.timing import ELECTION_S, MARGIN_S, PROFILES, SKEW, Timings
from mnha.errors import ConfigurationError


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profiles_are_safe_and_survive_the_record(name: str) -> None:
    timings = PROFILES[name]
    assert Timings.from_dict(timings.to_dict()) == timings


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1.0, 5.0, 2.0, 7.3), "7.3 > (5 + 2) · 1.01 + 0.25 = 7.32"),
        ((2.0, 5.0, 2.0, 8.0), "2 · 3 = 6 ≤ 5"),
        ((0.5, 2.4, 1.0, 8.0), "2 + 0.5 = 2.5 ≤ 2.4"),
    ],
)
def test_a_violated_inequality_is_named_with_its_numbers(numbers: tuple[float, ...], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Timings(*numbers)
    assert words in caught.value.message


def test_all_violations_are_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Timings(renew_s=2.0, deadline_s=3.0, kill_s=2.0, lease_s=4.0)
    assert [fault.path for fault in caught.value.faults] == ["timings:lease_s", "timings:renew_s", "timings:deadline_s"]


@pytest.mark.parametrize("value", [0, -1, "5", None, True, float("nan"), float("inf"), 60.5])
def test_what_is_no_number_of_seconds_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="lease_s: is no number of seconds"):
        Timings(renew_s=1.0, deadline_s=5.0, kill_s=2.0, lease_s=value)  # type: ignore[arg-type]


def test_unknown_and_missing_names_are_refused() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Timings.from_dict({"renew_s": 1.0, "deadline_s": 5.0, "kill_s": 2.0, "leese_s": 8.0})
    assert {fault.path for fault in caught.value.faults} == {"timings:lease_s", "timings:leese_s"}


def near(renew_s: float, kill_s: float, deadline_more_s: float, lease_more_s: float) -> tuple[float, ...]:
    """Timings that differ by so much from what the inequalities just allow. Any four are mostly refused."""
    deadline_s = max(3 * renew_s, ELECTION_S + renew_s) + deadline_more_s
    return renew_s, deadline_s, kill_s, (deadline_s + kill_s) * (1 + SKEW) + MARGIN_S + lease_more_s


MORE = st.sampled_from([-1.0, -0.3, -0.2, -0.001, 0.0, 0.001, 1.0])


@given(st.builds(near, st.floats(0.1, 10.0), st.floats(0.1, 25.0), MORE, MORE))
@settings(max_examples=500)
def test_no_timings_exist_with_which_two_nodes_could_run_the_vm(numbers: tuple[float, float, float, float]) -> None:
    """The holder's clock as slow, the observer's as fast as allowed: the old VM is dead when the lease expires."""
    try:
        timings = Timings(*numbers)
    except ConfigurationError:
        return
    assert timings.lease_s / (1 + SKEW) > timings.reset_s
    assert timings.lease_s - timings.reset_s > MARGIN_S
    assert timings.deadline_s >= max(3 * timings.renew_s, ELECTION_S + timings.renew_s)
