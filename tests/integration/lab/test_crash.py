"""Whatever moment the lab is killed at, `down` finds and removes all that it had made.

The tests use a lab of their own name, beside any other that may be up.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAME = "lab-crash-test"
STATE = Path("/var/lib") / NAME

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "lab", *words]


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MNHA_LAB_STATE")}
    return {**kept, "MNHA_LAB_NAME": NAME, **more}


def lab(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=ROOT, env=env or environment(), capture_output=True, text=True, timeout=900, check=False
    )


def remains(patience_s: float = 5) -> list[str]:
    """Everything that is left; processes may take a moment to die, when their group is empty already."""
    end = time.monotonic() + patience_s
    while (found := look_for_remains()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def look_for_remains() -> list[str]:
    """Everything on this machine that still belongs to the lab of this test."""
    found = [f"mount {line}" for line in Path("/proc/self/mounts").read_text().splitlines() if NAME in line]
    found += [str(path) for path in (Path("/run/netns") / NAME, STATE, Path(f"/run/{NAME}.state")) if path.exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{NAME}")]
    found += [str(path) for path in Path("/run/systemd/nspawn/propagate").glob(f"{NAME}-*")]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "cmdline").read_bytes() + (folder / "cgroup").read_bytes()
            is_dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            continue
        if is_dead:  # its parent, the machine's PID 1, will fetch its exit code
            continue
        if NAME.encode() in text:
            found.append(f"process {folder.name}: {text[:200]!r}")
    return found


@pytest.fixture
def clean_machine() -> Iterator[None]:
    lab("down")
    yield
    lab("down")


def kill_up_after(seconds: float, said: str, env: Mapping[str, str]) -> bool:
    """Starts `up`, waits for a line with `said`, then kills it after `seconds`. False if it had ended before."""
    process = subprocess.Popen(
        command("up", "--no-provision"), cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr
    for line in process.stderr:
        if said in line:
            break
    time.sleep(seconds)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stderr.close()
    return alive


@pytest.mark.nightly
@needs_root
@pytest.mark.usefixtures("clean_machine")
def test_down_removes_what_a_killed_up_has_made_at_any_moment():
    built = lab("build")
    assert built.returncode == 0, built.stderr
    killed_in_the_middle = 0
    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.1):
        killed_in_the_middle += kill_up_after(delay_s, "starting 3 nodes", environment())
        done = lab("down")
        assert done.returncode == 0, done.stderr
        assert remains() == [], f"killed {delay_s} s after the nodes' start began"
    assert killed_in_the_middle >= 3


@needs_root
@pytest.mark.usefixtures("clean_machine")
def test_down_ends_what_a_killed_build_has_left_running(tmp_path: Path):
    env = environment(MNHA_LAB_CACHE=str(tmp_path / "cache"))
    assert kill_up_after(2.0, "base: Debian", env)
    done = lab("down", env=env)
    assert done.returncode == 0, done.stderr
    assert remains() == []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            assert str(tmp_path).encode() not in (folder / "cmdline").read_bytes()
        except OSError:
            continue
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@needs_root
@pytest.mark.usefixtures("clean_machine")
def test_up_begins_by_removing_what_a_killed_up_has_left():
    assert kill_up_after(0.5, "starting 3 nodes", environment()), "`up` had ended: nothing was left half made"
    assert (STATE / "lab.json").exists()
    left = STATE / "nodes" / "left-behind"
    left.parent.mkdir(exist_ok=True)
    left.touch()
    done = lab("up", "--no-provision")
    assert done.returncode == 0, done.stderr
    assert not left.exists()
    assert lab("run", "node3", "--", "hostname").stdout == "node3\n"
    assert lab("down").returncode == 0
    assert remains() == []


@needs_root
@pytest.mark.usefixtures("clean_machine")
def test_commands_without_a_cluster_say_how_to_make_one():
    for words in (["run", "node1", "--", "true"], ["poweroff", "node1"], ["cut", "node1", "mgmt"]):
        done = lab(*words)
        assert done.returncode == 1
        assert "lab up" in done.stderr
    assert lab("down").returncode == 0
