"""The configuration as an operator reads and changes it: from files, to files, through the pillar into force."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mnha import config, keys
from mnha.errors import ConfigurationError, FailedError, InputError, RefusedError, UnreachableError
from mnha.master import configuration, given_file
from mnha.master.minions import Reply
from mnha.oldsuite import sample
from tests.support.example import example_pillar, example_with

NODES = ["node1", "node2", "node3"]
GOOD = {"guard_running": {"result": True, "__id__": "guard_running", "comment": ""}}
BAD = {"x": {"result": False, "__id__": "guard_running", "comment": "it does not start"}}


def cluster(changes: dict[str, Any] | None = None) -> config.ClusterConfig:
    return config.load(example_with(changes or {}))


class Site:
    """A master's pillar file, and nodes with a Consul that take what is applied.

    :ivar answers: node -> what its run of states returns, if it is not well.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "example.sls"
        self.file.write_text(yaml.safe_dump(example_pillar(), sort_keys=False))
        self.records: dict[str, Any] = {}
        self.answers: dict[str, Any] = {}
        self.heard: list[str] = []
        self.who = ""
        self.record(1, cluster())

    def record(self, version: int, found: config.ClusterConfig) -> None:
        one = json.loads(config.applied_to_json(config.Applied(version, found, self.who, 1.7e9)))
        self.records[keys.CONFIG] = self.records[keys.version(version)] = one

    def pillars(self) -> list[dict[str, Any]]:
        return [yaml.safe_load(self.file.read_text())] * len(NODES)

    def files(self) -> dict[Path, str]:
        return {self.file: self.file.read_text()}

    # ---- as the minions

    def each(
        self, nodes: Sequence[str], fun: str, kwarg: Any = None, timeout_s: float = 0, enough: Any = None,
        gone_s: float = 0.0,
    ) -> Any:  # fmt: skip
        if fun == "test.ping":
            return {node: Reply(node, True, True) for node in nodes if self.answers.get(node) != "asleep"}
        assert fun == "state.apply"
        self.who = kwarg["pillar"]["mnha_changed_by"]
        wanted = config.load(self.pillars()[0])
        if any(self.answers.get(node, GOOD) != "refused" for node in nodes):
            self.record(self.records[keys.CONFIG]["version"] + 1, wanted)
        replies = {node: Reply(node, self.answers.get(node, GOOD), True, 3.0) for node in nodes}
        enough(replies, 3.0)
        return replies

    def first(
        self, nodes: Sequence[str], fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 0
    ) -> Any:
        if fun == "consul_ha.quorum":
            return Reply("node2", True, True)
        if fun == "consul_ha.kv_get":
            found = self.records.get(kwarg["key"]) if kwarg else None
            return Reply("node1", found and {"value": found, "index": 1}, True)
        assert fun == "consul_ha.kv_list"
        return Reply("node1", {key: one for key, one in self.records.items() if key.startswith("versions/")}, True)

    def one(self, node: str, fun: str, kwarg: Mapping[str, Any], timeout_s: float = 0) -> Reply:
        assert (node, fun) == ("node2", "consul_ha.kv_put")
        self.records[kwarg["key"]] = kwarg["value"]
        return Reply(node, True, True)

    def change(self, changes: dict[str, Any]) -> tuple[int, dict[str, list[str]]]:
        files = self.files()
        plan = configuration.plan(cluster(changes), self.pillars, files)
        return configuration.carry_out(plan, self, NODES, self.pillars, files, "root@node1", self.heard.append)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def written(folder: Path, text: str, name: str = "x.json") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


# ---- files


def test_what_is_exported_is_read_back_in_both_forms(tmp_path: Path) -> None:
    before = cluster({"vms:mnvm:memory_mib": 16384})
    for form, name in (("json", "x.json"), ("pillar", "x.sls")):
        path = written(tmp_path, configuration.exported(before, form), name)
        given = given_file.read_file(path, cluster().to_mapping())
        assert (given.cluster, given.is_old, given.corrections) == (before, form == "json", ())
    with pytest.raises(InputError, match="json or pillar"):
        configuration.exported(before, "xml")


def test_what_is_in_force_is_shown_in_the_old_form() -> None:
    record = json.loads(config.applied_to_json(config.Applied(3, cluster())))
    assert configuration.shown(record)["mnvm"]["CPU"] == 4
    with pytest.raises(ConfigurationError, match="form 9"):
        configuration.shown({"v": 9})


def test_a_pillar_in_json_is_read_as_one(tmp_path: Path) -> None:
    given = given_file.read_file(written(tmp_path, json.dumps(example_pillar())), None)
    assert (given.cluster, given.is_old) == (cluster(), False)


@pytest.mark.parametrize("kind", ["FileConf", "CephConf"])
def test_a_sample_is_right_by_itself_before_there_is_a_cluster(tmp_path: Path, kind: str) -> None:
    assert given_file.read_file(written(tmp_path, sample.text(kind)), None).corrections == ()
    with pytest.raises(InputError, match="FileConf, CephConf"):
        sample.text("Ceph")


