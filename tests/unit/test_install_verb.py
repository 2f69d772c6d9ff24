"""`mnha.install` and `mnha.bootstrap`, loaded by Salt on a master without daemons: what comes before the nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import salt.config
import salt.loader
import yaml

from mnha.oldsuite import sample
from tests.support.example import ROOT, example_with

TREE = ROOT / "salt"
Runners = Callable[..., dict[str, Any]]


class Master:
    """A master with the minions that it has accepted, of which none answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        written = (TREE / "states/salt/files/master.conf").read_text().replace("/srv/mnha", str(ROOT))
        self.opts = {**salt.config.master_config(None), **yaml.safe_load(written), "root_dir": str(folder),
                     "cachedir": str(folder / "cache"), "pki_dir": str(folder / "pki"), "sock_dir": str(folder / "s"),
                     "conf_file": str(folder / "master"), "mnha_guard_file": str(folder / "guard.json"),
                     "mnha_secrets_folder": str(folder / "secrets"),
                     "pillar_roots": {"base": [str(folder / "pillar")]}}  # fmt: skip
        (folder / "pillar").mkdir()
        (folder / "pki/minions").mkdir(parents=True)
        (folder / "master").write_text(yaml.safe_dump({"sock_dir": str(folder / "s"), "root_dir": str(folder)}))

    def accept(self, changes: dict[str, Any]) -> None:
        """Three minions, and a pillar that makes them a cluster."""
        (self.folder / "pillar/top.sls").write_text("base: {'*': [cluster]}")
        (self.folder / "pillar/cluster.sls").write_text(yaml.safe_dump(example_with(changes)))
        for number in (1, 2, 3):
            (self.folder / f"pki/minions/node{number}").write_text("")

    def run(self, verb: str, *words: Any, **named: Any) -> tuple[int, dict[str, Any]]:
        """Exit code, and what the verb says of the cluster."""
        runners = salt.loader.runner(self.opts, utils=salt.loader.utils(self.opts))
        data = dict(runners[f"mnha.{verb}"](*words, **named)["data"])
        code = data.pop("retcode", 0)
        (part,) = data.values()
        return code, part

    def made(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in (self.folder / "secrets").rglob("*"))


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def old_file(folder: Path, **changes: str) -> str:
    text = sample.text("FileConf")
    for old, new in changes.items():
        text = text.replace(f'"{old}": 4', f'"{old}": {new}')
    (folder / "old.json").write_text(text)
    return str(folder / "old.json")


def test_an_old_file_without_a_pillar_is_told_with_what_it_lacks_and_a_pillar_to_fill_in(
    master: Master, tmp_path: Path
) -> None:
    path = old_file(tmp_path)
    code, told = master.run("install", path)
    assert code == 1
    assert "a cluster needs more than it says" in told["comment"]
    assert [line.partition(": ")[0] for line in told["faults"][path]][:2] == [
        "mnha:cluster:name", "mnha:cluster:nodes:node1:storage",
    ]  # fmt: skip
    assert yaml.safe_load(told["pillar"])["mnha"]["cluster"]["nodes"]["node1"]["management"] == "172.20.198.3"
    assert master.made() == []


def test_faults_of_an_old_file_come_first(master: Master, tmp_path: Path) -> None:
    path = old_file(tmp_path, CPU="2")
    code, told = master.run("install", path)
    assert (code, told["comment"]) == (1, f"1 fault in {path}")
    assert told["faults"][path][0].startswith("CPU: ")


def test_a_wrong_pillar_is_told_as_a_whole_and_nothing_is_done(master: Master) -> None:
    master.accept({"vms:mnvm:cpus": 2, "timings": "quick"})
    code, told = master.run("install")
    assert (code, told["comment"]) == (1, "2 faults in the pillar of node1, node2, node3")
    assert master.made() == []


def test_where_no_master_runs_nothing_is_done(master: Master) -> None:
    master.accept({})
    code, told = master.run("install")
    assert (code, told["kind"]) == (1, "unreachable")
    assert master.made() == []


def test_secrets_are_told_in_a_rehearsal_and_made_without_one(master: Master) -> None:
    master.accept({})
    code, told = master.run("bootstrap", "example", test=True)
    assert (code, told["result"], master.made()) == (0, True, [])
    code, done = master.run("bootstrap", "example")
    assert (code, sorted(done["created"]), done["kept"]) == (0, told["created"], 0)
    code, again = master.run("bootstrap", "example", test=True)
    assert (code, again["created"]) == (0, [])


def test_secrets_of_an_unknown_cluster_are_a_failure(master: Master) -> None:
    master.accept({})
    code, told = master.run("bootstrap", "nowhere")
    assert (code, told["result"]) == (1, False)
    assert "known are example" in told["comment"]
