"""Whatever configuration is valid survives every form it is written in."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mnha import config
from mnha.errors import ConfigurationError, Fault
from mnha.guest import domain
from tests.support.configurations import pillars
from tests.support.example import example_pillar


@settings(max_examples=150, deadline=None)
@given(pillars())
def test_every_valid_configuration_survives_pillar_yaml_and_json(pillar: dict[str, Any]) -> None:
    cluster = config.load(pillar)
    assert config.load(cluster.to_pillar()) == cluster
    assert config.load(yaml.safe_load(yaml.safe_dump(cluster.to_pillar()))) == cluster
    text = config.applied_to_json(config.Applied(1, cluster))
    assert config.load_json(text).cluster == cluster
    assert config.applied_to_json(config.load_json(text)) == text


@settings(max_examples=50, deadline=None)
@given(pillars(), st.integers(0, 2**63), st.booleans())
def test_every_valid_configuration_has_a_guard_file_and_domains(
    pillar: dict[str, Any], epoch: int, kvm_works: bool
) -> None:
    cluster = config.load(pillar)
    for node in cluster.nodes:
        assert [vm["name"] for vm in config.guard_config(cluster, node)["vms"]] == list(cluster.vms)
        for vm in cluster.vms:
            xml = domain.render(cluster, vm, node, kvm_works=kvm_works)
            assert domain.differences(xml, domain.with_epoch(xml, epoch)) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70000) | st.floats() | st.text(max_size=5) | st.just("1.2.3.4@node1"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=8,
)
places = st.sampled_from(
    [
        [],
        *[[key] for key in ("name", "timings", "watchdog", "announce_s", "image_folder", "nodes", "consul", "vms")],
        *[["consul", key] for key in ("source", "ports")],
        ["nodes", "node1"],
        ["nodes", "node1", "storage"],
        ["vms", "mnvm"],
        *[["vms", "mnvm", key] for key in ("uuid", "cpus", "image", "rbd", "networks", "health", "boot")],
        ["vms", "mnvm", "console_address"],
        *[["vms", "mnvm", "rbd", key] for key in ("pool", "image", "monitors", "user", "secret")],
        ["vms", "mnvm", "networks", 0],
        *[["vms", "mnvm", "networks", 0, key] for key in ("mac", "address", "netmask", "gateway", "management")],
        ["packages"],
        ["salt"],
        ["networks"],
        *[["networks", key] for key in ("bonds", "storage", "data")],
        *[["networks", "bonds", "bond0", key] for key in ("links", "mode", "primary")],
        *[["networks", "storage", key] for key in ("device", "vlan", "bridge", "mtu", "prefix", "gateway")],
    ]
)


@settings(max_examples=400, deadline=None)
@given(places, json_values)
def test_garbage_anywhere_gives_faults_and_never_another_error(place: list[str | int], garbage: Any) -> None:
    pillar = example_pillar()
    pillar["mnha"]["cluster"]["networks"] = {
        "bonds": {"bond0": {"links": ["eth0", "eth1"]}}, "storage": {"device": "bond0", "prefix": 24},
    }  # fmt: skip
    here: Any = pillar["mnha"]
    for key in (way := ["cluster", *place])[:-1]:
        here = here.setdefault(key, {}) if isinstance(here, dict) else here[key]
    here[way[-1]] = garbage
    faults: tuple[Fault, ...] | None = None
    try:
        cluster = config.load(pillar)
    except ConfigurationError as error:
        faults = error.faults
    if faults is None:
        assert config.load(cluster.to_pillar()) == cluster
    else:
        assert faults
        assert all(fault.problem and fault.remedy for fault in faults)