def test_faults_of_a_file_stand_where_it_has_them(tmp_path: Path) -> None:
    text = sample.text("FileConf").replace('"CPU": 4', '"CPU": 2').replace('172.20.198.1"', '172.20.199.1"')
    with pytest.raises(ConfigurationError) as error:
        given_file.read_file(written(tmp_path, text), None)
    assert [fault.path for fault in error.value.faults] == ["CPU", "Network:0:Gateway"]


def test_faults_of_a_key_and_of_the_whole_are_told_at_once(tmp_path: Path) -> None:
    value = json.loads(sample.text("FileConf"))
    value |= {"DNS": ["x"], "MemorySizeInGB": 2, "Node": value["Node"][:2], "CPU": "many"}
    with pytest.raises(ConfigurationError) as error:
        given_file.read_file(written(tmp_path, json.dumps(value)), None)
    assert [fault.path for fault in error.value.faults] == ["CPU", "DNS:0", "MemorySizeInGB", "Node"]


def test_what_stands_in_for_a_faulty_key_is_no_fault_of_another(tmp_path: Path) -> None:
    for changes in ({"Node": "x"}, {"Network": 1}, {"Type": "x"}, {"ImageFolder": 1}, {"Type": "CephConf", "CPU": "x"}):
        text = json.dumps(json.loads(sample.text("FileConf")) | changes)
        with pytest.raises(ConfigurationError) as error:
            given_file.read_file(written(tmp_path, text), None)
        wrong = {fault.path.partition(":")[0] for fault in error.value.faults}
        assert wrong <= {*changes, "MonAddrs", "PoolName"}, wrong


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.sls", "a: [", "is no YAML"),
        ("x.sls", "- a", "mnha:cluster: is missing"),
        ("x.sls", "a: 2001-99-99", "is no YAML"),
        ("x.sls", "a: !!int x", "is no YAML"),
        ("x.sls", "a: !!timestamp x", "is no YAML"),
        ("x.sls", "? [a]\n: 1", "is no YAML"),
        ("x.sls", "a: 1\nb: 2\na: 1", "a stands there twice"),
        ("x.sls", "[" * 2000, "nested too deeply"),
        ("x.yaml", '{"CPU": 4', "} is missing at the end"),
        ("x.json", "", "the file is empty"),
        ("x.json", "[1]", "no object"),
        ("x.json", '{"mnha": 1}', "mnha:cluster: is missing"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        given_file.read_file(written(tmp_path, text, name), None)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe{}")
    (tmp_path / "wide").write_bytes("{}".encode("utf-16-le"))
    (tmp_path / "large").write_bytes("é".encode() * 1024 * 1025)
    for path, words in (
        ("x.json", "whole path"),
        (str(tmp_path / "no"), "No such file"),
        (str(tmp_path), "directory"),
        ("/x\0y", "can't be read"),
        (str(tmp_path / "x"), "UTF-8"),
        (str(tmp_path / "wide"), "UTF-8"),
        (str(tmp_path / "large"), "larger than 1024 KiB"),
    ):
        with pytest.raises((InputError, ConfigurationError), match=words):
            given_file.read_file(path, None)


def test_an_old_file_is_one_whatever_its_name(tmp_path: Path) -> None:
    assert given_file.read_file(written(tmp_path, sample.text("FileConf"), "x.yaml"), None).is_old


def test_corrections_are_told_with_the_faults(tmp_path: Path) -> None:
    text = (
        sample.text("FileConf")
        .replace('"CPU": 4,', '"CPU": "4", // four')
        .replace('"ImageFolder": "', '"ImageFolder": "x')
    )
    found = given_file.check(written(tmp_path, text), None)
    assert found["result"] is False
    assert [line.partition(": ")[2] for line in found["corrections"]] == [
        "the comment // four is left out", "'4' is read as 4"
    ]  # fmt: skip


def test_a_file_is_written_as_a_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    configuration.write_file(str(path), "one")
    configuration.write_file(str(path), "two")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("two", 0o600)
    assert [one.name for one in tmp_path.iterdir()] == ["current.json"]


def test_a_link_that_lies_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="no file"):
        configuration.write_file(str(tmp_path / "link"), "x")
    assert (tmp_path / "other").read_text() == "precious"
    for path in (str(tmp_path), "relative"):
        with pytest.raises(InputError):
            configuration.write_file(path, "x")
    with pytest.raises(FailedError, match="can't be written"):
        configuration.write_file(str(tmp_path / "no/x"), "x")


# ---- into force


def test_a_change_is_written_into_the_pillar_and_applied(site: Site) -> None:
    assert site.change({"vms:mnvm:memory_mib": 16384}) == (2, {})
    assert configuration.in_force(site, NODES) == config.Applied(
        2, cluster({"vms:mnvm:memory_mib": 16384}), "root@node1", 1.7e9
    )
    assert any("node3: well, after 3 s" in line for line in site.heard)


def test_when_each_change_takes_effect_is_told(site: Site) -> None:
    plan = configuration.plan(cluster({"vms:mnvm:cpus": 8, "timings": "fast"}), site.pillars, site.files())
    assert plan.told() == {
        "at once": ["timings: 'default' → 'fast'"],
        "at the VM's next start": ["vms:mnvm:cpus: 4 → 8"],
    }


def test_what_needs_a_new_installation_is_refused(site: Site) -> None:
    with pytest.raises(RefusedError, match=r"nodes:node1:storage: .* only by a new installation"):
        site.change({"nodes:node1:storage": "192.168.93.33"})
    assert configuration.in_force(site, NODES).version == 1


def test_what_fails_on_a_node_is_told_and_it_stays_in_force(site: Site) -> None:
    site.answers["node2"] = BAD
    assert site.change({"timings": "fast"}) == (2, {"node2": ["guard_running: it does not start"]})
    assert configuration.in_force(site, NODES).cluster == cluster({"timings": "fast"})


def test_a_node_that_is_away_is_not_waited_for_and_told(site: Site) -> None:
    site.answers["node3"] = "asleep"
    version, faults = site.change({"timings": "fast"})
    assert (version, list(faults)) == (2, ["node3"])
    assert "was not applied there" in faults["node3"][0]
    assert not any("node3" in line for line in site.heard)


def test_where_nobody_answers_the_pillar_is_as_it_was(site: Site) -> None:
    before = site.file.read_text()
    site.answers = dict.fromkeys(NODES, "asleep")
    with pytest.raises(UnreachableError, match="nothing was changed"):
        site.change({"timings": "fast"})
    assert site.file.read_text() == before


def test_where_another_master_came_first_the_pillar_is_as_it_was(site: Site) -> None:
    before = site.file.read_text()
    site.answers = dict.fromkeys(NODES, "refused")
    with pytest.raises(FailedError, match="the pillar is as it was: node1: refused"):
        site.change({"timings": "fast"})
    assert site.file.read_text() == before


def test_what_another_master_wrote_meanwhile_is_left_as_it_is(site: Site) -> None:
    """Its change may have come first, and brought its pillar along: to put the old one back would undo that."""
    other = yaml.safe_dump(example_with({"announce_s": 1.0}), sort_keys=False)
    files, plan = site.files(), configuration.plan(cluster({"timings": "fast"}), site.pillars, site.files())

    def overwritten() -> list[dict[str, Any]]:
        site.file.write_text(other)
        return site.pillars()

    with pytest.raises(FailedError, match="written by somebody else meanwhile.*this change is not in force"):
        configuration.carry_out(plan, site, NODES, overwritten, files, "me", site.heard.append)
    assert site.file.read_text() == other


def test_where_another_file_has_the_last_word_the_pillar_is_as_it_was(site: Site) -> None:
    before = site.file.read_text()
    files, plan = site.files(), configuration.plan(cluster({"timings": "fast"}), site.pillars, site.files())
    with pytest.raises(FailedError, match="the last word on timings"):
        configuration.carry_out(plan, site, NODES, lambda: [example_pillar()], files, "me", site.heard.append)
    assert site.file.read_text() == before


def test_a_pillar_that_is_not_in_force_is_not_changed_further(site: Site) -> None:
    configuration.require_in_force(configuration.in_force(site, NODES), site.pillars)
    site.record(2, cluster({"timings": "fast"}))
    with pytest.raises(RefusedError, match=r"version 2 \(timings: 'fast' → 'default'\).*config_rollback 2"):
        configuration.require_in_force(configuration.in_force(site, NODES), site.pillars)


def test_a_node_is_known_by_its_name_and_its_addresses() -> None:
    for word in ("node2", "172.20.198.4", "192.168.93.4"):
        assert configuration.node_at(cluster(), word) == "node2"
    with pytest.raises(
        InputError, match=r"10.0.0.1 is no node of cluster example.*node3 \(172.20.198.5, 192.168.93.5\)"
    ):
        configuration.node_at(cluster(), "10.0.0.1")


def test_before_anything_was_applied_there_is_nothing_to_change(site: Site) -> None:
    site.records.clear()
    with pytest.raises(RefusedError, match="state.apply"):
        configuration.in_force(site, NODES)


def test_the_versions_and_what_each_changed(site: Site) -> None:
    site.change({"timings": "fast"})
    site.records["versions/00000009"] = {"v": 99}
    rows = configuration.told(site, NODES)
    assert [(row["version"], row["by"], row["changes"]) for row in rows] == [
        (1, "", "the oldest that is kept"), (2, "root@node1", "timings: 'default' → 'fast'"),
    ]  # fmt: skip
    assert rows[0]["at"] == "2023-11-14T22:13:20+00:00"
    kept = configuration.versions(site, NODES)
    assert configuration.require_version(kept, 1).cluster == cluster()
    with pytest.raises(InputError, match="no version 9; kept are 1, 2"):
        configuration.require_version(kept, 9)


def test_a_master_is_noted_as_knowing_what_is_in_force(site: Site) -> None:
    assert configuration.accept(site, NODES, "node3").version == 1
    assert site.records["masters/node3"] == {"version": 1}
