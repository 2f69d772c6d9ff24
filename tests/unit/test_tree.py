"""A copy of what Salt has synchronised is told from one that is not. By Salt's own loader."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader

from tests.support.example import ROOT


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Any]:
    synced = tmp_path / "extmods"
    (synced / "utils").mkdir(parents=True)
    (synced / "modules").symlink_to(ROOT / "salt/_modules")
    (synced / "utils/mnha").symlink_to(ROOT / "salt/_utils/mnha")

    def loaded(**more: Any) -> Any:
        opts = salt.config.minion_config(None)
        opts.update(id="node1", extension_modules=str(synced), cachedir=str(tmp_path / "cache"), file_client="local")
        opts.update(more)
        return salt.loader.minion_mods(opts, utils=salt.loader.utils(opts), context={})["mnha_tree.is_synced"]

    return loaded


@pytest.fixture
def is_synced(load: Callable[..., Any]) -> Any:
    return load()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    made = tmp_path / "copy"
    shutil.copytree(ROOT / "salt/_utils/mnha", made, ignore=shutil.ignore_patterns("__pycache__"))
    return made


def test_a_copy_is_the_same_whatever_python_has_compiled_there(is_synced: Any, copy: Path) -> None:
    (copy / "core/__pycache__").mkdir()
    (copy / "core/__pycache__/lease.pyc").write_bytes(b"x")
    assert is_synced(str(copy), "utils/mnha")


def edit(copy: Path) -> None:
    path = copy / "core/lease.py"
    path.write_bytes(path.read_bytes()[:-1] + b" ")  # of the same length


@pytest.mark.parametrize(
    "change",
    [
        edit,
        lambda copy: (copy / "errors.py").unlink(),
        lambda copy: (copy / "more.py").touch(),
        lambda copy: (copy / "keys.py").rename(copy / "core/keys.py"),
        shutil.rmtree,
    ],
    ids=["edited", "missing", "more", "moved", "gone"],
)
def test_another_one_is_not(is_synced: Any, copy: Path, change: Callable[[Path], Any]) -> None:
    change(copy)
    assert not is_synced(str(copy), "utils/mnha")


def test_what_was_not_synchronised_is_never_the_same(is_synced: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert not is_synced(str(tmp_path / "empty"), "runners")


def test_where_a_run_does_not_synchronise_nothing_is_judged_by_it(load: Callable[..., Any], copy: Path) -> None:
    assert not load(autoload_dynamic_modules=False)(str(copy), "utils/mnha")
