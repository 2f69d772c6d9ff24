"""The disk below a Consul server hangs: who is ended for it, who is not, and what comes of it. Three real servers on
disks that hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.shell import wait_until
from mnha.core.timing import PROFILES
from mnha.daemon.adapters import consul_disk
from mnha.daemon.adapters.consul_disk import LOOK_EVERY_S, ConsulDisk, hangs_s, look_once
from mnha.host.clock import boottime_s
from tests.support.consul_server import binary
from tests.support.hanging_consul import NODES, HangingCluster, hanging

TIMINGS = PROFILES["fast"]
LASTS_S = 4.0
"""Long enough for what must not be done to be done."""
AT_IDLE_S = 3.0
"""What the machine may take for what is done at once."""


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return binary(tmp_path_factory.mktemp("consul"))


@pytest.fixture
def cluster(consul: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HangingCluster]:
    monkeypatch.setattr(consul_disk, "REST_S", 0.0)
    with hanging(consul, tmp_path) as servers:
        yield servers


class Watch:
    """What watches the disk of a node's server, beside that server."""

    def __init__(self, cluster: HangingCluster, node: str, folder: Path | None = None) -> None:
        self.failing: set[str] = set()
        self.ended: list[tuple[float, str]] = []
        nodes = [(node, NODES[node]), *((one, address) for one, address in NODES.items() if one != node)]
        self.disk = ConsulDisk(
            cluster.servers(node), nodes, "x", TIMINGS, folder or cluster.disks[node].folder,
            cluster.groups[node],
            lambda: self.failing, lambda why: self.ended.append((boottime_s(), why)),
        )  # fmt: skip
        self.disk.start()
        time.sleep(4 * LOOK_EVERY_S)
        assert self.disk.check().ok

    def faults(self) -> str:
        return " ".join(thread.why for thread in self.disk.threads)


def keep_writing(cluster: HangingCluster, until: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Write all the time, as holders renew, until something is so."""

    def write_and_look() -> bool:
        cluster.takes_writes()
        return until()

    wait_until(write_and_look, timeout_s, what)


def test_the_server_that_leads_is_ended_when_its_disk_hangs_and_another_one_leads(
    cluster: HangingCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    leader = cluster.leader()
    watch = Watch(cluster, leader)
    hung_s = boottime_s()
    cluster.disks[leader].hang()
    keep_writing(cluster, lambda: bool(watch.ended), hangs_s(TIMINGS) + AT_IDLE_S, "the server is ended")
    keep_writing(cluster, lambda: cluster.leader() not in ("", leader), 20, "another one leads")
    keep_writing(cluster, cluster.takes_writes, 10, "Consul takes writes")
    with capsys.disabled():
        print(f"\nended {watch.ended[0][0] - hung_s:.2f} s, written again {boottime_s() - hung_s:.2f} s after the hang")
    assert "hangs, and its server leads Consul: it was ended" in watch.faults()
    keep_writing(cluster, lambda: not watch.disk.check().ok, TIMINGS.lease_s + AT_IDLE_S, "the check tells")
    wait_until(lambda: cluster.has_ended(leader), 10, "it is gone")
    next_leader = cluster.leader()
    cluster.start(leader)
    end_s = time.monotonic() + LASTS_S
    keep_writing(cluster, lambda: time.monotonic() > end_s, LASTS_S + AT_IDLE_S, "it begins on a disk that hangs")
    assert cluster.leader() == next_leader
    cluster.disks[leader].go_on()
    wait_until(lambda: watch.disk.check().ok, 10, "the check is well again")
    assert len(watch.ended) == 1


def test_a_server_that_does_not_lead_is_not_ended_and_its_disk_is_told(cluster: HangingCluster) -> None:
    leader = cluster.leader()
    follower = next(node for node in NODES if node != leader)
    watch = Watch(cluster, follower)
    cluster.disks[follower].hang()
    keep_writing(cluster, lambda: not watch.disk.check().ok, TIMINGS.lease_s + AT_IDLE_S, "the check tells")
    assert "hangs: nothing is written there" in watch.disk.check().why
    wait_until(lambda: cluster.leader() not in ("", follower), 10, "another one leads")
    assert watch.ended == []
    assert not look_once(cluster.disks[follower].folder, 0.5).ok


@pytest.mark.parametrize("why", ["gone", "ill"])
def test_a_server_without_which_there_would_be_no_quorum_is_not_ended(cluster: HangingCluster, why: str) -> None:
    leader = cluster.leader()
    follower = next(node for node in NODES if node != leader)
    watch = Watch(cluster, leader)
    if why == "ill":
        watch.failing = {follower}
    else:
        cluster.processes[follower].kill()
        cluster.processes[follower].wait()
    cluster.disks[leader].hang()
    keep_writing(cluster, lambda: "not ended: only" in watch.faults(), LASTS_S + AT_IDLE_S, "it is told")
    time.sleep(LASTS_S)
    assert watch.ended == []
    cluster.disks[leader].go_on()
    keep_writing(cluster, cluster.takes_writes, 20, "it goes on")


def test_a_server_is_not_ended_again_as_soon_as_it_runs(
    cluster: HangingCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consul_disk, "REST_S", 3600.0)
    leader = cluster.leader()
    watch = Watch(cluster, leader)
    cluster.disks[leader].hang()
    keep_writing(cluster, lambda: "not ended: it runs only since" in watch.faults(), LASTS_S + AT_IDLE_S, "told")
    assert watch.ended == []


def test_a_leader_that_gets_on_is_not_ended_whatever_its_disk_seems_to_do(cluster: HangingCluster) -> None:
    leader = cluster.leader()
    follower = next(node for node in NODES if node != leader)
    watch = Watch(cluster, leader, cluster.disks[follower].folder)
    cluster.disks[follower].hang()
    end_s = time.monotonic() + LASTS_S
    keep_writing(cluster, lambda: time.monotonic() > end_s, LASTS_S + AT_IDLE_S, "some time")
    assert watch.ended == []
    assert cluster.leader() == leader


def test_how_long_a_write_may_take_follows_from_the_deadline_and_a_busy_disk_does_not_hang() -> None:
    assert hangs_s(PROFILES["default"]) == 2.0
    assert hangs_s(PROFILES["fast"]) == 1.0


def test_a_folder_that_can_not_be_written_is_told_and_one_that_is_missing_needs_no_disk(tmp_path: Path) -> None:
    assert look_once(tmp_path, 5.0).ok
    assert look_once(tmp_path / "missing", 5.0).ok
    (tmp_path / consul_disk.FILE).unlink()
    (tmp_path / consul_disk.FILE).symlink_to(tmp_path / "elsewhere")
    assert "can't be written: Too many levels of symbolic links" in look_once(tmp_path, 5.0).why
    assert not (tmp_path / "elsewhere").exists()
