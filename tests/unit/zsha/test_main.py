"""What is typed: the verbs, what `salt-run` is asked for, exit codes, and a machine that is no node."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.shell import wait_until
from mnha.master import build
from mnha.oldsuite import sample
from mnha.zsha import __main__ as zsha
from mnha.zsha import reading
from tests.support.example import ROOT
from tests.support.fake_guard import FakeCluster


@pytest.fixture
def salt_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `salt-run` that notes its words, and answers and ends as the files beside it say."""
    program = tmp_path / "salt-run"
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/words\ncat {tmp_path}/answer\nexit $(cat {tmp_path}/code)\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def answers(folder: Path, part: Any, code: int = 0) -> None:
    (folder / "answer").write_text(json.dumps({"example": part, "retcode": code}) if isinstance(part, dict) else part)
    (folder / "code").write_text(str(code))


def test_help_has_all_verbs_but_the_hidden_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert zsha.main([]) == 0
    printed = capsys.readouterr().out
    page = (ROOT / "salt/states/guard/files/zsha.8").read_text().replace("\\-", "-")
    for verb in ("status", "status-conf", "migrate", "migrate-abort", "stop", "start", "check-config", "config-sample",
                 "export-config", "import-config", "history", "install", "uninstall"):  # fmt: skip
        assert verb in printed
        assert verb in page
        for shell in ("bash", "zsh"):
            assert f" {verb} " in (ROOT / f"salt/states/guard/files/zsha.{shell}").read_text().replace('"', " ")
    assert "reset" not in printed


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["migrate", "172.20.198.4"], "--out=json mnha.migrate node=172.20.198.4"),
        (["migrate", "node2", "--offline"], "--out=json mnha.migrate node=node2 offline=True"),
        (["migrate-abort"], "--out=json mnha.migrate_abort"),
        (["stop"], "--out=json mnha.stop"),
        (["config-sample", "FileConf"], "--out=json mnha.config_sample kind=FileConf"),
        (["import-config", "/x/y.json"], "--out=json mnha.import_config file=/x/y.json"),
        (["reset-MNVM-password"], "--out=json mnha.reset_password"),
        (["install"], "--out=json mnha.install"),
        (["install", "-c", "/x/y.json"], "--out=json mnha.install file=/x/y.json"),
        (["uninstall"], "--out=json mnha.uninstall"),
        (["uninstall", "--yes-i-really-really-mean-it"], "--out=json mnha.uninstall yes_i_really_really_mean_it=True"),
    ],
)
def test_what_salt_run_is_asked_for(
    salt_run: Path, capsys: pytest.CaptureFixture[str], typed: list[str], words: str
) -> None:
    answers(salt_run, {"result": True, "comment": "done"})
    assert zsha.main(typed) == 0
    assert (salt_run / "words").read_text().strip() == words
    assert capsys.readouterr().out == "done\n"


def test_a_file_is_taken_from_where_one_is(
    salt_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(salt_run, {"result": False, "comment": "2 faults", "faults": {"y.json": ["CPU: a", "DNS: b"]}}, 1)
    monkeypatch.chdir(salt_run)
    assert zsha.main(["import-config", "y.json"]) == 1
    assert (salt_run / "words").read_text().split()[-1] == f"file={salt_run}/y.json"
    assert capsys.readouterr().out == "y.json: CPU: a\ny.json: DNS: b\n2 faults\n"


def test_what_salt_run_says_otherwise_is_shown_and_is_a_failure(
    salt_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(salt_run, "Function mnha.stop is not available")
    assert zsha.main(["stop"]) == 1
    assert "not available" in capsys.readouterr().out


def test_without_salt_what_changes_something_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert zsha.main(["start"]) == 2
    assert "salt-run can't be begun" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "status-conf", "export-config", "history"])
def test_a_machine_that_is_no_node_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.setattr(reading, "look", lambda: reading.configuration(Path("/nowhere/guard.json")))
    monkeypatch.setattr(reading, "history", lambda: reading.configuration(Path("/nowhere/guard.json")))
    assert zsha.main([verb]) == 2
    assert "no node of a cluster" in capsys.readouterr().err


def test_what_is_in_force_is_exported_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.zsha.test_shapes import CLUSTER

    path = tmp_path / "current.json"
    monkeypatch.setattr(zsha, "EXPORTED", str(path))
    monkeypatch.setattr(reading, "look", lambda: ({}, CLUSTER))
    assert zsha.main(["export-config"]) == 0
    assert json.loads(path.read_text())["MemorySizeInGB"] == 8
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setattr(zsha, "EXPORTED", str(tmp_path / "no/current.json"))
    assert zsha.main(["export-config"]) == 1
    assert '"CPU": 4' in capsys.readouterr().out, "where it can't be written it is shown"
    monkeypatch.setattr(reading, "look", lambda: ({}, {}))
    assert zsha.main(["export-config"]) == 2


