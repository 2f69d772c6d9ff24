"""The lab's pure parts: plans, rules, scripts, module order, monitor's judgement, provisioning's reading of Salt."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lab import build, cgroups
from lab.debian import split_suite
from lab.guest_image import module_order, parse_dependencies
from lab.monitor import Life, Monitor, fork_moment_ns, gaps_s, holds_write_lock, is_vm, may_write, overlaps
from lab.network import Cut, changed_cuts, render_rules, tap_of
from lab.node import hosts_file, network_files, supervisor_script
from lab.pillar import lab_pillar
from lab.provision import failure_lines, summary
from lab.records import BEAT, BOOT, Record, Tail, encode
from lab.settings import LabError, NodePlan, Settings, plan_nodes


def settings(folder: Path) -> Settings:
    return Settings(cache=folder / "cache", state=folder / "state", repository=folder)


def test_nodes_have_the_documented_addresses():
    plans = plan_nodes(5)
    assert [plan.mgmt for plan in plans] == [f"172.20.198.{number}" for number in range(3, 8)]
    assert plans[4].storage == "192.168.93.7"
    assert (plans[1].link("mgmt"), plans[1].link("storage")) == ("m2", "s2")


@pytest.mark.parametrize("count", [0, 2, 4, 7])
def test_a_number_of_nodes_without_a_quorum_is_refused(count: int):
    with pytest.raises(LabError, match="3 or 5"):
        plan_nodes(count)


def test_a_cut_in_one_direction_drops_only_that():
    rules = render_rules([Cut("m1", "in")])
    assert 'oifname "m1" drop' in rules
    assert "iifname" not in rules


def test_a_cut_in_both_directions_also_holds_for_the_switch_itself():
    rules = render_rules([Cut("s2", "both")])
    forward, inward, outward = rules.split("chain ")[1:]
    assert 'iifname "s2" drop' in forward
    assert 'oifname "s2" drop' in forward
    assert 'iifname "s2" drop' in inward
    assert 'oifname "s2" drop' in outward


def test_a_cut_holds_for_a_cable_with_a_delay_line_too():
    rules = render_rules([Cut("s2", "in")])
    assert f'oifname "{tap_of("s2")}" drop' in rules


def test_a_partial_cut_drops_at_random():
    assert 'iifname "s2" numgen random mod 100 < 30 drop' in render_rules([Cut("s2", "out", 30)])


def test_the_ruleset_replaces_the_one_before_in_one_transaction():
    assert render_rules([]).startswith("table bridge lab\ndelete table bridge lab\n")


def test_a_new_cut_replaces_the_old_one_of_that_cable_only():
    cuts = changed_cuts({Cut("m1", "in"), Cut("m2", "both")}, ["m1"], "out")
    assert cuts == {Cut("m1", "out"), Cut("m2", "both")}
    assert changed_cuts(cuts, ["m1", "s1"], None) == {Cut("m2", "both")}


@pytest.mark.parametrize(
    ("direction", "percent", "words"),
    [("sideways", 100, "direction 'sideways'"), ("in", 0, "share of 0 %"), ("in", 101, "share of 101 %")],
)
def test_a_cut_that_makes_no_sense_is_refused(direction: str, percent: int, words: str):
    with pytest.raises(LabError, match=words):
        changed_cuts(set(), ["m1"], direction, percent)


def test_the_supervisor_enters_its_groups_before_it_starts_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cgroups, "folders", lambda name: [tmp_path / name])
    script = supervisor_script(NodePlan(2), settings(tmp_path), ["--bind=/a:/b"])
    assert script.index("cgroup.procs") < script.index("systemd-nspawn")
    assert script.index("set -e") < script.index("cgroup.procs")
    assert "--network-veth-extra=m2:eth0" in script
    assert "--capability=all" not in script


def test_the_management_address_is_on_the_bridge():
    files = network_files(NodePlan(1))
    assert "172.20.198.3/24" in files["20-br_mgmt.network"]
    assert "Bridge=br_mgmt" in files["20-eth0.network"]
    assert "192.168.93.3/24" in files["20-eth1.network"]


def test_every_node_knows_every_other_by_name():
    text = hosts_file(plan_nodes(3))
    assert "172.20.198.5 node3\n192.168.93.5 node3-storage" in text


def test_modules_come_after_what_they_need():
    needs = parse_dependencies(
        "a/virtio_blk.ko: a/virtio.ko a/virtio_ring.ko\na/virtio.ko: a/virtio_ring.ko\na/virtio_ring.ko:\n"
    )
    order = module_order(needs, ["virtio_blk"])
    assert order == ["a/virtio_ring.ko", "a/virtio.ko", "a/virtio_blk.ko"]


def test_a_module_that_the_kernel_lacks_is_an_error():
    with pytest.raises(LabError, match="no module button"):
        module_order({}, ["button"])


def test_a_package_may_name_its_suite():
    assert split_suite("consul@bullseye") == ("consul", "bullseye")
    assert split_suite("chrony") == ("chrony", None)


def test_keys_tell_apart_lists_that_join_to_the_same_text():
    assert build.key_of(["ab", "c"]) != build.key_of(["a", "bc"])
    assert build.key_of(["ab"]) == build.key_of([b"ab"])


def test_an_interrupted_build_leaves_no_piece_and_is_begun_anew(tmp_path: Path):
    lab = settings(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build.piece(lab, "kind", ["1"], fail)
    whole = build.piece(lab, "kind", ["1"], lambda folder: (folder / "whole").touch())
    assert [path.name for path in whole.iterdir()] == ["whole"]
    assert [path.name for path in lab.cache.iterdir() if path.is_dir()] == [whole.name]


def test_two_lives_at_once_are_an_overlap():
    one, two = Life("node1", 1, 0, 100), Life("node2", 2, 99, None)
    assert overlaps([one, two]) == [(one, two)]
    assert overlaps([one, Life("node2", 2, 100, None)]) == []


def test_a_life_that_has_not_ended_overlaps_with_all_later_ones():
    assert overlaps([Life("node1", 1, 0, None), Life("node2", 2, 10**12, None)])


def test_the_target_of_a_migration_may_live_beside_the_source():
    source = Life("node1", 1, 0, 100)
    assert overlaps([source, Life("node2", 2, 50, None, incoming=True)]) == []
    assert overlaps([source, Life("node2", 2, 50, None, incoming=True, resumed_ns=100)]) == []


def test_a_migrated_vm_that_is_resumed_while_its_source_lives_is_an_overlap() -> None:
    assert overlaps([Life("node1", 1, 0, 100), Life("node2", 2, 50, None, incoming=True, resumed_ns=99)])
    assert overlaps([Life("node1", 1, 0, None), Life("node2", 2, 50, None, incoming=True, resumed_ns=60)])


FDINFO = "pos:\t0\nflags:\t02140002\nlock:\t1: OFDLCK ADVISORY  READ -1 fe:00:2220200 {} {}\n"


@pytest.mark.parametrize(
    ("first", "last", "writes"), [(100, 101, True), (101, 101, True), (100, 100, False), (201, 201, False)]
)
def test_a_lock_of_the_write_byte_tells_who_may_write(first: int, last: int, writes: bool) -> None:
    assert holds_write_lock(FDINFO.format(first, last)) is writes


def test_other_locks_tell_nothing() -> None:
    assert not holds_write_lock("lock:\t1: POSIX  ADVISORY  WRITE 64 00:2f:38 0 EOF\n")
    assert not may_write(os.getpid())


def test_a_process_that_has_ended_writes_nothing() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert not may_write(ended.pid)


def test_gaps_are_from_end_to_begin():
    lives = [Life("node2", 2, 3_000_000_000, None), Life("node1", 1, 0, 1_000_000_000)]
    assert gaps_s(lives) == [2.0]


def test_only_the_vm_itself_counts():
    qemu = b"/usr/bin/qemu-system-x86_64"
    assert is_vm([qemu, b"-name", b"guest=mnvm,debug-threads=on", b"-S", b""], "mnvm")
    assert not is_vm([qemu, b"-name", b"guest=mnvm2"], "mnvm")
    assert not is_vm([qemu, b"-S", b"-no-user-config", b"-machine", b"none"], "mnvm")
    assert not is_vm([], "mnvm")


def test_the_moment_of_a_fork_is_read_behind_a_name_with_brackets():
    fields = ["S", *["0"] * 18, "150", "0"]
    assert fork_moment_ns(f"12 (a) b) {' '.join(fields)}") == 150 * (10**9 // os.sysconf("SC_CLK_TCK"))


def test_a_monitor_without_any_vm_sees_nothing():
    with Monitor("no-such-vm") as monitor:
        assert not monitor.wait_for(bool, 0.1)
    assert monitor.lives() == []
    assert monitor.overlaps() == []


def test_the_tail_of_a_disk_tells_only_what_is_new(tmp_path: Path):
    image = tmp_path / "mnvm.img"
    image.write_bytes(bytes(8 * 512))
    tail = Tail(image)
    assert tail.poll() == []

    def write(record: Record) -> None:
        with image.open("r+b") as handle:
            handle.seek(record.seq % 8 * 512)
            handle.write(encode(record))

    records = [Record(BEAT if number else BOOT, number, "a" * 32, 1, number) for number in range(20)]
    for record in records[:7]:
        write(record)
    assert tail.poll() == records[:7]
    for record in records[7:12]:
        write(record)
    assert tail.poll() == records[7:12]
    assert Tail(image).last == records[11]


def test_the_lab_pillar_names_every_node():
    cluster = lab_pillar(plan_nodes(5), "fast")["mnha"]["cluster"]
    assert list(cluster["nodes"]) == ["node1", "node2", "node3", "node4", "node5"]
    assert cluster["timings"] == "fast"


SALT_OUTPUT = """node1:
----------
          ID: good
      Result: True
----------
          ID: bad
      Result: False
     Comment: broken

Summary for node1
------------
Succeeded: 1 (changed=1)
Failed:    1
------------
Total states run:     2
Total run time:   3.9 s
"""


def test_salts_output_is_told_in_one_line_a_minion():
    assert summary(SALT_OUTPUT.splitlines()) == ["node1: Succeeded: 1 (changed=1), Failed: 1, 3.9 s"]


def test_only_failed_states_are_shown_of_a_failure():
    text = "\n".join(failure_lines(SALT_OUTPUT.splitlines()))
    assert "broken" in text
    assert "good" not in text


def test_without_failed_states_the_last_lines_are_shown():
    assert failure_lines(["one", "two"]) == ["one", "two"]
