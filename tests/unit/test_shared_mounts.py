"""The shared file systems in a configuration: what is accepted, each way to get them wrong, what a node is to mount."""

from __future__ import annotations

from typing import Any

import pytest

from mnha import config
from mnha.config.shared_mounts import wanted
from mnha.errors import ConfigurationError
from mnha.host.mounting import Wanted
from tests.support.example import example_with

FOLDER = "/opt/smp/mngt"
MOUNTS: dict[str, Any] = {
    FOLDER: {"source": "nfs1:/export/mngt", "options": ["nconnect=4"]},
    "/opt/smp/bs": {"source": {"node1": "g1:/bs", "node2": "g2:/bs", "node3": "g3:/bs"}, "kind": "glusterfs"},
}


def cluster(mounts: dict[str, Any], **more: Any) -> config.ClusterConfig:
    return config.load(example_with({"mounts": mounts, "image_folder": FOLDER, **more}))


def test_what_a_node_is_to_mount() -> None:
    read = cluster(MOUNTS)
    assert wanted(read.mounts, "node2") == (
        Wanted(FOLDER, "nfs1:/export/mngt", "nfs4", ("vers=4.2", "hard", "noatime", "nconnect=4")),
        Wanted("/opt/smp/bs", "g2:/bs", "glusterfs", ()),
    )
    assert config.load(read.to_pillar()) == read
    assert config.load_json(config.applied_to_json(config.Applied(1, read))).cluster == read


def test_left_out_nothing_is_mounted() -> None:
    assert wanted(config.load(example_with({})).mounts, "node1") == ()


@pytest.mark.parametrize(
    ("mount", "path", "said"),
    [
        ({}, "source", "is missing"),
        ({"source": "/export/mngt"}, "source", "/export/mngt names no server"),
        ({"source": {"node1": "nfs1:/x", "node2": "nfs1:/x"}}, "source", "has no value for node3"),
        ({"source": "nfs1:/x", "options": ["hard,noatime"]}, "options:0", "is more than one option"),
        ({"source": "nfs1:/x", "options": "hard"}, "options", "is not a list"),
        ({"source": "nfs1:/x", "options": ["soft"]}, "options", "gives up writes"),
        ({"source": "nfs1:/x", "options": ["nolock"]}, "options", "keeps locks on this node"),
        ({"source": "nfs1:/x", "options": ["nfsvers=3"]}, "options", "NFSv3, which keeps a dead node's locks"),
        ({"source": "nfs1:/x", "type": "nfs4"}, "type", "is no known key"),
    ],
)
def test_what_can_not_be_is_told_with_its_place(mount: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cluster({FOLDER: mount})
    assert [(fault.path, said in fault.problem) for fault in caught.value.faults] == [
        (f"mnha:cluster:mounts:{FOLDER}:{path}", True)
    ], [str(fault) for fault in caught.value.faults]


def test_an_unsafe_mount_is_the_operators_where_he_says_so_and_elsewhere() -> None:
    unsafe = {"source": "nfs1:/x", "options": ["soft"]}
    assert cluster({FOLDER: unsafe}, unsafe_mount="warn").mounts[FOLDER].options == ("soft",)
    assert cluster({"/opt/smp/ps": unsafe}).mounts["/opt/smp/ps"].options == ("soft",)
