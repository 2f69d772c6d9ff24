"""The seed that a guest boots from: what is in it, and that others read it as it was meant."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import pycdlib
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mnha import config
from mnha.errors import InputError
from mnha.guest import iso9660, seed
from tests.support.example import example_with
from tests.unit.test_guest_networks import ADDRESSES, BY_NODE, GATEWAYS, MAC, NODES, PUBLIC, SECOND

DNS = {"vms:mnvm:dns": ["172.20.198.53", "172.20.198.54"]}


def files(node: str = "node1", changes: dict[str, Any] | None = None) -> dict[str, str]:
    found = seed.files(config.load(example_with(changes or {})), "mnvm", node)
    assert found is not None
    return found


def ethernets(node: str, changes: dict[str, Any]) -> Any:
    text = yaml.safe_load(files(node, changes)["network-config"])
    assert text["version"] == 2
    return text["ethernets"]


def test_the_instance_is_the_same_at_each_node_and_start_so_that_the_guest_keeps_its_host_keys() -> None:
    ids = {yaml.safe_load(files(node, BY_NODE)["meta-data"])["instance-id"] for node in NODES}
    assert ids == {"6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c11"}


def test_its_networks_are_applied_at_each_boot() -> None:
    text = files()["vendor-data"]
    assert text.startswith("#cloud-config\n"), "cloud-init takes nothing else for its configuration"
    assert yaml.safe_load(text) == {"updates": {"network": {"when": ["boot"]}}}
    assert files()["user-data"].startswith("#cloud-config\n")


@pytest.mark.parametrize("node", NODES)
def test_it_has_the_addresses_of_its_node(node: str) -> None:
    assert ethernets(node, {**BY_NODE, **DNS}) == {
        "eth0": {
            "match": {"macaddress": MAC},
            "dhcp4": False,
            "addresses": [f"{ADDRESSES[node]}/24"],
            "gateway4": GATEWAYS[node],
            "nameservers": {"addresses": DNS["vms:mnvm:dns"]},
        }
    }
    metadata = yaml.safe_load(files(node, {**BY_NODE, "vms:mnvm:console_proxy_address": PUBLIC})["meta-data"])
    assert (metadata["local-hostname"], metadata["node"]) == ("mnvm", node)
    assert metadata["console_proxy_address"] == PUBLIC[node]


def test_a_network_without_the_default_route_gets_no_gateway() -> None:
    networks = yaml.safe_load(yaml.safe_dump(example_with({})["mnha"]["cluster"]["vms"]["mnvm"]["networks"]))
    found = ethernets("node1", {"vms:mnvm:networks": [*networks, SECOND]})
    assert found["eth1"] == {"match": {"macaddress": SECOND["mac"]}, "dhcp4": False, "addresses": ["10.0.0.9/16"]}
    assert "nameservers" not in found["eth0"], "none are given"


def test_a_guest_that_is_not_configured_has_none_and_unknown_names_are_refused() -> None:
    cluster = config.load(example_with({"vms:mnvm:configure_guest": False}))
    assert seed.files(cluster, "mnvm", "node1") is None
    with pytest.raises(InputError, match="no VM 'other'"):
        seed.files(cluster, "other", "node1")
    with pytest.raises(InputError, match="no node 'node7'"):
        seed.files(cluster, "mnvm", "node7")


def read_back(image: bytes) -> tuple[dict[str, bytes], set[str]]:
    """What pycdlib reads: files by their Joliet names, and the plain names."""
    disk = pycdlib.PyCdlib()
    disk.open_fp(io.BytesIO(image))
    found = {}
    for child in disk.list_children(joliet_path="/"):
        if not child.is_dot() and not child.is_dotdot():
            name = child.file_identifier().decode("utf-16-be")
            content = io.BytesIO()
            disk.get_file_from_iso_fp(content, joliet_path=f"/{name}")
            found[name] = content.getvalue()
    plain = set()
    for child in disk.list_children(iso_path="/"):
        if not child.is_dot() and not child.is_dotdot():
            plain.add(name := child.file_identifier().decode("ascii"))
            content = io.BytesIO()
            disk.get_file_from_iso_fp(content, iso_path=f"/{name}")
            assert content.getvalue() in found.values()
    disk.close()
    return found, plain


def test_pycdlib_reads_what_was_written() -> None:
    contents = files("node2", {**BY_NODE, **DNS})
    found, plain = read_back(seed.image(contents))
    assert found == {name: text.encode() for name, text in contents.items()}
    assert plain == {"METADATA.;1", "NETWORKC.;1", "USERDATA.;1", "VENDORDA.;1"}


FILES = st.lists(
    st.tuples(st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), st.binary(max_size=5000)),
    max_size=12,
    unique_by=lambda one: "".join(filter(str.isalnum, one[0]))[:8],
).map(dict)


@given(FILES)
def test_whatever_is_in_it_is_read_back_and_its_size_is_the_same(contents: dict[str, bytes]) -> None:
    image = iso9660.image("cidata", contents)
    assert len(image) == iso9660.SIZE
    found, plain = read_back(image)
    assert found == contents
    assert len(plain) == len(contents)
    assert iso9660.image("cidata", dict(reversed(contents.items()))) == image, "equal files give equal bytes"


def test_the_machines_own_programs_know_its_label_and_its_size(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    path.write_bytes(seed.image(files()))
    words = ["blkid", "--probe", "--output", "export", path]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    assert {"LABEL=cidata", "TYPE=iso9660", "BLOCK_SIZE=2048"} <= set(told)
    size = subprocess.run(["isosize", path], check=True, capture_output=True, text=True).stdout
    assert int(size) == path.stat().st_size == iso9660.SIZE


@pytest.mark.parametrize(
    ("label", "contents"),
    [
        ("a label that is too long", {"a": b""}),
        ("cidata", {"vendor-data": b"", "vendor-data2": b""}),
        ("cidata", {"a": bytes(iso9660.SIZE)}),
    ],
    ids=["label", "two names alike", "too much"],
)
def test_what_does_not_go_into_an_image_is_refused(label: str, contents: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match="image"):
        iso9660.image(label, contents)


def test_a_folder_that_would_need_a_second_sector_is_refused() -> None:
    with pytest.raises(ValueError, match="image"):
        iso9660.image("cidata", {f"{number:08}": b"" for number in range(60)})
