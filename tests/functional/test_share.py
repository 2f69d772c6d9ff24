"""Which folder is the cluster's share: real mounts, a real Consul server, processes that have an image open like QEMU.

Each node has a folder of its own; one share is bound to those that have it mounted.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.shell import mounts_below, wait_until
from mnha.core.ports import Confirmed, Event
from mnha.daemon.adapters import look
from mnha.daemon.adapters.consul import Servers
from mnha.daemon.adapters.probe import Ground
from mnha.daemon.adapters.record import Record
from mnha.daemon.adapters.share import NOT_KNOWN, Rules, Share
from mnha.daemon.reluctant import Reluctant
from mnha.errors import FailedError
from tests.support.consul_server import ConsulServer, binary, running

KEY = "mnha/t/share"
PATIENCE_S = 10.0


def run(*words: object) -> None:
    subprocess.run(list(map(str, words)), check=True)


class Node:
    """A node with a mount point, a guard's view of it, and maybe a QEMU."""

    def __init__(self, folder: Path, name: str, servers: Servers, share: Path) -> None:
        self.name, self.folder, self._share, self.servers = name, folder / name / "mngt", share, servers
        self.kept = folder / name / "run" / "share.json"
        self.folder.mkdir(parents=True)
        self.qemu: subprocess.Popen[bytes] | None = None
        self.begin()

    @property
    def image(self) -> Path:
        return self.folder / "vm.img"

    def begin(self) -> None:
        """A guard begins."""
        self.record = Record(self.servers, KEY, self.kept)
        self.record.start()
        self.share = Share(self.name, self.folder, self.record, Rules())

    def mount(self) -> None:
        run("mount", "--bind", self._share, self.folder)

    def umount(self, *options: str) -> None:
        run("umount", *options, self.folder)

    def start(self) -> int:
        """Something that has the image open as QEMU has."""
        self.qemu = subprocess.Popen(["sleep", "600"], stdin=self.image.open("r+b"))
        return self.qemu.pid

    def look(self) -> Ground:
        return self.share.look(self.folder, self.name, [self.image])

    def keep(self) -> None:
        """What a prober does after a look."""
        self.share.keep(self.image, self.qemu.pid if self.qemu else 0, self.look())

    def knows(self, name: str) -> None:
        wait_until(lambda: self.share.id == name, PATIENCE_S, f"{self.name} knows the id")


class Cluster:
    """Nodes, Consul, and a share with an image."""

    def __init__(self, folder: Path, server: ConsulServer) -> None:
        self.folder, self.server = folder, server
        self.on_share = folder / "share"
        self.on_share.mkdir()
        run("mount", "-t", "tmpfs", "share", self.on_share)
        (self.on_share / "vm.img").write_bytes(bytes(4096))
        self.nodes: list[Node] = []

    def node(self, name: str, *, mounted: bool = True) -> Node:
        made = Node(self.folder, name, self.server.servers(), self.on_share)
        self.nodes.append(made)
        if mounted:
            made.mount()
        return made

    @property
    def record(self) -> dict[str, object]:
        row = self.server.servers().read(0, 5.0, lambda consul: consul.kv.get(KEY)).value
        return json.loads(row["Value"]) if row else {}

    @property
    def file(self) -> str:
        return look.id_in(str(self.on_share))

    def close(self) -> None:
        for node in self.nodes:
            if node.qemu:
                node.qemu.kill()
                node.qemu.wait()
        for mount in reversed(mounts_below(self.folder)):
            run("umount", "--lazy", mount)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(binary(tmp_path / "consul"), tmp_path) as server:
        made = Cluster(tmp_path, server)
        yield made
        made.close()


@pytest.fixture
def established(cluster: Cluster) -> Cluster:
    """A cluster whose share has its id, by the first node, which runs the VM."""
    holder = cluster.node("n1")
    holder.start()
    assert holder.record.is_known(PATIENCE_S)
    holder.keep()
    assert cluster.record["placed"] is True
    assert cluster.record["id"] == cluster.file == holder.share.id != ""
    return cluster


def test_the_node_that_runs_the_vm_from_there_leaves_the_id_and_no_other_does(cluster: Cluster) -> None:
    other, holder = cluster.node("n2"), cluster.node("n1")
    for node in (other, holder):
        assert node.record.is_known(PATIENCE_S)
        node.keep()
    assert (cluster.record, cluster.file) == ({}, "")
    holder.start()
    holder.keep()
    assert cluster.record["node"] == "n1"
    other.knows(cluster.file)
    seen = other.look()
    assert (seen.storage.ok, [image.ok for image in seen.images], other.share.objection(seen)) == (True, [True], "")
    holder.keep()
    assert cluster.record["id"] == cluster.file == holder.share.id, "it stays"


