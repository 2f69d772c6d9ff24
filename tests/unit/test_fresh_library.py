"""A run that has just synchronised new modules must not work with the library as it was before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "salt" / "_utils" / "mnha"

SCRIPT = """
import os, sys, time
import mnha, mnha.errors
first = mnha.errors
assert not mnha.forget_if_changed() and sys.modules["mnha.errors"] is first
path = first.__file__
open(path, "a").write("\\nADDED = 1\\n")
os.utime(path, (time.time() + 5, time.time() + 5))
assert mnha.forget_if_changed() and "mnha.errors" not in sys.modules
from mnha import errors
assert errors is not first and errors.ADDED == 1 and not hasattr(first, "ADDED")
"""


def test_a_changed_library_is_imported_anew(tmp_path: Path) -> None:
    shutil.copytree(LIBRARY, tmp_path / "mnha", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, check=True)
