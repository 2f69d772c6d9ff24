"""Between the old suite's file and a cluster's configuration nothing is lost; a fault is told where the file has it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnha import config
from mnha.errors import ConfigurationError, Fault, InputError
from mnha.oldsuite import conversion, file, sample
from tests.support.configurations import pillars
from tests.support.example import example_pillar


def cluster_of(old: file.OldConfig, base: dict[str, Any], vm: str = "mnvm") -> config.ClusterConfig:
    return config.load_mapping(conversion.to_cluster(old, base, vm))


def example() -> config.ClusterConfig:
    return config.load(example_pillar())


def the_file(**changes: Any) -> str:
    """The example's file with some values changed."""
    return json.dumps({**conversion.from_cluster(example(), "mnvm"), **changes})


@settings(max_examples=100, deadline=None)
@given(pillars(), st.data())
def test_a_cluster_survives_the_old_file(pillar: dict[str, Any], data: st.DataObject) -> None:
    cluster = config.load(pillar)
    vm = data.draw(st.sampled_from(sorted(cluster.vms)))
    text = json.dumps(conversion.from_cluster(cluster, vm))
    old, corrections = file.read(text)
    assert corrections == []
    assert cluster_of(old, cluster.to_mapping(), vm) == cluster
    assert file.read(json.dumps(conversion.from_cluster(cluster_of(old, cluster.to_mapping(), vm), vm)))[0] == old


def test_what_the_file_says_replaces_what_the_cluster_has_and_all_else_stays() -> None:
    before = example()
    old, _ = file.read(the_file(MemorySizeInGB=16, CPU=8, DNS=["9.9.9.9"], ChronyServers=["ntp1"]))
    after = cluster_of(old, before.to_mapping())
    assert (after.vms["mnvm"].memory_mib, after.vms["mnvm"].cpus, after.vms["mnvm"].dns) == (16384, 8, ("9.9.9.9",))
    assert after.chrony_servers == ("ntp1",)
    assert after.nodes == before.nodes
    assert after.vms["mnvm"].uuid == before.vms["mnvm"].uuid


def test_the_storage_address_of_a_node_that_the_cluster_has_not_is_missing() -> None:
    before = example()
    nodes = [f"172.20.198.{3 + number} {name}" for number, name in enumerate(["node1", "node2", "node4"])]
    with pytest.raises(ConfigurationError) as error:
        cluster_of(file.read(the_file(Node=nodes))[0], before.to_mapping())
    told = {fault.path: fault.problem for fault in conversion.in_the_file(error.value.faults, "mnvm")}
    assert told["Node:node4:storage"] == "is missing"


@pytest.mark.parametrize(
    ("changes", "path", "problem"),
    [
        ({"CPU": 2}, "CPU", "2 is below the minimum of 4"),
        ({"MemorySizeInGB": 4}, "MemorySizeInGB", "4096 is below the minimum of 8192"),
        ({"Node": ["172.20.198.3 node1"]}, "Node", "1 nodes form no cluster"),
        ({"Network": []}, "Network", "0 networks have `management: true`"),
    ],
)
def test_what_only_the_whole_shows_is_told_where_the_file_has_it(changes: Any, path: str, problem: str) -> None:
    old, _ = file.read(the_file(**changes))
    with pytest.raises(ConfigurationError) as error:
        cluster_of(old, example().to_mapping())
    told = conversion.in_the_file(error.value.faults, "mnvm")
    assert any(problem in fault.problem for fault in told if fault.path == path), told


def test_a_gateway_outside_is_told_where_the_file_has_it() -> None:
    text = the_file().replace('172.20.198.1"', '172.20.199.1"')
    with pytest.raises(ConfigurationError) as error:
        cluster_of(file.read(text)[0], example().to_mapping())
    assert [fault.path for fault in conversion.in_the_file(error.value.faults, "mnvm")] == ["Network:0:Gateway"]