def test_a_node_whose_share_is_not_mounted_is_told_so_and_nothing_is_written_there(established: Cluster) -> None:
    node = established.node("n2", mounted=False)
    run("mount", "-t", "tmpfs", "other", node.folder)  # else the root file system is what is told
    node.image.touch()  # a stale copy
    node.knows(established.file)
    seen = node.look()
    assert not seen.storage.ok
    assert "is not the cluster's share" in seen.storage.why
    assert "is the share mounted?" in seen.storage.why
    assert "mnha.adopt_share" in seen.storage.why
    assert (seen.lost, [image.why for image in seen.images]) == (False, [look.NOT_THE_SHARE])
    assert node.share.objection(seen) == seen.storage.why
    assert sorted(path.name for path in node.folder.iterdir()) == ["vm.img"]
    assert node.share.mount(seen).why.endswith("no two nodes share such a file system; is the share mounted?")


def test_a_folder_on_the_root_file_system_is_no_share_though_no_id_is_known(cluster: Cluster) -> None:
    node = cluster.node("n2", mounted=False)
    node.image.touch()
    assert node.record.is_known(PATIENCE_S)
    node.start()
    node.keep()
    seen = node.look()
    assert seen.storage.why == f"{node.folder} lies on the root file system of this node: is the share mounted?"
    assert [path.name for path in node.folder.iterdir()] == ["vm.img"]
    assert cluster.record == {}
    with pytest.raises(FailedError, match="root file system"):
        node.share.adopt({})


def test_another_share_is_told_apart_and_its_id_is_left_alone(established: Cluster) -> None:
    node = established.node("n2", mounted=False)
    run("mount", "-t", "tmpfs", "other", node.folder)
    (node.folder / look.OWN_FOLDER).mkdir()
    (node.folder / look.OWN_FOLDER / look.ID_FILE).write_text("of-another-cluster\n")
    node.image.touch()
    node.start()
    node.knows(established.file)
    node.keep()
    assert "its id is of-another-cluster" in node.look().storage.why
    assert look.id_in(str(node.folder)) == "of-another-cluster"


def test_what_is_unmounted_between_two_looks_is_noticed_at_once_without_a_look(established: Cluster) -> None:
    node = established.node("n2")
    node.knows(established.file)
    seen = node.look()
    assert node.share.objection(seen) == ""
    node.umount()
    assert "is not what was there at the last look; is the share mounted?" in node.share.objection(seen)
    node.mount()
    again = node.look()
    assert (again.storage.ok, node.share.objection(again)) == (True, "")
    run("mount", "-t", "tmpfs", "over", node.folder)
    assert "is not what was there at the last look" in node.share.objection(again)


def test_what_the_running_vm_was_mounted_away_from_gets_no_id(established: Cluster) -> None:
    """Its image is open still, but the folder is an empty one by now."""
    holder = established.nodes[0]
    run("mount", "-t", "tmpfs", "over", holder.folder)
    holder.image.touch()
    holder.keep()
    assert sorted(path.name for path in holder.folder.iterdir()) == ["vm.img"]
    assert not holder.look().storage.ok


def test_a_deleted_id_comes_back_by_the_node_that_runs_the_vm_alone(established: Cluster) -> None:
    name, holder, other = established.file, established.nodes[0], established.node("n2")
    other.knows(name)
    (established.on_share / look.OWN_FOLDER / look.ID_FILE).unlink()
    other.keep()
    assert (established.file, other.look().storage.ok) == ("", False)
    holder.keep()
    assert (established.file, other.look().storage.ok) == (name, True)


def test_a_write_that_was_cut_short_is_carried_on_and_counts_only_then(cluster: Cluster) -> None:
    """The guard died between record and file, and the power went between the file and what stands in it."""
    holder, other = cluster.node("n1"), cluster.node("n2")
    pending = {"v": 1, "id": "begun", "placed": False, "node": "n1"}
    assert holder.record.is_known(PATIENCE_S)
    assert holder.record.replace(None, pending)
    (cluster.on_share / look.OWN_FOLDER).mkdir()
    (cluster.on_share / look.OWN_FOLDER / look.ID_FILE).touch()
    wait_until(lambda: other.record.value == pending, PATIENCE_S, "it is known")
    assert (other.share.id, other.look().storage.ok) == ("", True)
    holder.start()
    holder.keep()
    assert (cluster.file, cluster.record["id"], cluster.record["placed"]) == ("begun", "begun", True)


