"""The libvirt domain: what it says, its fencing token, and what counts as a difference to what libvirt holds.

``data/domains/*.xml`` is what libvirt 9.0 with QEMU 7.2 (Debian 12) made of a rendered domain when it was defined.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from mnha import config
from mnha.errors import FailedError, InputError
from mnha.guest import domain
from tests.support.example import example_with

DATA = Path(__file__).parent / "data/domains"
SMALL = {"minimum_size": False, "vms:mnvm:cpus": 1, "vms:mnvm:memory_mib": 256}
BOOT = {"kernel": "vmlinuz", "initrd": "i", "cmdline": "console=ttyS0"}


def render(changes: dict[str, Any] | None = None, *, node: str = "node1", kvm_works: bool = True) -> str:
    return domain.render(config.load(example_with(changes or {})), "mnvm", node, kvm_works=kvm_works)


def parse(changes: dict[str, Any] | None = None, **options: Any) -> ET.Element:
    return ET.fromstring(render(changes, **options))


def attributes(root: ET.Element, path: str) -> dict[str, str]:
    found = root.find(path)
    assert found is not None, f"no {path}"
    return found.attrib


def test_it_is_the_vm_of_the_configuration() -> None:
    root = parse()
    assert root.findtext("name") == "mnvm"
    assert root.findtext("uuid") == "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c11"
    assert (root.findtext("memory"), attributes(root, "memory")["unit"], root.findtext("vcpu")) == ("8192", "MiB", "4")
    assert attributes(root, "devices/disk/source")["file"] == "/opt/smp/mngt/mnvm.img"
    assert attributes(root, "devices/interface/mac")["address"] == "52:54:00:5a:01:01"
    assert attributes(root, "devices/interface/source")["bridge"] == "br_mgmt"


def test_the_disk_bypasses_the_hosts_cache_and_stops_the_vm_on_errors() -> None:
    driver = attributes(parse({"vms:mnvm:image_format": "raw"}), "devices/disk/driver")
    assert (driver["cache"], driver["error_policy"], driver["type"]) == ("none", "stop", "raw")


def test_the_seed_is_a_second_disk_that_nobody_writes_to_and_no_start_needs() -> None:
    first, second = parse().findall("devices/disk")
    assert [attributes(disk, "target")["dev"] for disk in (first, second)] == ["vda", "vdb"], "the image comes first"
    assert first.find("readonly") is None
    assert second.find("readonly") is not None
    assert attributes(second, "source") == {"file": "/var/lib/mnha/seeds/mnvm.iso", "startupPolicy": "optional"}
    assert attributes(second, "driver")["error_policy"] == "report", "the VM runs on without it"
    assert render(node="node1") == render(node="node2")


def test_a_guest_that_is_not_configured_has_no_seed_and_one_that_it_had_is_not_wanted() -> None:
    bare = render({**SMALL, "vms:mnvm:configure_guest": False})
    assert len(ET.fromstring(bare).findall("devices/disk")) == 1
    assert domain.differences(bare, defined(DEFINED[0][0])) == ["devices/disk[vdb]: is not wanted"]


CEPH = {
    "vms:mnvm:image": ...,
    "vms:mnvm:rbd:pool": "mn",
    "vms:mnvm:rbd:monitors": ["10.0.0.1", "mon-b:6789"],
    "image_folder": ...,
}


def test_a_disk_in_ceph_is_opened_by_its_monitors_with_a_secret_and_without_a_cache() -> None:
    disk = parse(CEPH).find("devices/disk")
    assert disk is not None
    assert (disk.get("type"), attributes(disk, "source")) == ("network", {"protocol": "rbd", "name": "mn/mnvm"})
    hosts = [one.attrib for one in disk.iterfind("source/host")]
    assert hosts == [{"name": "10.0.0.1"}, {"name": "mon-b", "port": "6789"}]
    driver = attributes(disk, "driver")
    assert driver == {"name": "qemu", "type": "raw", "cache": "none", "error_policy": "stop", "discard": "unmap"}
    assert attributes(disk, "source/auth") == {"username": "libvirt"}
    assert attributes(disk, "target") == {"dev": "vda", "bus": "virtio"}


def test_the_secret_of_a_disk_in_ceph_is_the_same_on_each_node_and_each_vm_has_its_own() -> None:
    nodes = {
        attributes(parse(CEPH, node=node), "devices/disk/source/auth/secret")["uuid"] for node in ("node1", "node2")
    }
    given = "11111111-2222-3333-4444-555555555555"
    assert len(nodes) == 1
    chosen = attributes(parse({**CEPH, "vms:mnvm:rbd:secret": given}), "devices/disk/source/auth/secret")
    assert chosen == {"type": "ceph", "uuid": given}
    other = {**CEPH, "vms:mnvm:uuid": "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c12"}
    assert attributes(parse(other), "devices/disk/source/auth/secret")["uuid"] not in nodes


def test_libvirt_keeps_a_disk_in_ceph_as_it_is_and_a_change_of_it_is_seen() -> None:
    wanted = render({**CEPH, **SMALL}, kvm_works=False)
    connection = libvirt.open("test:///default")
    try:
        text = wanted.replace('<domain type="qemu"', '<domain type="test"')
        defined = connection.defineXML(text).XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    finally:
        connection.close()
    assert domain.differences(text, defined) == []
    monitors = {**CEPH, **SMALL, "vms:mnvm:rbd:monitors": ["10.0.0.1", "10.0.0.9"]}
    changed = domain.differences(wanted, render(monitors, kvm_works=False))
    assert changed == ["devices/disk[vda]/source/host[mon-b 6789]: is missing",
                       "devices/disk[vda]/source/host[10.0.0.9]: is not wanted"]  # fmt: skip
    assert any("type: file -> network" in one for one in domain.differences(wanted, render(SMALL, kvm_works=False)))


def test_a_vm_that_ends_stays_off_until_the_guard_starts_it() -> None:
    root = parse()
    assert (root.findtext("on_poweroff"), root.findtext("on_crash")) == ("destroy", "destroy")
    assert root.findtext("on_reboot") == "restart"


@pytest.mark.parametrize(
    ("wanted", "kvm_works", "expected"),
    [("auto", True, "kvm"), ("auto", False, "qemu"), ("kvm", False, "kvm"), ("qemu", True, "qemu")],
)
def test_kvm_is_used_where_it_works_unless_the_type_is_given(wanted: str, kvm_works: bool, expected: str) -> None:
    assert parse({"vms:mnvm:domain_type": wanted}, kvm_works=kvm_works).get("type") == expected


@pytest.mark.parametrize("changes", [{}, {"vms:mnvm:domain_type": "qemu"}, {"vms:mnvm:cpu_model": "Skylake-Server"}])
def test_the_cpu_can_be_migrated(changes: dict[str, Any]) -> None:
    assert attributes(parse(changes), "cpu")["mode"] in ("host-model", "custom")


def test_a_display_is_a_unix_socket_unless_it_is_told_otherwise() -> None:
    assert attributes(parse(), "devices/graphics") == {"type": "vnc"}
    assert attributes(parse(), "devices/graphics/listen") == {"type": "socket"}
    addresses = "172.20.198.3@node1, 172.20.198.4@node2, 172.20.198.5@node3"
    root = parse({"vms:mnvm:console_address": addresses}, node="node2")
    assert attributes(root, "devices/graphics")["listen"] == "172.20.198.4"
    assert attributes(root, "devices/graphics/listen")["address"] == "172.20.198.4"


def test_libvirt_never_changes_whose_the_image_is() -> None:
    assert attributes(parse(), "devices/disk/source/seclabel") == {"model": "dac", "relabel": "no"}


@pytest.mark.parametrize(
    ("graphics", "expected"),
    [
        ("<graphics type='vnc' socket='/run/x/vnc.sock'><listen type='socket' socket='/run/x/vnc.sock'/></graphics>",
         "/run/x/vnc.sock"),
        ("<graphics type='vnc'><listen type='socket' socket='/run/x/vnc.sock'/></graphics>", "/run/x/vnc.sock"),
        ("<graphics type='vnc' port='5901' listen='192.0.2.1'><listen type='address' address='192.0.2.1'/></graphics>",
         "192.0.2.1:5901"),
        ("<graphics type='spice' port='5901'/>", ""),
    ],
    ids=["a socket", "a socket, by the listener only", "an address", "no VNC"],
)  # fmt: skip
def test_where_a_running_vm_is_displayed(graphics: str, expected: str) -> None:
    assert domain.display(f"<domain><devices>{graphics}</devices></domain>") == expected


def test_a_direct_boot_takes_its_files_from_the_image_folder() -> None:
    os_ = parse({"vms:mnvm:boot": BOOT}).find("os")
    assert os_ is not None
    assert (os_.findtext("kernel"), os_.findtext("initrd")) == ("/opt/smp/mngt/vmlinuz", "/opt/smp/mngt/i")
    assert os_.find("boot") is None


def test_text_from_the_configuration_can_not_become_xml() -> None:
    os_ = parse({"vms:mnvm:boot": {"kernel": "k", "cmdline": "a='1' <b/> & \"c\""}}).find("os")
    assert os_ is not None
    assert os_.findtext("cmdline") == "a='1' <b/> & \"c\""


def test_the_console_is_kept_in_a_file_across_starts() -> None:
    log = attributes(parse(), "devices/serial/log")
    assert log == {"file": "/var/log/libvirt/qemu/mnvm-console.log", "append": "on"}


def test_unknown_names_are_refused() -> None:
    cluster = config.load(example_with({}))
    with pytest.raises(InputError, match="no VM 'other'"):
        domain.render(cluster, "other", "node1", kvm_works=True)
    with pytest.raises(InputError, match="no node 'node7'"):
        domain.render(cluster, "mnvm", "node7", kvm_works=True)


def epochs(xml: str) -> list[str | None]:
    return [entry.text for entry in ET.fromstring(xml).findall("sysinfo[@type='fwcfg']/entry[@name='opt/mnha/epoch']")]


def test_a_newer_epoch_takes_the_place_of_the_older() -> None:
    xml = domain.with_epoch(render(), 7)
    assert epochs(xml) == ["7"]
    assert epochs(domain.with_epoch(xml, 8)) == ["8"]
    assert domain.with_epoch(domain.with_epoch(xml, 8), 7) == xml


def test_other_firmware_entries_stay_beside_the_epoch() -> None:
    xml = render().replace("<os>", "<sysinfo type='fwcfg'><entry name='opt/x/y'>z</entry></sysinfo><os>", 1)
    with_epoch = domain.with_epoch(xml, 3)
    assert epochs(with_epoch) == ["3"]
    assert len(ET.fromstring(with_epoch).findall("sysinfo/entry")) == 2


def test_a_negative_epoch_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="never negative"):
        domain.with_epoch(render(), -1)


@pytest.mark.parametrize("xml", ["", "<domain>", "<network/>", "not xml"])
def test_what_is_no_domain_is_refused(xml: str) -> None:
    with pytest.raises(FailedError, match="define the VM again"):
        domain.with_epoch(xml, 1)
    with pytest.raises(FailedError, match="define the VM again"):
        domain.differences(render(), xml)


DEFINED = [
    ("q35-kvm-defined-by-libvirt-9.0.xml", {**SMALL}, True),
    (
        "pc-qemu-direct-boot-defined-by-libvirt-9.0.xml",
        {"vms:mnvm:boot": BOOT, "vms:mnvm:machine": "pc", "vms:mnvm:cpu_model": "Skylake-Client"},
        False,
    ),
]


def defined(name: str) -> str:
    """What libvirt held. The second one was defined as mnvm2, to stand beside the first."""
    text = (DATA / name).read_text(encoding="utf-8")
    return text.replace("mnvm2", "mnvm").replace("7f2b1f0e", "6f2b1f0e")


@pytest.mark.parametrize(("name", "changes", "kvm_works"), DEFINED, ids=[case[0] for case in DEFINED])
def test_what_libvirt_adds_is_no_difference(name: str, changes: dict[str, Any], kvm_works: bool) -> None:
    wanted = render(changes, kvm_works=kvm_works)
    assert domain.differences(wanted, defined(name)) == []
    assert domain.differences(domain.with_epoch(wanted, 99), defined(name)) == []
    assert domain.differences(wanted, domain.with_epoch(defined(name), 99)) == []


CHANGES: list[tuple[str, Callable[[str], str], str]] = [
    ("memory", lambda x: x.replace(">262144<", ">262145<"), "memory: 262145 KiB -> 262144 KiB"),
    ("cpus", lambda x: x.replace(">1</vcpu>", ">2</vcpu>"), "vcpu: 2 -> 1"),
    ("machine", lambda x: x.replace("pc-q35-7.2", "pc-i440fx-7.2"), "os/type machine: pc -> q35"),
    ("type", lambda x: x.replace("<domain type='kvm'", "<domain type='qemu'"), "domain type: qemu -> kvm"),
    ("image", lambda x: x.replace("mnvm.img", "old.img"), "devices/disk[vda]/source file: /opt/smp/mngt/old.img -> "),
    ("cache", lambda x: x.replace("cache='none'", "cache='writeback'"), "devices/disk[vda]/driver cache: writeback"),
    ("error policy", lambda x: x.replace(" error_policy='stop'", ""), "devices/disk[vda]/driver error_policy: not set"),
    ("bridge", lambda x: x.replace("br_mgmt", "br0"), "source bridge: br0 -> br_mgmt"),
    ("MAC", lambda x: x.replace("5a:01:01", "5a:01:09"), "devices/interface[52:54:00:5a:01:01]: is missing"),
    ("crash action", lambda x: x.replace("<on_crash>destroy", "<on_crash>restart"), "on_crash: restart -> destroy"),
    ("console", lambda x: x.replace("<listen type='socket'/>", "<listen type='none'/>"), "listen type: none -> socket"),
    ("agent", lambda x: x.replace("guest_agent.0", "other"), "devices/channel[org.qemu.guest_agent.0]: is missing"),
    (
        "shareable",
        lambda x: x.replace("</disk>", "<shareable/></disk>", 1),
        "devices/disk[vda]/shareable: is not wanted",
    ),
    ("seed", lambda x: x.replace("seeds/mnvm.iso", "seeds/other.iso"), "devices/disk[vdb]/source file: /var/lib/mnha/"),
    ("seed that is written to", lambda x: x.replace("<readonly/>", ""), "devices/disk[vdb]/readonly: is missing"),
    (
        "another disk",
        lambda x: x.replace("</disk>", "</disk><disk type='file'><target dev='vdc'/></disk>", 1),
        "devices/disk[vdc]: is not wanted",
    ),
    ("host device", lambda x: x.replace("</devices>", "<hostdev/></devices>"), "devices/hostdev: is not wanted"),
    ("kernel", lambda x: x.replace("</os>", "<kernel>/k</kernel></os>"), "os/kernel: is not wanted"),
    (
        "firmware entry",
        lambda x: x.replace("</sysinfo>", "<entry name='opt/x'>1</entry></sysinfo>"),
        "sysinfo[fwcfg]: is not wanted",
    ),
]


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_what_somebody_changed_is_a_difference(change: Callable[[str], str], expected: str) -> None:
    original = defined(DEFINED[0][0])
    changed = change(original)
    assert changed != original
    found = domain.differences(render(SMALL), changed)
    assert any(line.startswith(expected) or expected in line for line in found), found
    assert all(re.fullmatch(r"\S.*", line) for line in found)


def test_only_the_consoles_address_changes_on_the_way_to_another_node() -> None:
    before = domain.with_console(render({"vms:mnvm:console_address": "127.0.0.1"}), "192.0.2.6")
    after = domain.with_console(before, "192.0.2.7")
    assert domain.differences(before, after) == [
        "devices/graphics[vnc] listen: 192.0.2.7 -> 192.0.2.6",
        "devices/graphics[vnc]/listen address: 192.0.2.7 -> 192.0.2.6",
    ]
