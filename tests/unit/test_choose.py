"""The choice of a node: a table of what rules one out, and properties over anything."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnha.core.choose import Choice, Needs, Node, choose, objection

NEEDS = Needs("mnvm", memory_mib=8192, cpus=4)


def record(memory=16384, cpus=8, **checks):
    found = {"storage": {"ok": True, "why": ""}, **{k: {"ok": not why, "why": why} for k, why in checks.items()}}
    return {"v": 1, "guard": {"version": "1"}, "checks": found, "free_memory_mib": memory, "cpus": cpus}


def fit(name, **more):
    return Node(name, record(**more), alive=True)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (fit("a"), ""),
        (Node("a", record(), alive=False), "is lost"),
        (Node("a", record(), alive=None), "not known to Consul"),
        (Node("a", None, alive=True), "never reported"),
        (Node("a", {"v": 1}, alive=True), "no checks"),
        (Node("a", {"checks": {}}, alive=True), "no checks"),
        (Node("a", {"checks": {"storage": "fine"}}, alive=True), "check storage fails"),
        (Node("a", {"checks": {"storage": {"ok": 1}}}, alive=True), "check storage fails"),
        (fit("a", bridge="no bridge br_mgmt"), "check bridge fails: no bridge br_mgmt"),
        (fit("a", memory=8191), "8191 MiB of memory are free; the VM needs 8192 MiB"),
        (fit("a", cpus=3), "has 3 CPUs, the VM needs 4"),
        (Node("a", record(), alive=True, maintenance={"by": "eve", "reason": "fan"}), "is in maintenance by eve: fan"),
        (Node("a", record(), alive=True, maintenance={}), "is in maintenance"),
        (Node("a", {"checks": {"x": {"ok": True}}, "free_memory_mib": float("nan")}, alive=True), "0 MiB"),
    ],
)
def test_objections(node, words):
    found = objection(node, NEEDS)
    assert words in found if words else found == ""


def of_two(**failing):
    """A node whose two VMs have their own checks; those named fail with their image."""
    checks = {vm: {"image": {"ok": vm not in failing, "why": failing.get(vm, "")}} for vm in ("mnvm", "other")}
    return Node("a", {**record(), "guard": {"vms": {vm: {"checks": own} for vm, own in checks.items()}}}, alive=True)


def test_a_check_of_one_vm_rules_the_node_out_for_that_one_only():
    assert objection(of_two(mnvm="no image"), NEEDS) == "check image fails: no image"
    assert objection(of_two(other="no image"), NEEDS) == ""


def of_older(name="a", vms=("mnvm",), **checks):
    """A node whose guard tells the checks of all its VMs among the node's own, as guards did before."""
    found = record(**checks)
    return Node(name, {**found, "guard": {"version": "0", "vms": {vm: {"state": "standby"} for vm in vms}}}, alive=True)


def test_what_an_older_guard_tells_of_its_only_vm_rules_its_node_out():
    assert objection(of_older(image="no image"), NEEDS) == "check image fails: no image"
    assert objection(fit("a", image="no image"), NEEDS) == "check image fails: no image"


def test_what_an_older_guard_tells_of_one_of_its_vms_puts_its_node_last_and_not_out():
    doubtful = of_older("a", ("mnvm", "other"), memory=65536, image="no image")
    choice = choose([doubtful, fit("b")], NEEDS, prefer=["a"])
    assert choice.order == ("b", "a")
    assert choice.reasons["a"].endswith("in doubt: check image fails: no image")
    assert choose([doubtful], NEEDS).order == ("a",)


def test_a_node_that_gave_the_vm_back_comes_last_for_that_vm_and_is_not_ruled_out():
    failed = {**record(memory=65536), "guard": {"vms": {"mnvm": {"vm": "off", "checks": {}, "failed_here": True}}}}
    nodes = [Node("a", failed, alive=True), fit("b")]
    choice = choose(nodes, NEEDS, prefer=["a"])
    assert choice.order == ("b", "a")
    assert choice.reasons["a"].endswith("in doubt: it gave the VM back lately, which could not run there")
    assert choose(nodes[:1], NEEDS).order == ("a",)