def test_nodes_that_leave_an_id_at_once_leave_one(cluster: Cluster) -> None:
    """As two clusters' guards, or two VMs' probers, on one share."""
    nodes = [cluster.node(f"n{number}") for number in range(4)]
    begin = threading.Barrier(len(nodes))

    def keep(node: Node) -> None:
        begin.wait()
        for _ in range(3):
            node.keep()

    for node in nodes:
        node.start()
        assert node.record.is_known(PATIENCE_S)
    threads = [threading.Thread(target=keep, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (cluster.record["id"], cluster.record["placed"]) == (cluster.file, True)
    for node in nodes:
        node.knows(cluster.file)
        assert node.look().storage.ok


def test_a_share_that_has_an_id_already_keeps_it(cluster: Cluster) -> None:
    (cluster.on_share / look.OWN_FOLDER).mkdir()
    (cluster.on_share / look.OWN_FOLDER / look.ID_FILE).write_text("of-old\n")
    holder = cluster.node("n1")
    holder.start()
    assert holder.record.is_known(PATIENCE_S)
    holder.keep()
    assert (cluster.record["id"], cluster.file) == ("of-old", "of-old")


def test_while_consul_is_away_the_id_that_was_known_holds_also_for_the_next_guard(established: Cluster) -> None:
    node, name = established.node("n2"), established.file
    node.knows(name)
    established.server.stop()
    node.begin()
    assert (node.share.id, node.look().storage.ok) == (name, True)
    node.umount()
    assert not node.look().storage.ok
    node.mount()
    node.kept.unlink()  # the node has booted
    node.begin()
    assert node.look().storage.why == NOT_KNOWN
    assert not node.look().lost


def test_a_record_is_known_by_the_leaders_word_without_waiting_for_the_watch(established: Cluster) -> None:
    record = Record(established.server.servers(), KEY, established.folder / "kept.json")
    assert not record.is_known()
    record.refresh()
    assert record.value == established.record
    established.server.stop()
    record.refresh()
    assert record.value is not None, "what is known holds"


def test_a_record_that_can_not_be_read_leaves_what_is_known_until_the_operator_names_the_share(
    established: Cluster,
) -> None:
    first, old = established.nodes[0], established.file
    established.server.servers().ask(0, 5.0, lambda consul: consul.kv.put(KEY, "{id: mine}"))
    wait_until(lambda: bool(first.record.fault), PATIENCE_S, "it is noticed")
    assert "it is no JSON" in first.record.fault
    assert (first.share.id, first.look().storage.ok) == (old, True)
    first.keep()
    assert first.share.adopt({}) == old
    assert (established.record["id"], first.record.fault) == (old, "")


def test_a_share_that_was_replaced_is_named_by_the_operator(established: Cluster) -> None:
    first, old, second = established.nodes[0], established.file, established.node("n2", mounted=False)
    second.knows(old)
    run("mount", "-t", "tmpfs", "new", second.folder)
    second.image.touch()
    new = second.share.adopt({})
    assert new != old
    assert (look.id_in(str(second.folder)), second.look().storage.ok) == (new, True)
    first.knows(new)
    assert f"its id is {old}, not {new}" in first.look().storage.why
    assert first.qemu
    with pytest.raises(FailedError, match="does not run from"):
        second.share.adopt({str(second.image): first.qemu.pid})
    assert first.share.adopt({str(first.image): first.qemu.pid}) == old, "its own id again"


def test_a_migration_is_let_in_only_while_the_target_sees_the_share(established: Cluster) -> None:
    """The renewals of the offer go on; the next one after it was mounted is let in."""
    node, asked, told = established.node("n2"), [], list[Event]()
    node.knows(established.file)
    fencer = Asked(asked)
    seen = node.look()
    reluctant = Reluctant(fencer, lambda: node.share.objection(seen), told.append)
    reluctant.expect(10.0, 1)
    node.umount()
    reluctant.expect(11.0, 2)
    reluctant.forbid(3)
    assert asked == [("expect", 10.0, 1), ("forbid", 3)]
    (denied,) = told
    assert isinstance(denied, Confirmed)
    assert (denied.ticket, "is the share mounted?" in denied.error) == (2, True)


class Asked:
    """A fencer that notes what it is asked."""

    def __init__(self, asked: list[tuple[object, ...]]) -> None:
        self._asked = asked

    def prepare(self, until_s: float, kill_s: float, ticket: int) -> None:
        self._asked.append(("prepare", until_s, kill_s, ticket))

    def grant(self, until_s: float, kill_s: float, ticket: int) -> None:
        self._asked.append(("grant", until_s, kill_s, ticket))

    def expect(self, until_s: float, ticket: int) -> None:
        self._asked.append(("expect", until_s, ticket))

    def forbid(self, ticket: int) -> None:
        self._asked.append(("forbid", ticket))
