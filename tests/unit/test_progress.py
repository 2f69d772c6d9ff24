"""Long work tells how far it is, and short work nothing."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from mnha.master import progress


def test_what_takes_long_is_told_again_and_again() -> None:
    said: list[str] = []
    enough = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 3:
            enough.set()

    with progress.waiting("until the VM is off", first_s=0.01, every_s=0.01, say=say):
        assert enough.wait(10)
    assert said[0] == "waiting until the VM is off: 0 s so far"
    count = len(said)
    assert not threading.Event().wait(0.1)
    assert len(said) == count, "it ends with what is waited for"


def test_what_is_soon_done_needs_no_word() -> None:
    said: list[str] = []
    with progress.waiting("until the VM is off", first_s=60.0, say=said.append):
        pass
    assert said == []


def test_it_ends_with_an_error_too() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="x"), progress.waiting("for nothing", first_s=60.0):
        raise ValueError("x")
    assert threading.active_count() == before


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def far(percent: int, outcome: str = "") -> dict[str, Any]:
    return {"node": "node1", "migration": {"percent": percent, "outcome": outcome}}


def test_a_migration_is_told_in_the_old_suites_words() -> None:
    said = io.StringIO()
    shown = progress.Migration(said)
    shown.begin("node1", "node2")
    for percent in (0, 3, 42, 47, 55):
        shown.show(far(percent))
    shown.end(arrived=True)
    assert said.getvalue().splitlines() == [
        "Migrate from node1 to node2", "Migration: [  0 %]", "Migration: [ 42 %]", "Migration: [ 55 %]",
        "Migration: [100 %]",
    ]  # fmt: skip


def test_on_a_terminal_the_line_is_replaced_and_ended() -> None:
    said = Terminal()
    shown = progress.Migration(said)
    shown.show(far(42))
    shown.show(far(43))
    shown.end(arrived=False)
    assert said.getvalue() == "\rMigration: [ 42 %]\rMigration: [ 43 %]\n"
    said = Terminal()
    progress.Migration(said).end(arrived=True)
    assert said.getvalue() == "\rMigration: [100 %]\n"


@pytest.mark.parametrize(
    "told", [None, {}, {"migration": None}, {"migration": {"percent": None, "outcome": ""}}, far(100, "done"), "text"]
)
def test_what_says_nothing_of_a_migration_that_goes_on_is_not_shown(told: Any) -> None:
    said = io.StringIO()
    shown = progress.Migration(said)
    shown.show(told)
    shown.end(arrived=False)
    assert said.getvalue() == ""
