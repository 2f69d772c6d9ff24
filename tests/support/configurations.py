"""Valid configurations of every kind, drawn by hypothesis."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import strategies as st

names = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
uuids = st.integers(1, 2**64).map(lambda number: str(uuid.UUID(int=number)))
seconds = st.integers(1, 3600) | st.floats(0.1, 3600, allow_nan=False)


@st.composite
def networks(draw: st.DrawFn, nodes: list[str], subnet: int, *, first: bool) -> dict[str, Any]:
    network: dict[str, Any] = {
        "bridge": draw(st.from_regex(r"br[a-z0-9_]{0,10}", fullmatch=True)),
        # The low byte keeps the addresses of one configuration apart.
        "mac": f"52:54:00:{draw(st.integers(0, 255)):02x}:{draw(st.integers(0, 255)):02x}:{subnet:02X}",
        "management": first,
        "default_route": first,
    }
    if first or draw(st.booleans()):
        host = draw(st.integers(2, 254))
        spelling = draw(st.sampled_from(["one", "mapping", "text"]))
        by_node = {node: f"10.{index}.{subnet}.{host}" for index, node in enumerate(nodes)}
        gateways = {node: f"10.{index}.{subnet}.1" for index, node in enumerate(nodes)}
        pairs = {"address": by_node, "gateway": gateways}
        for key, values in pairs.items():
            network[key] = {
                "one": values[nodes[0]],
                "mapping": values,
                "text": ", ".join(f"{value}@{node}" for node, value in values.items()),
            }[spelling]
        network["netmask"] = "255.255.255.0"
    return network


@st.composite
def vms(draw: st.DrawFn, nodes: list[str], index: int) -> dict[str, Any]:
    count = draw(st.integers(1, 3))
    vm: dict[str, Any] = {
        "uuid": str(uuid.UUID(int=draw(st.integers(1, 2**64)) * 4 + index)),
        "cpus": draw(st.integers(4, 64)),
        "memory_mib": draw(st.integers(8192, 65536)),
        "networks": [draw(networks(nodes, 8 * index + n + 1, first=n == 0)) for n in range(count)],
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "image_format": st.sampled_from(["qcow2", "raw"]),
        "dns": st.lists(st.integers(1, 200).map("9.9.9.{}".format), max_size=3),
        "prefer": st.permutations(nodes),
        "health": st.fixed_dictionaries({}, optional={"tcp_port": st.integers(1, 65535), "interval_s": seconds}),
        "restarts": st.fixed_dictionaries({"max": st.integers(0, 9)}, optional={"window_s": seconds}),
        "stop_timeout_s": seconds,
        "boot": st.just({"kernel": "vmlinuz", "initrd": "initrd", "cmdline": "console=ttyS0 quiet"}),
        "domain_type": st.sampled_from(["auto", "kvm", "qemu"]),
        "machine": st.sampled_from(["q35", "pc"]),
        "console_proxy_address": st.just("172.20.198.99"),
        "allow_reset_root_password": st.booleans(),
        "console_address": st.just(dict.fromkeys(nodes, "0.0.0.0")) | st.just("127.0.0.1"),
    }
    return vm | draw(disks(index)) | draw(st.fixed_dictionaries({}, optional=optional))


def disks(index: int) -> st.SearchStrategy[dict[str, Any]]:
    """A file, or an image in Ceph."""
    monitors = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2:6789", "mon-c.example.org"]), min_size=1, unique=True)
    optional = {"image": st.just(f"disk{index}"), "user": st.sampled_from(["libvirt", "mn.a"]), "secret": uuids}
    rbd = st.fixed_dictionaries({"pool": st.sampled_from(["mn", "vm_s.1"]), "monitors": monitors}, optional=optional)
    return st.just({"image": f"disk{index}.img"}) | rbd.map(lambda one: {"rbd": one})


def host_networks(nodes: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    links = st.sampled_from([["eth0", "eth1"], {node: [f"en{i}"] for i, node in enumerate(nodes)}])
    bond = st.fixed_dictionaries({"links": links}, optional={"mode": st.integers(0, 6), "miimon_ms": st.just(50)})
    storage = {"device": st.just("bond0"), "prefix": st.just(24), "mtu": st.sampled_from([1500, 9000])}
    gateway = st.sampled_from(["192.168.93.1", dict.fromkeys(nodes, "192.168.93.1")])
    return st.fixed_dictionaries(
        {"bonds": st.fixed_dictionaries({"bond0": bond})},
        optional={
            "storage": st.fixed_dictionaries(storage, optional={"gateway": gateway, "bridge": st.just("br0")}),
            "data": st.fixed_dictionaries({"device": st.just("em1")}, optional={"vlan": st.integers(1, 4094)}),
        },
    )


@st.composite
def pillars(draw: st.DrawFn) -> dict[str, Any]:
    nodes = draw(st.sampled_from([3, 5]).flatmap(lambda n: st.lists(names, min_size=n, max_size=n, unique=True)))
    cluster: dict[str, Any] = {
        "name": draw(names),
        "image_folder": "/" + draw(names),
        "nodes": {
            node: {"management": f"172.20.198.{i + 3}", "storage": f"192.168.93.{i + 3}"}
            for i, node in enumerate(nodes)
        },
        "vms": {f"vm{i}": draw(vms(nodes, i)) for i in range(draw(st.integers(1, 3)))},
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "timings": st.sampled_from(["default", "fast", {"renew_s": 1, "deadline_s": 10, "kill_s": 2.5, "lease_s": 15}]),
        "watchdog": st.sampled_from(["required", "automatic", "off", False]),
        "watchdog_driver": st.sampled_from(["softdog", "iTCO_wdt"]),
        "announce_s": st.sampled_from([0, 1, 2.5]),
        "storage_lost_after_s": st.sampled_from([0, 10, 12.5]),
        "memory_reserve_mib": st.sampled_from([0, 512]),
        "minimum_size": st.booleans(),
        "consul": st.sampled_from(
            [
                {"source": {"kind": "package"}},
                {"source": {"kind": "file", "path": "/srv/consul.deb", "sha256": "ab" * 32}},
                {"source": {"kind": "repository", "url": "https://mirror/consul/"}, "ports": {"https": 9501}},
            ]
        ),
        "salt": st.just({"masters_on_nodes": False, "masters": ["salt.example.org", "10.9.9.9"]}),
        "packages": st.just({"pip": {"no_index": True, "find_links": "/srv/wheels"}}),
        "networks": host_networks(nodes),
        "chrony_servers": st.sampled_from([["ntp1.example.org", "10.9.9.1"], nodes[:2]]),
    }
    cluster |= draw(st.fixed_dictionaries({}, optional=optional))
    if not any("image" in vm or "boot" in vm for vm in cluster["vms"].values()) and draw(st.booleans()):
        del cluster["image_folder"]
    return {"mnha": {"cluster": cluster}}
