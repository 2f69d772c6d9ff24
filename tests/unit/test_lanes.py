"""The lanes of all tests: judged by the same rule, stricter than pytest's, and never left running."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lanes import LANES, Lane, Running, judge, run, started
from tests.support.example import ROOT

CASES = [
    # what, a lane's log, the commands of it that failed, what the verdict says
    ("passed", "12 passed in 0.34s", [], ""),
    ("passed with a frame and minutes", "===== 12 passed, 1 warning in 83.10s (0:01:23) =====", [], ""),
    ("passed in two runs", "3 passed in 0.1s\n4 passed in 0.2s", [], ""),
    ("failed", "1 failed, 11 passed in 0.34s", ["pytest"], "failed: pytest"),
    ("a linter failed", "11 passed in 0.34s", ["ruff"], "failed: ruff"),
    ("skipped", "11 passed, 1 skipped in 0.34s", [], "skipped"),
    ("skipped in the first of two runs", "11 passed, 1 skipped in 0.34s\n3 passed in 0.1s", [], "skipped"),
    ("no test", "no tests ran in 0.01s", ["pytest"], "no test was passed"),
    ("no test, but content", "no tests ran in 0.01s", [], "no test was passed"),
    ("all deselected", "5 deselected in 0.01s", [], "no test was passed"),
    ("nothing printed", "", [], "no test was passed"),
    ("ended before its closing line", "tests/unit/test_x.py ....", [], "no test was passed"),
    ("a test that prints about skips", "checked 3 skipped lines\n2 passed in 0.1s", [], ""),
]


@pytest.mark.parametrize(("text", "failed", "said"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_verdict_on_a_lane(text: str, failed: list[str], said: str) -> None:
    verdict = judge(text, failed)
    assert bool(verdict.faults) == bool(said)
    assert said in "; ".join(verdict.faults)
    assert list(verdict.closing) == [line for line in text.splitlines() if " in " in line]


def shell(name: str, *scripts: str, live: bool = False) -> Lane:
    return Lane(name, tuple(("sh", "-c", script) for script in scripts), live)


GOOD = "echo '3 passed in 0.1s'"


@pytest.mark.parametrize(
    ("one", "other", "well"),
    [
        ((GOOD,), (GOOD,), True),
        ((GOOD, "false"), (GOOD,), False),
        ((GOOD,), ("false", GOOD), False),
        ((GOOD,), ("kill -9 $$",), False),
        ((GOOD,), ("true",), False),
        ((GOOD, "no-such-program"), (GOOD,), False),
    ],
)
def test_a_failure_in_either_lane_fails_all(
    tmp_path: Path, one: tuple[str, ...], other: tuple[str, ...], well: bool
) -> None:
    said: list[str] = []
    assert run([shell("one", *one, live=True), shell("other", *other)], tmp_path, said.append) is well


def test_what_failed_in_both_lanes_is_named_last(tmp_path: Path) -> None:
    said: list[str] = []
    lanes = [
        shell(name, f"echo 'FAILED tests/{name}.py::test_x - why'; echo '1 failed, 1 passed in 0.1s'; false", live=live)
        for name, live in (("one", True), ("other", False))
    ]
    assert not run(lanes, tmp_path, said.append)
    assert "".join(said).splitlines()[-2:] == [f"FAILED tests/{name}.py::test_x - why" for name in ("one", "other")]


def test_a_lane_goes_on_after_a_command_that_failed(tmp_path: Path) -> None:
    said: list[str] = []
    assert not run([shell("one", "false", GOOD)], tmp_path, said.append)
    assert "3 passed in 0.1s" in "".join(said)


def test_the_lane_that_takes_longest_is_shown_as_it_goes(tmp_path: Path) -> None:
    """It goes on when what it said was seen."""
    seen = tmp_path / "seen"
    lane = shell("one", f"{GOOD}; timeout 30 sh -c 'until [ -e {seen} ]; do sleep 0.01; done'", live=True)
    assert run([lane], tmp_path, lambda text: seen.touch() if re.search("^3 passed", text, re.M) else None)


def test_a_lane_that_is_idle_gets_what_others_leave(tmp_path: Path) -> None:
    """Its own processes are idle, and so is its session among the others."""
    said: list[str] = []
    lane = Lane("one", (("sh", "-c", "chrt --pid $$; cat /proc/self/autogroup"),), live=True, idle=True)
    run([lane], tmp_path, said.append)
    assert "SCHED_IDLE" in "".join(said)
    assert "nice 19" in "".join(said) or not Path("/proc/self/autogroup").exists()


def test_nothing_is_left_running(tmp_path: Path) -> None:
    mark = f"86399.{os.getpid()}"
    with (
        contextlib.suppress(KeyboardInterrupt),
        started([shell("one", f"exec sleep {mark}")], tmp_path) as (lane,),
    ):
        while not running(mark):
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not lane.alive
    assert not was_forced(lane)
    assert not running(mark)


def test_a_lane_can_be_stopped_at_once(tmp_path: Path) -> None:
    """Whether its first command is there yet or not."""
    for _ in range(20):
        with started([shell("one", "exec sleep 60", "exec sleep 60")], tmp_path) as (lane,):
            pass
        assert not lane.alive
        assert not was_forced(lane)


def test_what_hangs_is_stopped_in_time_and_shown(tmp_path: Path) -> None:
    said: list[str] = []
    lanes = [shell("one", GOOD), shell("other", f"{GOOD}; printf 'here it %s' hangs; exec sleep 86399", GOOD)]
    assert not run(lanes, tmp_path, said.append, limit_s=5.0)
    shown = "".join(said)
    assert "here it hangs" in shown
    assert re.search(r"lane one, [\d.]+ min: well", shown)
    assert "did not end within" in shown.partition("--- lane other")[2]


def test_a_command_that_leaves_a_process_running_has_ended_and_failed(tmp_path: Path, monkeypatch) -> None:
    """Also if what it left holds its output open; it would have been waited for until CI gives up."""
    monkeypatch.setattr("tests.lanes.STOP_S", 0.5)
    mark = f"86398.{os.getpid()}"
    said: list[str] = []
    assert not run([shell("one", f"{GOOD}; sleep {mark} &", GOOD)], tmp_path, said.append)
    assert "left processes running" in "".join(said)
    end_s = time.monotonic() + 30
    while running(mark) and time.monotonic() < end_s:
        time.sleep(0.01)
    assert not running(mark)


def test_who_breaks_all_off_sees_where_each_lane_was(tmp_path: Path) -> None:
    said: list[str] = []

    def show(text: str) -> None:
        said.append(text)
        if not text and b"it is here" in (tmp_path / "other.log").read_bytes():
            raise KeyboardInterrupt

    lanes = [shell("one", "exec sleep 60", live=True), shell("other", "printf 'it is %s' here; exec sleep 60")]
    with pytest.raises(KeyboardInterrupt):
        run(lanes, tmp_path, show)
    assert "it is here" in "".join(said)


def was_forced(lane: Running) -> bool:
    """Whether what ran in it had to be killed."""
    return any(f"ended with {-signal.SIGKILL}" in one for one in lane.failed)


def running(mark: str) -> list[Path]:
    """The processes with this word in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [path] if mark.encode() in path.read_bytes() else []
    return found


def test_every_test_is_in_a_lane_and_in_one_only() -> None:
    words = [word for lane in LANES for command in lane.commands for word in command if word.startswith("tests/")]
    run_by = {path: [word for word in words if path.is_relative_to(ROOT / word)]
              for path in (ROOT / "tests").rglob("test_*.py")}  # fmt: skip
    assert {path: by for path, by in run_by.items() if len(by) != 1} == {}


def test_ci_does_what_a_developer_does() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "exec make test" in script
    told = subprocess.run(["make", "-n", "-o", ".venv/.made-from-requirements", "test"], cwd=ROOT, capture_output=True,
                          text=True, check=True, timeout=30)  # fmt: skip
    assert "-m tests.lanes" in told.stdout
