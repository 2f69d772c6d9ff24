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
        ({"source": "nfs1:/x", "options": ["v3"]}, "options", "NFSv3, which keeps a dead node's locks"),
        ({"source": "nfs1:/x", "options": ["ro"]}, "options", "lets no VM write its image"),
        ({"source": "nfs1:/x", "options": ["vers=4.1", "vers=4.2"]}, "options", "vers=4.1 and vers=4.2 contradict"),
        ({"source": "nfs1:/x", "options": ["vers=5"]}, "options", "there is no such version of NFS"),
        ({"source": "nfs1:/x", "kind": "nfs5"}, "kind", "nfs5 is no file system's type"),
        ({"source": "nfs1:/x", "kind": "gluster"}, "kind", "gluster is no file system's type"),
        ({"source": ":/x"}, "source", ":/x names no server"),
        ({"source": "a b:/x"}, "source", "a b:/x names no server"),
        ({"source": "g1", "kind": "glusterfs"}, "source", "g1 names no server with its volume"),
    ],
)
def test_what_can_not_be_is_told_with_its_place(mount: dict[str, Any], path: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        cluster({FOLDER: mount})
    assert [(fault.path, said in fault.problem) for fault in caught.value.faults] == [
        (f"mnha:cluster:mounts:{FOLDER}:{path}", True)
    ], [str(fault) for fault in caught.value.faults]


def faults(mounts: dict[str, Any], **more: Any) -> list[tuple[str, str]]:
    """Place and problem of each, without what they have in common."""
    with pytest.raises(ConfigurationError) as caught:
        cluster(mounts, **more)
    return [(fault.path.removeprefix("mnha:cluster:mounts:"), fault.problem) for fault in caught.value.faults]


@pytest.mark.parametrize("other", ["/opt/smp/bs/", "/opt//smp/bs", "/opt/smp/../smp/bs", "//opt/smp/bs"])
def test_a_folder_that_is_written_in_two_ways_is_told_and_no_mount_lost(other: str) -> None:
    mount = {"source": "nfs1:/x"}
    assert faults({"/opt/smp/bs": mount, other: mount}) == [(other, f"{other} is the same folder as /opt/smp/bs")]
    both = faults({"/opt/smp/bs": {"source": "/x"}, other: {"source": "nfs1:/x", "type": 1}})
    assert {path.removeprefix(other).removeprefix("/opt/smp/bs") for path, _ in both} == {"", ":source", ":type"}


def test_faults_beside_a_value_that_is_faulty_by_itself_are_told_with_it() -> None:
    told = faults({FOLDER + "/": {"source": "nfs1:/x", "options": ["soft", "a,b"]}, "/etc": {"source": "nfs1:/y"}})
    assert [path for path, _ in told] == ["/etc", f"{FOLDER}/:options", f"{FOLDER}/:options:1"], told


@pytest.mark.parametrize("folder", ["/etc", "/usr", "/home/", "/proc/x", "/opt", "/var/../boot", "/usr/lib/mnha"])
def test_a_system_folder_is_no_place_for_a_share(folder: str) -> None:
    ((_, problem),) = faults({folder: {"source": "nfs1:/x"}})
    assert "system folder" in problem


def test_the_guards_own_folder_is_no_place_for_a_share() -> None:
    ((path, problem),) = faults({f"{FOLDER}/.mnha/x": {"source": "nfs1:/x"}})
    assert (path, "where the guards keep the share's id" in problem) == (f"{FOLDER}/.mnha/x", True)


def test_what_may_turn_out_badly_is_a_doubt() -> None:
    found = config.doubts(
        cluster(
            {
                FOLDER: {"source": "nfs1:/x"},
                f"{FOLDER}/iso": {"source": "nfs1:/iso", "options": ["ro"]},
                "/opt/smp/ps": {"source": "nfs1:/y", "options": ["soft", "nolock"]},
            }
        )
    )
    told = {(doubt.path.removeprefix("mnha:cluster:mounts:"), doubt.problem.split(" ")[1]) for doubt in found}
    assert told == {(f"{FOLDER}/iso", "lies"), ("/opt/smp/ps:options", "nolock"), ("/opt/smp/ps:options", "soft")}
    assert config.doubts(cluster(MOUNTS)) == []
    warned = config.doubts(cluster({FOLDER: {"source": "nfs1:/x", "options": ["soft"]}}, unsafe_mount="warn"))
    assert [doubt.path for doubt in warned] == [f"mnha:cluster:mounts:{FOLDER}:options"]


def test_of_nested_mounts_the_nearest_carries_the_images() -> None:
    outer = {"source": "nfs1:/x", "options": ["ro"]}
    assert len(faults({"/opt/smp": outer})) == 1
    assert cluster({"/opt/smp": outer, FOLDER: {"source": "nfs1:/y"}})


def test_an_unsafe_mount_is_the_operators_where_he_says_so_and_elsewhere() -> None:
    unsafe = {"source": "nfs1:/x", "options": ["soft"]}
    assert cluster({FOLDER: unsafe}, unsafe_mount="warn").mounts[FOLDER].options == ("soft",)
    assert cluster({"/opt/smp/ps": unsafe}).mounts["/opt/smp/ps"].options == ("soft",)
