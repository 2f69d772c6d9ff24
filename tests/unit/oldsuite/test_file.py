"""The old suite's file as it is found: its keys, its per-node values, all its faults at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mnha.errors import ConfigurationError
from mnha.oldsuite import file
from mnha.oldsuite.schema import schema
from tests.support.example import ROOT

SAMPLE = """
// the nodes
{
    "Node": ["172.20.198.3 nfs-1", "172.20.198.4 nfs-2", "nfs-3  172.20.198.5 "],   // address name
    "MemorySizeInGB": "8"
    "CPU": 4,
    "Type": "FileConf",
    “MonAddrs”： null,
    "ChronyServers": ["ntp.example.org ", "172.20.198.3",],
    "PoolName": "",
    "ImageFolder": "/opt/smp/mngt",
    "DNS": ["223.5.5.5"],
    "Network": [{
        "Bridge": "br_bond1",
        "MacAddress": "52:54:00:5A:01:01",
        "Ipaddr": "172.20.198.10@nfs-1, 172.20.200.10@nfs-2, 172.20.210.10@nfs-3",
        "Netmask": "255.255.255.0",
        "Gateway": "172.20.198.1@nfs-1，172.20.200.1@nfs-2，172.20.210.1@nfs-3",
        "IsMgmt": "True",
        "IsDefRoute": true
    }],
    "ConsoleProxyOverridenIP": "172.20.198.10@nfs-1, 172.20.200.10@nfs-2, 172.20.210.10@nfs-3",
    "AllowResetRootPassword": false
}
"""


def test_a_page_that_was_copied_by_hand_is_read_and_each_correction_told() -> None:
    found, corrections = file.read(SAMPLE)
    assert found.addresses() == {"nfs-1": "172.20.198.3", "nfs-2": "172.20.198.4", "nfs-3": "172.20.198.5"}
    assert (found.MemorySizeInGB, found.CPU, found.ChronyServers) == (8, 4, ("ntp.example.org", "172.20.198.3"))
    gateways = {"nfs-1": "172.20.198.1", "nfs-2": "172.20.200.1", "nfs-3": "172.20.210.1"}
    assert (found.Network[0].Gateway, found.Network[0].IsMgmt) == (gateways, True)
    assert found.Network[0].MacAddress == "52:54:00:5a:01:01"
    assert found.ConsoleProxyOverriddenIP["nfs-3"] == "172.20.210.10"
    told = "\n".join(map(str, corrections))
    for part in [
        "line 2: the comment // the nodes is left out",
        'line 6: the comma that is missing before "CPU" is put in',
        'line 8: “MonAddrs” is read as "MonAddrs"',
        "line 9: the comma before ] is left out",
        "ChronyServers:0: the blanks around 'ntp.example.org' are left out",
        "Node:2: 'nfs-3  172.20.198.5' is read as '172.20.198.5 nfs-3'",
        "MemorySizeInGB: '8' is read as 8",
        "Network:0:IsMgmt: 'True' is read as True",
        "ConsoleProxyOverridenIP: is read as ConsoleProxyOverriddenIP",
    ]:
        assert part in told


def test_what_stands_there_right_is_not_told() -> None:
    assert file.read(json.dumps(whole()))[1] == []


def test_a_memory_that_is_no_whole_number_of_mib_is_told_as_what_it_is_taken() -> None:
    _, corrections = file.read(json.dumps(whole(MemorySizeInGB=8.3)))
    assert list(map(str, corrections)) == ["MemorySizeInGB: 8.3 GB are taken as 8499 MiB"]
    assert file.read(json.dumps(whole(MemorySizeInGB=8.25)))[1] == []


@pytest.mark.parametrize(
    ("key", "given", "told"),
    [
        ("ImageFolder", "/opt/../srv//x/", "'/opt/../srv//x/' is read as '/srv/x'"),
        ("MacAddress", "52-54-00-5A-01-01", "'52-54-00-5A-01-01' is read as '52:54:00:5a:01:01'"),
        ("Gateway", "10.0.0.254 @ a,10.0.0.254@b", "is read as '10.0.0.254@a, 10.0.0.254@b'"),
        ("Gateway", "10.0.0.254@a、10.0.0.254@b", "is read as '10.0.0.254@a,10.0.0.254@b'"),
        ("Ipaddr", "10.0.0.9@a; 10.0.0.8@b", "is read as '10.0.0.9@a, 10.0.0.8@b'"),
    ],
)
def test_what_is_written_in_another_form_is_told(key: str, given: str, told: str) -> None:
    values = whole()
    network = values["Network"][0]
    (network if key in network else values)[key] = given
    _, corrections = file.read(json.dumps(values))
    assert told in "\n".join(map(str, corrections))
    assert all(str(one).startswith(key if key in values else f"Network:0:{key}: ") for one in corrections)


def test_many_nodes_are_compared_in_no_time() -> None:
    with pytest.raises(ConfigurationError, match="that of another node"):
        file.read(json.dumps(whole(Node=["10.0.0.1 a"] * 20_000)))


def whole(**changes: Any) -> dict[str, Any]:
    value = {"Node": ["10.0.0.1 a", "10.0.0.2 b", "10.0.0.3 c"], "MemorySizeInGB": 8, "CPU": 4, "ImageFolder": "/x",
             "Network": [{"Bridge": "br0", "MacAddress": "52:54:00:5a:01:01", "Ipaddr": "10.0.0.9",
                          "Netmask": "255.255.255.0", "Gateway": "10.0.0.254",
                          "IsMgmt": True, "IsDefRoute": True}]}  # fmt: skip
    value |= changes
    return {key: one for key, one in value.items() if one is not ...}


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({"CPU": ..., "MemorySizeInGB": "much", "Nodes": []},
         ["CPU: is missing; give it: the VM's virtual CPUs", "MemorySizeInGB: 'much' is not a number",
          "Nodes: is no known key; did you mean Node?"]),
        ({"Node": ["10.0.0.1", "10.0.0.256 b", "10.0.0.3 C_"]},
         ["Node:0: '10.0.0.1' is no node; write its address", "Node:1: '10.0.0.256' is not an IPv4",
          "Node:2: 'C_' is not a node name"]),
        ({"Node": ["10.0.0.1 a", "10.0.0.1 b", "10.0.0.3 a"]},
         ["Node:1: the address 10.0.0.1 is that of another node", "Node:2: the name a is that of another node"]),
        ({"ImageFolder": "", "PoolName": "mn"},
         ["ImageFolder: is missing, and Type is FileConf", "PoolName: is Ceph's, and Type is FileConf"]),
        ({"Type": "CephConf", "ImageFolder": ...},
         ["MonAddrs: is missing, and Type is CephConf", "PoolName: is missing, and Type is CephConf"]),
        ({"Type": "CephConf", "MonAddrs": ["10.0.0.1:x"], "PoolName": "a/b"},
         ["MonAddrs:0: '10.0.0.1:x' has no port after the colon", "PoolName: 'a/b' is not the name of a pool"]),
        ({"Node": "10.0.0.1 a, 10.0.0.2 b"}, ["Node: '10.0.0.1 a, 10.0.0.2 b' is not a list"]),
        ({"Node": {}}, ["Node: {} is not a list"]),
        ({"CPU": "4²", "MemorySizeInGB": "8.²"},
         ["CPU: '4²' is not a whole number", "MemorySizeInGB: '8.²' is not a number"]),
        ({"CPU": "9" * 5000}, ["CPU: '99"]),
        ({"ImageFolder": "/opt/x\u200b"}, ["ImageFolder: '/opt/x\\u200b' has what can't be seen (U+200B)"]),
        ({"ImageFolder": "/opt/\u00a0x"}, ["ImageFolder: '/opt/\\xa0x' has what can't be seen (U+00A0)"]),
        ({"ImageFolder": "/opt/\0"}, ["ImageFolder: '/opt/\\x00' has what can't be seen (U+0000)"]),
        ({"ImageFolder": "/" + "x" * 5000}, ["ImageFolder: '/xx"]),
        ({"Type": "File"}, ["Type: 'File' is none of FileConf, CephConf; did you mean FileConf?"]),
        ({"Network": [{"Bridge": "br0", "MacAddress": "x", "Ipaddr": "1.2.3.4@a, 1.2.3.5", "IsMgmt": "yes"}]},
         ["Network:0:Ipaddr: '1.2.3.5' is not of the form value@node", "Network:0:IsMgmt: 'yes' is not true or false",
          "Network:0:MacAddress: 'x' is not a MAC address"]),
        ({"ConsoleProxyOverridenIP": "10.0.0.7", "ConsoleProxyOverriddenIP": "10.0.0.8"},
         ["ConsoleProxyOverriddenIP: stands there in two spellings"]),
    ],
)  # fmt: skip
def test_all_faults_at_once_each_with_its_path(changes: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        file.read(json.dumps(whole(**changes)))
    told = [str(fault) for fault in error.value.faults]
    assert len(told) == len(faults), told
    for is_so, should in zip(told, sorted(faults), strict=True):
        assert is_so.startswith(should), told


def test_the_schema_for_editors_is_that_of_the_model() -> None:
    path = ROOT / "extras/old-configuration.schema.json"
    assert path.read_text(encoding="utf-8") == schema(), "run `make generated`"
    found = json.loads(schema())
    assert set(found["properties"]) == {"$schema", *file.OldConfig.model_fields}
    assert {"type": "null"} in found["properties"]["MonAddrs"]["anyOf"], "as the samples have it"
    assert file.read(json.dumps(whole(**{"$schema": "./old-configuration.schema.json"})))[1] == []


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no object"):
        file.read("[1]")
