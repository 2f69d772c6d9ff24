"""The seed as libvirt and QEMU take it: read-only, and a VM starts without it where it is missing."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt
import pytest

from mnha import config
from mnha.guest import disk, domain, iso9660
from tests.support import real_libvirt
from tests.support.example import example_with

UUID = "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c11"


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_libvirt.RealLibvirt]:
    with real_libvirt.running(tmp_path_factory.mktemp("libvirt")) as made:
        yield made


@contextlib.contextmanager
def started(hosted: real_libvirt.RealLibvirt, disks: Sequence[str] = ("vda", "vdb")) -> Iterator[Any]:
    """A VM that is small, and paused, with these disks of the example's."""
    root = ET.fromstring(domain.render(config.load(example_with({})), "mnvm", "node1", kvm_works=False))
    for one in root.findall("devices/disk"):
        source = one.find("source")
        assert source is not None
        source.set("file", str(hosted.files / Path(source.get("file", "")).name))
    small = ET.fromstring(
        f"<domain type='qemu'><name>mnvm</name><uuid>{UUID}</uuid><memory unit='MiB'>32</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>"
    )
    devices = small.find("devices")
    assert devices is not None
    devices.extend(one for target in disks for one in root.findall(f"devices/disk/target[@dev='{target}']/.."))
    hosted.images("create", "-f", "qcow2", hosted.files / "mnvm.img", "16M")
    made = libvirt.open(hosted.uri).defineXML(ET.tostring(small, encoding="unicode"))
    try:
        made.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        yield made
    finally:
        with contextlib.suppress(libvirt.libvirtError):
            made.destroy()
        made.undefine()


def test_a_vm_has_its_seed_and_its_image_is_still_its_first_disk(hosted: real_libvirt.RealLibvirt) -> None:
    path = hosted.files / "mnvm.iso"
    path.write_bytes(iso9660.image("cidata", {"meta-data": b""}))
    with started(hosted) as made:
        found = disk.running(made.XMLDesc())
        assert found is not None
        assert (found.target, found.chain) == ("vda", (str(hosted.files / "mnvm.img"),))
        assert made.blockInfo("vdb")[0] == iso9660.SIZE
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (0, 0o644), "nobody has changed whose it is"


def test_a_vm_starts_without_a_seed_that_is_missing_and_is_defined_with_it_still(
    hosted: real_libvirt.RealLibvirt,
) -> None:
    (hosted.files / "mnvm.iso").unlink(missing_ok=True)
    with started(hosted) as made:
        assert made.isActive()
        assert "vdb" not in made.XMLDesc()
        assert "vdb" in made.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)


def why_it_can_not_migrate(hosted: real_libvirt.RealLibvirt, made: Any) -> str:
    """What libvirt says of a migration to where the VM is already: that it is unsafe comes before that."""
    with pytest.raises(libvirt.libvirtError) as told:
        made.migrate(libvirt.open(hosted.uri), libvirt.VIR_MIGRATE_LIVE, None, None, 0)
    return str(told.value)


def test_a_seed_of_the_nodes_own_makes_no_migration_unsafe(hosted: real_libvirt.RealLibvirt) -> None:
    (hosted.files / "mnvm.iso").write_bytes(iso9660.image("cidata", {}))
    with started(hosted, ["vda", "vdb"]) as made:
        assert "unsafe" in why_it_can_not_migrate(hosted, made), "its image lies on no shared file system here"
    with started(hosted, ["vdb"]) as made:
        assert "unsafe" not in why_it_can_not_migrate(hosted, made)
