"""`.ci/run` passes on what `make test` says, and is stricter than pytest: a skip fails, and so does no test at all."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.example import ROOT

CASES = [
    # what, what `make test` prints, its exit status, that of .ci/run
    ("passed", "12 passed in 0.34s", 0, 0),
    ("passed with a frame and minutes", "===== 12 passed, 1 warning in 83.10s (0:01:23) =====", 0, 0),
    ("passed in two runs", "3 passed in 0.1s\n4 passed in 0.2s", 0, 0),
    ("failed", "1 failed, 11 passed in 0.34s", 2, 2),
    ("skipped", "11 passed, 1 skipped in 0.34s", 0, 1),
    ("skipped in the first of two runs", "11 passed, 1 skipped in 0.34s\n3 passed in 0.1s", 0, 1),
    ("no test", "no tests ran in 0.01s", 5, 5),
    ("no test, but content", "no tests ran in 0.01s", 0, 1),
    ("all deselected", "5 deselected in 0.01s", 0, 1),
    ("nothing printed", "", 0, 1),
    ("a test that prints about skips", "checked 3 skipped lines\n2 passed in 0.1s", 0, 0),
]


@pytest.mark.parametrize(("output", "made", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_outcome_of_ci(tmp_path: Path, output: str, made: int, expected: int) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    (tmp_path / "said").write_text(f"{output}\n", encoding="utf-8")
    fake = tmp_path / "bin/make"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ "$*" = test ] && cat said\nexit {made}\n', encoding="utf-8")
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    run = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == expected, run.stdout
    closing = run.stdout.split("closing lines:")[1]
    assert all(line in closing for line in output.splitlines() if line.endswith("s") and " in " in line)
