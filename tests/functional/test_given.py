"""What a master was given by another one and is not given any more: removed there, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.example import example_with
from tests.support.local_salt import LocalSalt

SECRETS = {
    "mnha_secrets": {"ca": "", "certificate": "", "key": "", "gossip_key": ""},
    "mnha_master": {
        "secrets": {"ca.pem": "CA", "salt/master.pem": "KEY", "salt/master.pub": "PUB"},
        "minion_keys": {"node1": "KEY1"},
        "pillar_files": {"top.sls": "base: {}"},
        "pillar_others": ["clusters/theirs.sls"],
    },
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> LocalSalt:
    made = LocalSalt(tmp_path_factory.mktemp("salt"), {**example_with({}), **SECRETS})
    made.here("saltutil.sync_all")
    return made


class Master:
    def __init__(self, local: LocalSalt, folder: Path) -> None:
        self.local, self.folder, self.record = local, folder, folder / "var/given.json"

    def has(self, *names: str) -> list[str]:
        for name in names:
            (self.folder / name).touch()
        return [str(self.folder / name) for name in names]

    def apply(self, files: list[str], *, is_source: bool = False, test: bool = False) -> dict[str, Any]:
        words = {"files": files, "is_source": is_source, "test": test}
        (one,) = self.local.here("state.single", "mnha_master.given", str(self.record), **words).values()
        return dict(one)

    def left(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_file()}


@pytest.fixture
def master(local: LocalSalt, tmp_path: Path) -> Master:
    return Master(local, tmp_path)


def test_what_is_not_given_any_more_is_removed_and_what_never_was_stays(master: Master) -> None:
    one, two = master.has("one", "two")
    master.has("own")
    assert master.apply([one, two])["changes"] == {}
    dry = master.apply([one], test=True)
    assert (dry["result"], dry["changes"], master.left()) == (None, {"removed": [two]}, {"one", "two", "own"})
    wet = master.apply([one])
    assert (wet["result"], wet["changes"], master.left()) == (True, {"removed": [two]}, {"one", "own"})
    assert master.apply([one])["changes"] == {}
    assert json.loads(master.record.read_text()) == [one]


def test_the_source_takes_nothing_from_itself_and_follows_as_a_receiver_later(master: Master) -> None:
    one, two = master.has("one", "two")
    master.apply([one, two], is_source=True)
    assert master.apply([one, two, *master.has("three")], is_source=True)["changes"] == {}
    assert master.apply([one, two])["changes"] == {"removed": [str(master.folder / "three")]}


def test_a_record_that_can_not_be_read_removes_nothing(master: Master) -> None:
    (one,) = master.has("one")
    master.record.parent.mkdir()
    master.record.write_text("{")
    told = master.apply([])
    assert (told["result"], master.left()) == (False, {"one"})
    assert "given.json can't be read" in told["comment"]
    assert one


def test_the_states_of_a_master_take_what_is_given_and_drop_what_is_another_clusters(local: LocalSalt) -> None:
    low = local.here("state.show_low_sls", "states.salt.master")
    by_id = {one["__id__"]: one for one in low if isinstance(one, dict)}
    assert by_id, low
    assert by_id["salt_master_no_pillar_clusters/theirs.sls"]["fun"] == "absent"
    assert by_id["salt_master_no_pillar_clusters/theirs.sls"]["name"] == "/srv/mnha/pillar/clusters/theirs.sls"
    given = by_id["salt_master_given"]
    assert not given["is_source"]
    assert set(given["files"]) == {
        "/srv/mnha/pillar/top.sls", "/etc/salt/pki/master/minions/node1", "/etc/mnha/secrets/example/ca.pem",
        "/etc/mnha/secrets/example/salt/master.pem", "/etc/mnha/secrets/example/salt/master.pub",
    }  # fmt: skip
