"""What a runner's verb returns, whatever ends it."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.master.verbs import BROKEN_OFF, run_for


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit(0)])
def test_who_breaks_a_verb_off_is_told_that_what_was_ordered_goes_on(signal: BaseException) -> None:
    """Salt turns Ctrl-C into the second one."""

    def work(name: str, nodes: list[str]) -> dict[str, Any]:
        raise signal

    found = run_for("c", ["n1"], work)
    assert found["data"]["retcode"] == 1
    assert (found["data"]["c"]["result"], found["data"]["c"]["comment"]) == (False, BROKEN_OFF)