def test_a_file_is_checked_without_salt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(reading, "look", lambda: ({}, {}))
    path = tmp_path / "one.json"
    path.write_text(sample.text("FileConf"))
    assert zsha.main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "config file check pass"
    path.write_text(sample.text("FileConf").replace('"CPU": 4', '"CPU": 2'))
    assert zsha.main(["check-config", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "CPU" in printed
    assert "1 fault in" in printed
    monkeypatch.setattr(reading, "look", lambda: reading.configuration(Path("/nowhere/guard.json")))
    path.write_text(sample.text("FileConf"))
    assert zsha.main(["check-config", str(path)]) == 0, "on a machine that is no node, too"
    assert "checked by itself, for what is in force is not known: " in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["gbk", "iso-8859-1", "ascii"])
def test_what_a_terminal_has_not_is_shown_all_the_same(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(sample.text("FileConf").replace('"CPU": 4', '"CPU"： 4 // ö'))
    words = [sys.executable, "-m", "mnha.zsha", "check-config", str(path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils"), "PYTHONIOENCODING": encoding}
    done = subprocess.run(words, env=env, capture_output=True, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert done.stdout.endswith(b"config file check pass\n")


def test_where_nothing_can_be_shown_it_fails_and_says_why() -> None:
    words = [sys.executable, "-m", "mnha.zsha", "-h"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            words, env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")}, stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode != 0
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "verb",
    ["status", "status-conf", "history", "export-config", "check-config", "config-sample", "import-config", "migrate",
     "stop", "start", "install", "uninstall", "reset-MNVM-password"],
)  # fmt: skip
def test_every_verb_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert zsha.main([verb, "-h"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: zsha {verb}")


@pytest.mark.parametrize(
    "typed",
    [["stauts"], ["migrate"], ["migrate", ""], ["check-config", " "], ["status", "now"], ["uninstall", "--yes"],
     ["install", "x"]],
)  # fmt: skip
def test_wrong_words_do_nothing_and_end_with_2(salt_run: Path, typed: list[str]) -> None:
    """Nor is the word by which everything is removed taken when it is not written in full."""
    answers(salt_run, {"result": True, "comment": "done"})
    assert zsha.main(typed) == 2
    assert not (salt_run / "words").exists()


def test_the_password_of_an_installation_is_not_needed_and_not_handed_on(
    salt_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(salt_run, {"result": True, "comment": "done"})
    assert zsha.main(["install", "-p", "secret", "-c", "/x/y.json"]) == 0
    assert "secret" not in (salt_run / "words").read_text()
    assert "-p is not needed" in capsys.readouterr().err


def test_what_would_be_removed_is_shown_and_is_a_failure(salt_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = {"result": False, "comment": "nothing was removed", "removed": {"node1": ["file /a", "service b"]}}
    answers(salt_run, part, 1)
    assert zsha.main(["uninstall"]) == 1
    assert capsys.readouterr().out == "node1: file /a\nnode1: service b\nnothing was removed\n"


def test_a_pillar_is_shown_as_it_is(salt_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(salt_run, {"result": False, "comment": "write it", "pillar": "mnha:\n  cluster: 1\n"}, 1)
    assert zsha.main(["install"]) == 1
    assert "mnha:\n  cluster: 1\n" in capsys.readouterr().out


def test_the_version_of_the_guard_is_asked_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeCluster(tmp_path, ["node1"]):
        monkeypatch.setattr(reading, "configuration", lambda: {"socket": str(tmp_path / "node1.sock")})
        assert zsha.main(["-v"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == ["App Version", "Build Date", "Branch Name", "Commit ID", "Guard"]
    assert told[-1] == "Guard: fake"


def test_the_commit_is_that_of_the_library_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "configuration", lambda: {"socket": str(tmp_path / "none.sock")})
    (tmp_path / "mnha/zsha").mkdir(parents=True)
    monkeypatch.setattr(zsha, "__file__", str(tmp_path / "mnha/zsha/__main__.py"))
    made = {"date": "2026-01-02T03:04:05+00:00", "branch": "main", "commit": "abc"}
    for library, told in ((build.digest(tmp_path / "mnha"), "abc"), ("of other code", "not known")):
        (tmp_path / build.FILE).write_text(json.dumps({**made, "library": library}))
        assert zsha.main(["-v"]) == 0
        assert f"Commit ID: {told}\n" in capsys.readouterr().out


SLOW = """#!/bin/sh
trap 'echo ended >{folder}/ended; exit 1' INT
echo $$ >{folder}/began
while :; do sleep 0.1; done
"""


def slow(folder: Path, number: int, *, group: bool) -> subprocess.Popen[str]:
    """`zsha stop` that was sent a signal in the middle: alone, or with all that it has begun, as a terminal does."""
    (folder / "salt-run").write_text(SLOW.format(folder=folder))
    zsha_ = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-m", "mnha.zsha", "stop"], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")},
    )  # fmt: skip
    wait_until(lambda: (folder / "began").exists() and (folder / "began").read_text(), 30, "salt-run has begun")
    (os.killpg if group else os.kill)(zsha_.pid, number)
    return zsha_


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_what_is_broken_off_ends_in_order_and_leaves_nothing(salt_run: Path, number: int, group: bool) -> None:
    """`salt-run` writes into the history what was typed, also then."""
    with slow(salt_run, number, group=group) as broken_off:
        _, said = broken_off.communicate(timeout=60)
    assert (broken_off.returncode, said) == (130, "zsha: broken off\n")
    assert (salt_run / "ended").exists()


def test_what_can_not_be_printed_is_told_by_its_place() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mnha.zsha", "help"], stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2, "zsha: what it has to say can't be written to its standard output: No space left on device\n"
    )  # fmt: skip


def test_a_closed_standard_output_is_no_traceback() -> None:
    command = [f'exec "{sys.executable}" -m mnha.zsha help >&-']
    done = subprocess.run(
        ["sh", "-c", *command], stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
