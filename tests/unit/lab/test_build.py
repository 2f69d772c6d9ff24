"""The lab's cache of pieces."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lab import build
from lab.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path, state=tmp_path)


def piece(settings: Settings, recipe: str) -> Path:
    """A piece that is made of its recipe."""
    return build.piece(settings, "cake", [recipe], lambda folder: (folder / "recipe").write_text(recipe) and None)


def age(folder: Path, seconds: float) -> None:
    """Let it be as if nobody had asked for it for so long."""
    then_s = time.time() - seconds
    os.utime(folder, (then_s, then_s))


def test_a_piece_is_made_once_for_a_recipe(settings: Settings) -> None:
    first = piece(settings, "eggs")
    (first / "recipe").write_text("kept")
    assert piece(settings, "eggs") == first
    assert (first / "recipe").read_text() == "kept"


def test_a_piece_that_another_lab_asked_for_lately_is_kept(settings: Settings) -> None:
    old = piece(settings, "eggs")
    age(old, build.KEPT_S - 60.0)
    piece(settings, "flour")
    assert old.is_dir()


def test_a_piece_that_nobody_asks_for_is_removed_when_another_is_made(settings: Settings) -> None:
    old, asked_for = piece(settings, "eggs"), piece(settings, "milk")
    age(old, build.KEPT_S + 60.0)
    age(asked_for, build.KEPT_S + 60.0)
    piece(settings, "milk")
    new = piece(settings, "flour")
    assert [folder.is_dir() for folder in (old, asked_for, new)] == [False, True, True]
