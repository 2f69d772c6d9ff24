"""What a minion's failed answer says: as it stands, and with the remedy where the minion lacks the function."""

from __future__ import annotations

import pytest

from mnha.master.minions import Reply

BRINGS = "; its minion has lost modules of this project: `salt node2 state.apply` brings them,"


@pytest.mark.parametrize("value", ["'guard' __virtual__ returned False", "'guard.migrate' is not available."])
def test_a_function_that_the_minion_lacks_is_told_with_the_remedy(value: str) -> None:
    assert Reply("node2", value, False).said.startswith(value.rstrip(".") + BRINGS)


@pytest.mark.parametrize("value", ["ERROR: the tunnel is not available", "no 'guard.migrate' is not available", ""])
def test_what_only_sounds_like_it_stands_as_it_is(value: str) -> None:
    assert Reply("node2", value, False).said == value


def test_a_good_answer_is_what_it_is() -> None:
    assert Reply("node2", "'guard.migrate' is not available.", True).said == "'guard.migrate' is not available."
