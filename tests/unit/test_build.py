"""Which commit a tree is: by git, by the file that goes with a copy, and never by that of other code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from mnha.master import build


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree without git."""
    library = tmp_path / "clone/salt" / build.LIBRARY
    library.mkdir(parents=True)
    (library / "one.py").write_text("1\n")
    return tmp_path / "clone/salt"


def git(tree: Path, *words: str) -> str:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.net", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", "-C", str(tree.parent), *who, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def clone(tree: Path) -> Path:
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message=one", "--date=2026-01-02T03:04:05Z")
    return tree


def test_of_a_tree_that_is_no_clone_nothing_is_known(tree: Path) -> None:
    assert build.of_tree(tree) == {}


def test_a_clone_is_told_by_git(clone: Path) -> None:
    found = build.of_tree(clone)
    assert (found["branch"], found["commit"]) == ("main", git(clone, "rev-parse", "HEAD"))
    assert found["date"] == git(clone, "log", "-1", "--format=%cI")
    assert found["library"] == build.digest(clone / build.LIBRARY)


def test_a_clone_that_was_edited_says_so(clone: Path) -> None:
    (clone / build.LIBRARY / "one.py").write_text("2\n")
    assert build.of_tree(clone)["commit"] == f"{git(clone, 'rev-parse', 'HEAD')} and changes"


def test_a_copy_is_told_by_its_file_until_it_is_edited(clone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy/salt"
    copy.parent.mkdir()
    subprocess.run(["cp", "-r", str(clone), str(copy)], check=True)
    (copy / build.FILE).write_text(json.dumps(build.of_tree(clone)))
    assert build.of_tree(copy) == build.of_tree(clone)
    (copy / build.LIBRARY / "two.py").write_text("")
    assert build.of_tree(copy) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "1"])
def test_a_file_that_says_nothing_is_none(tree: Path, text: str) -> None:
    (tree / build.FILE).write_text(text)
    assert build.of_tree(tree) == {}


def test_without_git_nothing_is_known(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(clone))
    assert build.of_tree(clone) == {}
