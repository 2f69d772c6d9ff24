"""Where several VMs go: what is promised of a node is not promised again."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mnha.core.choose import Needs, Node
from mnha.core.placement import Cluster, Placed, place, place_all, placed

RESERVE_MIB = 1024


def node(name: str, free_mib: int, vms: dict[str, str] | None = None, **more: Any) -> Node:
    """A node that is well; `vms` has what its guard has recorded of each VM."""
    told = {vm: {"vm": vm_is, "checks": {}} for vm, vm_is in (vms or {}).items()}
    record = {"checks": {"storage": {"ok": True}}, "free_memory_mib": free_mib, "cpus": 8, "guard": {"vms": told}}
    return Node(name, record, alive=True, **more)


def vm(name: str, memory_mib: int, holder: str = "", prefer: tuple[str, ...] = (), **more: Any) -> Placed:
    return Placed(Needs(name, memory_mib, 4), prefer, holder, **more)


def of(nodes: list[Node], *vms: Placed) -> Cluster:
    return Cluster(nodes, {one.needs.vm: one for one in vms}, RESERVE_MIB)


def places(cluster: Cluster, of_vm: str, *, alone: bool = False) -> dict[str, str]:
    return {name: next(iter(one.order), "") for name, one in place_all(cluster, of_vm, alone=alone).items()}


def test_two_vms_of_a_lost_node_whose_sum_does_not_fit_go_to_two_nodes() -> None:
    cluster = of([node("a", 0), node("b", 14000), node("c", 13000)], vm("x", 8192, "a"), vm("y", 8192, "a"))
    assert places(cluster, "x") == places(cluster, "y") == {"x": "b", "y": "c"}
    assert place(cluster, "y").order == ("c",)
    assert (
        "14000 MiB of memory are free, 8192 MiB of them for x, which is on its way, 1024 MiB for the host"
        in (place(cluster, "y").rejected["b"])
    )


def test_the_larger_one_is_placed_first_whatever_it_is_called() -> None:
    cluster = of([node("a", 0), node("b", 20000), node("c", 9500)], vm("a-small", 8192, "a"), vm("big", 16384, "a"))
    assert places(cluster, "a-small") == {"big": "b", "a-small": "c"}


def test_both_go_where_both_are_preferred_as_long_as_they_fit() -> None:
    prefer = ("b", "c")
    vms = vm("x", 8192, "a", prefer), vm("y", 8192, "a", prefer)
    assert places(of([node("b", 20000), node("c", 40000)], *vms), "x") == {"x": "b", "y": "b"}
    assert places(of([node("b", 17407), node("c", 40000)], *vms), "x") == {"x": "b", "y": "c"}
    assert places(of([node("b", 17408), node("c", 40000)], *vms), "x") == {"x": "b", "y": "b"}


def test_what_is_on_its_way_counts_until_the_nodes_guard_counts_it() -> None:
    vms = vm("x", 8192, "a"), vm("y", 8192, "b")
    assert places(of([node("b", 16384, {"y": "off", "x": "off"})], *vms), "x") == {"x": ""}
    assert places(of([node("b", 9216, {"y": "starting", "x": "off"})], *vms), "x") == {"x": "b"}


def test_the_target_of_a_migration_counts() -> None:
    vms = vm("x", 8192, "a"), vm("y", 8192, "c", target="b")
    assert places(of([node("b", 16384)], *vms), "x") == {"x": ""}


def test_a_vm_that_leaves_alone_does_not_take_those_of_its_holder_along() -> None:
    cluster = of([node("a", 0), node("b", 14000)], vm("x", 8192, "a"), vm("y", 8192, "a"))
    assert places(cluster, "y", alone=True) == {"y": "b"}
    assert places(cluster, "y") == {"x": "b", "y": ""}


def test_what_nobody_has_and_is_wanted_needs_a_place_at_the_same_time() -> None:
    nodes = [node("a", 0), node("b", 14000), node("c", 12000)]
    assert places(of(nodes, vm("x", 8192), vm("y", 8192, "a")), "y") == {"x": "b", "y": "c"}
    assert places(of(nodes, vm("x", 8192, wanted=False), vm("y", 8192, "a")), "y") == {"y": "b"}


def test_what_nobody_has_does_not_go_to_the_node_that_is_left() -> None:
    cluster = of([node("a", 90000), node("b", 20000)], vm("x", 8192), vm("y", 8192, "a"))
    assert places(cluster, "y") == {"x": "b", "y": "b"}
    assert places(cluster, "y", alone=True) == {"x": "a", "y": "b"}
    assert places(cluster, "x") == {"x": "a"}


def test_a_reserve_is_kept_and_told() -> None:
    choice = place(of([node("b", 9215), node("c", 9216)], vm("x", 8192)), "x")
    assert choice.order == ("c",)
    assert choice.rejected["b"] == "9215 MiB of memory are free, 1024 MiB for the host; the VM needs 8192 MiB"


def test_a_vm_is_read_from_its_records_as_far_as_they_can_be() -> None:
    needs = Needs("x", 1, 1)
    held = {"holder": "a", "phase": "migrating", "target": "b"}
    assert placed(needs, ["c"], held, "started") == Placed(needs, ("c",), "a", "b", wanted=True)
    assert placed(needs, (), {**held, "phase": "released", "holder": ""}, "stopped") == Placed(needs, wanted=False)
    assert placed(needs, (), None, None) == placed(needs, (), ["?"], 1) == Placed(needs, wanted=False)


names = st.sampled_from(["a", "b", "c", "d"])
nodes = st.lists(st.builds(node, names, st.integers(0, 60000)), min_size=1, max_size=4, unique_by=lambda one: one.name)
vms = st.lists(
    st.builds(vm, st.sampled_from(["u", "v", "w", "x"]), st.integers(64, 20000), st.sampled_from(["", "a", "b"]),
              st.lists(names, unique=True, max_size=2).map(tuple), wanted=st.booleans()),
    min_size=1, max_size=4, unique_by=lambda one: one.needs.vm,
)  # fmt: skip


@given(nodes, vms, st.booleans())
def test_never_is_more_promised_than_there_is_and_all_are_placed_alike_whoever_is_asked_for(
    found: list[Node], several: list[Placed], alone: bool
) -> None:
    cluster = of(found, *several)
    for one in several:
        went = places(cluster, one.needs.vm, alone=alone)
        for to in found:
            coming = [cluster.vms[name].needs.memory_mib for name, where in went.items() if where == to.name]
            stays = [other.needs.memory_mib for other in several
                     if other.holder == to.name and other.needs.vm not in went]  # fmt: skip
            assert not coming or sum(coming + stays) + RESERVE_MIB <= (to.record or {})["free_memory_mib"]
    wanted = [one for one in several if one.wanted and one.holder]
    for one in wanted:
        for other in wanted:
            if one.holder == other.holder:
                assert places(cluster, one.needs.vm) == places(cluster, other.needs.vm)