@pytest.mark.parametrize("told", [1, "true", None, {}])
def test_only_what_is_certain_puts_a_node_last(told):
    big = {**record(memory=65536), "guard": {"vms": {"mnvm": {"failed_here": told}}}}
    assert choose([Node("a", big, alive=True), fit("b")], NEEDS).order == ("a", "b")


def test_what_an_older_guard_tells_of_its_node_rules_it_out_for_all():
    assert objection(of_older("a", ("mnvm", "other"), libvirt="dead"), NEEDS) == "check libvirt fails: dead"


def test_records_of_old_and_new_guards_stand_side_by_side():
    """An upgrade under way; the image of the other VM is missing for all."""
    new = dataclasses.replace(of_two(other="no image"), name="c")
    choice = choose([of_older("a", ("mnvm", "other"), image="no image"), fit("b"), new], NEEDS)
    assert choice.order == ("b", "c", "a")
    assert not choice.rejected


def test_a_guard_that_knows_other_vms_only_is_no_candidate():
    assert "does not know new: apply states.guard" in objection(of_two(), dataclasses.replace(NEEDS, vm="new"))


@pytest.mark.parametrize(
    "guard", [None, "x", {"vms": []}, {"vms": {"mnvm": 1}}, {"vms": {"mnvm": {"checks": []}}},
              {"vms": {"mnvm": {"checks": {"image": {"ok": "yes"}}}}}],
)  # fmt: skip
def test_checks_of_a_vm_that_can_not_be_read_make_no_candidate(guard):
    assert objection(Node("a", {**record(), "guard": guard}, alive=True), NEEDS).startswith("check ")


def test_the_holder_of_a_lost_lease_is_no_candidate():
    choice = choose([fit("a"), fit("b")], NEEDS, holder="a")
    assert choice.order == ("b",)
    assert choice.rejected == {"a": "holds the lease that is being lost"}


def test_preference_comes_before_size_and_size_before_name():
    nodes = [fit("a"), fit("b", memory=32768), fit("c"), fit("d", memory=32768)]
    assert choose(nodes, NEEDS).order == ("b", "d", "a", "c")
    assert choose(nodes, NEEDS, prefer=["c", "a"]).order == ("c", "a", "b", "d")


def test_the_sentence_names_the_choice_and_every_reason():
    text = choose([fit("a"), Node("b")], NEEDS, prefer=["a"]).sentence
    assert text.startswith("a (preferred as number 1")
    assert "b: is not known" in text
    assert "no node can take it over (b: " in choose([Node("b")], NEEDS).sentence
    assert "no other node" in Choice().sentence


names = st.sampled_from(["a", "b", "c", "d", "e"])
short = st.text(max_size=3)
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | short,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(short, inner, max_size=2),
)
records = (
    st.none()
    | st.builds(record, memory=st.integers(0, 40000), cpus=st.integers(0, 16))
    | st.fixed_dictionaries({"checks": junk, "free_memory_mib": junk, "cpus": junk})
)
nodes = st.lists(
    st.builds(Node, names, records, st.sampled_from([True, True, False, None]), st.none() | st.just({"by": "x"}))
    | st.builds(fit, names, memory=st.sampled_from([8192, 16384]))
    | st.builds(dataclasses.replace, st.builds(fit, names), alive=st.sampled_from([False, None]))
    | st.builds(dataclasses.replace, st.builds(fit, names), maintenance=st.just({"by": "x"})),
    unique_by=lambda node: node.name,
)


@given(nodes, st.lists(names, unique=True), st.sampled_from(["", "a"]))
def test_every_node_is_chosen_or_has_a_reason_and_only_fit_ones_are_chosen(found, prefer, holder):
    choice = choose(found, NEEDS, prefer, holder)
    assert sorted([*choice.order, *choice.rejected]) == sorted(node.name for node in found)
    assert all(choice.rejected.values())
    by_name = {node.name: node for node in found}
    for name in choice.order:
        node = by_name[name]
        assert node.alive is True
        assert node.maintenance is None
        assert name != holder
        assert all(check["ok"] is True for check in node.record["checks"].values())
        assert node.record["free_memory_mib"] >= NEEDS.memory_mib
    assert choice.sentence


@given(nodes, st.lists(names, unique=True))
def test_two_masters_with_the_same_facts_choose_the_same(found, prefer):
    assert choose(found, NEEDS, prefer).order == choose(found[::-1], NEEDS, prefer).order
