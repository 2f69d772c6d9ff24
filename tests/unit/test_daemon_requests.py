"""What a request to the guard may ask for."""

from __future__ import annotations

import pytest

from mnha.daemon import DEFAULT_WAIT_S, wait_of
from mnha.errors import InputError


@pytest.mark.parametrize(("given", "wait_s"), [({}, DEFAULT_WAIT_S), ({"wait_s": 5}, 5.0), ({"wait_s": 0.5}, 0.5)])
def test_the_time_to_wait(given: dict, wait_s: float) -> None:
    assert wait_of(given) == wait_s


@pytest.mark.parametrize("wait_s", [0, -1, True, "5", None, [], float("nan"), float("inf"), 1e999, 3601])
def test_no_time_to_wait_is_refused(wait_s: object) -> None:
    with pytest.raises(InputError, match="between 0 and 3600"):
        wait_of({"wait_s": wait_s})
