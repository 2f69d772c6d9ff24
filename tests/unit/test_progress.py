"""Long work tells how far it is, and short work nothing."""

from __future__ import annotations

import threading

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