def test_a_path_that_the_file_has_not_stays() -> None:
    faults = [Fault("mnha:cluster:vms:mnvm:uuid", 1, "x", "y")]
    assert [fault.path for fault in conversion.in_the_file(faults, "mnvm")] == ["mnha:cluster:vms:mnvm:uuid"]


def test_which_vm_it_is_about() -> None:
    pillar = example_pillar()
    vms = pillar["mnha"]["cluster"]["vms"]
    assert conversion.the_vm(config.load(pillar)) == "mnvm"
    other = {**vms["mnvm"], "uuid": "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c12", "image": "other.img"}
    other["networks"] = [{**vms["mnvm"]["networks"][0], "mac": "52:54:00:5a:01:02", "address": "172.20.198.11"}]
    vms["other"] = other
    both = config.load(pillar)
    assert conversion.the_vm(both, "other") == "other"
    for wrong in ("", "third"):
        with pytest.raises(InputError, match="mnvm.*other"):
            conversion.the_vm(both, wrong)


CEPH = {"Type": "CephConf", "MonAddrs": ["10.0.0.1", "10.0.0.2:6789"], "PoolName": "mn", "ImageFolder": ""}


def test_a_disk_goes_to_ceph_and_back() -> None:
    there = cluster_of(file.read(the_file(**CEPH))[0], example().to_mapping())
    rbd = there.vms["mnvm"].rbd
    assert rbd is not None
    assert (rbd.pool, rbd.monitors, rbd.image_of("mnvm")) == ("mn", ("10.0.0.1", "10.0.0.2:6789"), "mn/mnvm")
    assert (there.vms["mnvm"].image, there.image_folder) == (None, None)
    back = cluster_of(file.read(the_file())[0], there.to_mapping())
    assert back.vms["mnvm"].image == "mnvm.img"
    assert back.vms["mnvm"].rbd is None


def test_what_the_file_does_not_say_of_a_disk_in_ceph_stays() -> None:
    there = cluster_of(file.read(the_file(**CEPH))[0], example().to_mapping()).to_mapping()
    there["vms"]["mnvm"]["rbd"] |= {"image": "manager", "user": "cloud"}
    old, _ = file.read(the_file(**{**CEPH, "PoolName": "other"}))
    rbd = cluster_of(old, there).vms["mnvm"].rbd
    assert rbd is not None
    assert (rbd.pool, rbd.image, rbd.user) == ("other", "manager", "cloud")


def test_a_vm_that_boots_from_a_folder_needs_it_with_its_disk_in_ceph_too() -> None:
    base = example().to_mapping()
    base["vms"]["mnvm"]["boot"] = {"kernel": "vmlinuz"}
    with pytest.raises(ConfigurationError) as error:
        cluster_of(file.read(the_file(**CEPH))[0], base)
    assert [fault.path for fault in conversion.in_the_file(error.value.faults, "mnvm")] == ["ImageFolder"]
    assert cluster_of(file.read(the_file(**{**CEPH, "ImageFolder": "/mn"}))[0], base).image_folder == "/mn"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("rbd:pool", "PoolName"),
        ("rbd:monitors:1", "MonAddrs:1"),
        ("rbd", "Type"),
        ("rbd:user", "mnha:cluster:vms:mnvm:rbd:user"),
    ],
)
def test_a_fault_of_a_disk_in_ceph_is_told_where_the_file_has_it(path: str, told: str) -> None:
    faults = conversion.in_the_file([Fault(f"mnha:cluster:vms:mnvm:{path}", 1, "x", "y")], "mnvm")
    assert [fault.path for fault in faults] == [told]


def test_the_samples_are_what_a_cluster_can_have() -> None:
    for kind in sample.KINDS:
        old, corrections = file.read(sample.text(kind))
        assert corrections == []
        assert cluster_of(old, example().to_mapping()).vms["mnvm"].cpus == 4
