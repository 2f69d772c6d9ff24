"""The libvirt domain of a protected VM: rendered from the configuration, compared with what libvirt holds. Pure.

What differs from a plain domain, and why:

* the disk has ``cache='none'`` (the host's page cache would hold writes that another node can't see, and live migration
  needs it) and ``error_policy='stop'`` (a guest that sees I/O errors remounts read-only and never comes back; a stopped
  one goes on when the storage does). QEMU's image lock stays on: it is the last net against two writers;
* a second disk, ``vdb``, read-only, is the seed of this node that the guest boots from (:mod:`mnha.guest.seed`). It is
  a virtio disk as the first one, so that whatever can boot can read it; a CD drive was rejected, for it needs a
  controller and a driver more. A file of the node's own is no hindrance to a migration, for libvirt takes read-only
  disks as safe; the guest then reads the target's. A seed that is not there keeps no VM from its start
  (``startupPolicy``, which libvirt has for hard disks, too): it starts without that disk;
* a disk in Ceph is opened with the same: ``cache='none'`` switches librbd's own cache off, so no write is acknowledged
  that Ceph has not. Who else has it open QEMU's lock does not tell there (:mod:`mnha.daemon.adapters.rbd`);
* it runs in a slice of its own (``<resource>``), by which the fencer kills it (:mod:`mnha.fencer.slices`);
* ``on_crash`` and ``on_poweroff`` destroy: only the guard starts a VM again, because only it knows the lease;
* the CPU is one that can be migrated: ``host-passthrough`` breaks between hosts that differ in anything;
* the fencing token, the lease's epoch, reaches the guest as ``opt/mnha/epoch`` in fw_cfg (Linux shows it under
  ``/sys/firmware/qemu_fw_cfg/by_name/``). It belongs to one start, so it is put in by :func:`with_epoch` and is no part
  of the definition.
"""

from __future__ import annotations

import posixpath
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ..errors import FailedError

if TYPE_CHECKING:  # The guard calls with_epoch and has no pydantic.
    from ..config import ClusterConfig, Vm
    from ..config.rbd import Rbd

EPOCH_ENTRY = "opt/mnha/epoch"
CONSOLE_LOG_FOLDER = "/var/log/libvirt/qemu"
SEED_FOLDER = "/var/lib/mnha/seeds"
AGENT_CHANNEL = "org.qemu.guest_agent.0"


def console_log(vm: str) -> str:
    """Where the output of a VM's serial console is kept on the node that runs it."""
    return posixpath.join(CONSOLE_LOG_FOLDER, f"{vm}-console.log")


def seed_file(vm: str) -> str:
    """Where the seed that a VM's guest boots from lies, on every node."""
    return posixpath.join(SEED_FOLDER, f"{vm}.iso")


def render(cluster: ClusterConfig, vm_name: str, node: str, *, kvm_works: bool) -> str:
    """The domain XML of a VM as it is defined at one node.

    Nodes get the same domain but for the console's listen address, where that is given per node; live migration puts in
    the target's (:func:`with_console`).

    :param kvm_works: whether a guest runs under KVM at that node; decides where `domain_type` is auto.
    :raises InputError: the cluster has no such VM or node.
    """
    cluster.require_node(node)
    vm = cluster.require_vm(vm_name)
    domain_type = ("kvm" if kvm_works else "qemu") if vm.domain_type == "auto" else vm.domain_type
    root = ET.Element("domain", type=domain_type)
    _text(root, "name", vm_name)
    _text(root, "uuid", vm.uuid)
    _text(root, "memory", str(vm.memory_mib), unit="MiB")
    _text(root, "currentMemory", str(vm.memory_mib), unit="MiB")
    _text(root, "vcpu", str(vm.cpus), placement="static")
    _text(ET.SubElement(root, "resource"), "partition", f"/mnha/{vm_name}")  # for systemd: mnha-<name>.slice
    _os(root, cluster, vm)
    features = ET.SubElement(root, "features")
    for feature in ("acpi", "apic"):
        ET.SubElement(features, feature)
    _cpu(root, vm, emulated=domain_type == "qemu")
    clock = ET.SubElement(root, "clock", offset="utc")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="hpet", present="no")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(root, event, action)
    devices = ET.SubElement(root, "devices")
    _disk(devices, cluster, vm_name, vm)
    if vm.configure_guest:
        _seed(devices, vm_name)
    # No USB: nothing uses it, and polling it costs the host CPU time. libvirt would add a controller by default.
    ET.SubElement(devices, "controller", type="usb", index="0", model="none")
    for network in vm.networks:
        interface = ET.SubElement(devices, "interface", type="bridge")
        ET.SubElement(interface, "mac", address=network.mac)
        ET.SubElement(interface, "source", bridge=network.bridge)
        ET.SubElement(interface, "model", type="virtio")
    _consoles(devices, vm_name)
    _graphics(devices, vm.console_address_at(node))
    ET.SubElement(devices, "memballoon", model="virtio")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    return _serialize(root)


def with_epoch(xml: str, epoch: int) -> str:
    """The same domain with the fencing token `epoch` in its fw_cfg, in place of any that it has.

    :raises ValueError: `epoch` is negative; the lease's epoch never is.
    :raises FailedError: `xml` is not a domain.
    """
    if epoch < 0:
        raise ValueError(f"an epoch is never negative: {epoch}")
    root = _parse(xml)
    _drop_epoch(root)
    sysinfo = next((s for s in root.findall("sysinfo") if s.get("type") == "fwcfg"), None)
    if sysinfo is None:
        sysinfo = ET.Element("sysinfo", type="fwcfg")
        before = [child.tag for child in root].index("os") if root.find("os") is not None else len(root)
        root.insert(before, sysinfo)
    _text(sysinfo, "entry", str(epoch), name=EPOCH_ENTRY)
    return _serialize(root)


def with_console(xml: str, address: str) -> str:
    """The same domain with its VNC console listening at `address`, and nothing else changed: libvirt refuses to migrate
    a guest into a domain that it could tell from the one it runs in.

    :raises FailedError: `xml` is not a domain.
    """
    root = _parse(xml)
    for graphics in root.iterfind("devices/graphics[@type='vnc']"):
        graphics.set("listen", address)
        for listen in graphics.iterfind("listen[@type='address']"):
            listen.set("address", address)
    return _serialize(root)


def display(xml: str) -> str:
    """Where a running domain's VNC display is: `address:port`, or the path of its Unix socket; empty: it has none.

    :raises FailedError: `xml` is not a domain.
    """
    graphics = _parse(xml).find("devices/graphics[@type='vnc']")
    if graphics is None:
        return ""
    listen = graphics.find("listen")
    socket = graphics.get("socket") or (listen.get("socket") if listen is not None else None)
    return socket or f"{graphics.get('listen', '')}:{graphics.get('port', '')}"


def differences(wanted_xml: str, defined_xml: str) -> list[str]:
    """What must change in a defined domain so that it is the wanted one; one sentence each, empty if nothing.

    Everything that `wanted_xml` says must hold. What only `defined_xml` has does not count where libvirt puts it in by
    itself (addresses, aliases, controllers, input devices, defaults); it does count where it changes what the guest is
    or sees: disks, interfaces, other host resources, a direct boot, ``<shareable/>``. The epoch never counts.

    :raises FailedError: one of the two is not a domain.
    """
    wanted, defined = _parse(wanted_xml), _parse(defined_xml)
    for root in (wanted, defined):
        _drop_epoch(root)
    return list(_compare(wanted, defined, ""))


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _os(root: ET.Element, cluster: ClusterConfig, vm: Vm) -> None:
    os_ = ET.SubElement(root, "os")
    _text(os_, "type", "hvm", arch="x86_64", machine=vm.machine)
    if vm.boot is None:
        ET.SubElement(os_, "boot", dev="hd")
        return
    folder = cluster.image_folder or ""  # a rule says that it is there
    _text(os_, "kernel", posixpath.join(folder, vm.boot.kernel))
    if vm.boot.initrd:
        _text(os_, "initrd", posixpath.join(folder, vm.boot.initrd))
    if vm.boot.cmdline:
        _text(os_, "cmdline", vm.boot.cmdline)


def _cpu(root: ET.Element, vm: Vm, *, emulated: bool) -> None:
    if vm.cpu_model is None and not emulated:
        ET.SubElement(root, "cpu", mode="host-model", check="partial")
        return
    # An emulated CPU is the same everywhere, whatever the hosts are; qemu64 is QEMU's own default.
    cpu = ET.SubElement(root, "cpu", mode="custom", match="exact", check="none" if emulated else "partial")
    _text(cpu, "model", vm.cpu_model or "qemu64", fallback="forbid")


def _disk(devices: ET.Element, cluster: ClusterConfig, vm_name: str, vm: Vm) -> None:
    if vm.rbd:
        _rbd(devices, vm.rbd, vm.rbd.image_of(vm_name), vm.rbd.secret_of(vm.uuid))
        return
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    # io='threads': native AIO blocks the VM's main loop where a file system can't do it asynchronously (sparse files).
    ET.SubElement(
        disk,
        "driver",
        name="qemu",
        type=vm.image_format,
        cache="none",
        error_policy="stop",
        io="threads",
        discard="unmap",
    )
    path = posixpath.join(cluster.image_folder or "", vm.image or "")
    source = ET.SubElement(disk, "source", file=path)
    # The image belongs to QEMU's user for good (states.mnvm). libvirt would give it to that user at each start and back
    # to root at each end: late, on the node that is left, while QEMU opens it on the next.
    ET.SubElement(source, "seclabel", model="dac", relabel="no")
    ET.SubElement(disk, "target", dev="vda", bus="virtio")


def _rbd(devices: ET.Element, rbd: Rbd, image: str, secret: str) -> None:
    """An RBD image, by the monitors of the configuration: no file of Ceph's own has to be right on the node."""
    disk = ET.SubElement(devices, "disk", type="network", device="disk")
    ET.SubElement(
        disk, "driver", name="qemu", type="raw", cache="none", error_policy="stop", discard="unmap"
    )  # fmt: skip
    source = ET.SubElement(disk, "source", protocol="rbd", name=image)
    for monitor in rbd.monitors:
        host, _, port = monitor.partition(":")
        ET.SubElement(source, "host", {"name": host, **({"port": port} if port else {})})
    auth = ET.SubElement(source, "auth", username=rbd.user)
    ET.SubElement(auth, "secret", type="ceph", uuid=secret)
    ET.SubElement(disk, "target", dev="vda", bus="virtio")


def _seed(devices: ET.Element, vm_name: str) -> None:
    """What the guest boots its addresses from."""
    disk = ET.SubElement(devices, "disk", type="file", device="disk")
    # error_policy: the guest can do without what it does not get to read here.
    ET.SubElement(disk, "driver", name="qemu", type="raw", error_policy="report")
    source = ET.SubElement(disk, "source", file=seed_file(vm_name), startupPolicy="optional")
    ET.SubElement(source, "seclabel", model="dac", relabel="no")  # everybody may read it
    ET.SubElement(disk, "target", dev="vdb", bus="virtio")
    ET.SubElement(disk, "readonly")


def _consoles(devices: ET.Element, vm_name: str) -> None:
    for tag, target in (
        ("serial", {"type": "isa-serial", "port": "0"}),
        ("console", {"type": "serial", "port": "0"}),
    ):
        console = ET.SubElement(devices, tag, type="pty")
        ET.SubElement(console, "log", file=console_log(vm_name), append="on")
        ET.SubElement(console, "target", target)
    channel = ET.SubElement(devices, "channel", type="unix")
    ET.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)


def _graphics(devices: ET.Element, address: str | None) -> None:
    """VNC at `address`; without one at a Unix socket that libvirt makes, which root and QEMU alone can open."""
    if address is None:
        graphics = ET.SubElement(devices, "graphics", type="vnc")
        ET.SubElement(graphics, "listen", type="socket")
    else:
        graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen=address)
        ET.SubElement(graphics, "listen", type="address", address=address)
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="vga")


def _serialize(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _parse(xml: str) -> ET.Element:
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise FailedError(f"the domain is not XML ({error}); define the VM again") from None
    if root.tag != "domain":
        raise FailedError(f"the XML is a <{root.tag}>, not a <domain>; define the VM again")
    return root


def _drop_epoch(root: ET.Element) -> None:
    for sysinfo in root.findall("sysinfo"):
        for entry in sysinfo.findall("entry"):
            if entry.get("name") == EPOCH_ENTRY:
                sysinfo.remove(entry)
        if sysinfo.get("type") == "fwcfg" and len(sysinfo) == 0:
            root.remove(sysinfo)


_KIBIBYTES = {"": 1, "k": 1, "KiB": 1, "M": 1024, "MiB": 1024, "G": 1024**2, "GiB": 1024**2}
_MACHINE = re.compile(r"pc-(?P<chipset>q35|i440fx)-[0-9].*")

_IDENTITY: dict[str, Callable[[ET.Element], str]] = {
    "disk": lambda e: _attribute(e, "target", "dev"),
    "interface": lambda e: _attribute(e, "mac", "address").lower(),
    "channel": lambda e: _attribute(e, "target", "name"),
    "controller": lambda e: f"{e.get('type')} {e.get('index')}",
    "timer": lambda e: e.get("name", ""),
    "entry": lambda e: e.get("name", ""),
    "graphics": lambda e: e.get("type", ""),
    "sysinfo": lambda e: e.get("type", ""),
    "host": lambda e: f"{e.get('name')} {e.get('port', '')}".strip(),
}
"""By what elements that may stand several times in one place are told apart."""

_ONLY_WANTED = {
    "": {"sysinfo"},
    "os": {"kernel", "initrd", "cmdline", "loader"},
    "devices": {"disk", "interface", "hostdev", "filesystem", "graphics", "channel", "shmem", "redirdev"},
    "devices/disk/source": {"host"},
    "devices/disk": {"shareable", "readonly", "transient", "iotune", "mirror"},
    "devices/interface": {"bandwidth", "filterref", "vlan", "boot"},
    "sysinfo": {"entry"},
}
"""What may be in a definition only if it is wanted. Everything else may be libvirt's own addition."""


def _attribute(element: ET.Element, child: str, name: str) -> str:
    found = element.find(child)
    return found.get(name, "") if found is not None else ""


def _key(element: ET.Element) -> tuple[str, str]:
    identity = _IDENTITY.get(element.tag)
    return element.tag, identity(element) if identity else ""


def _label(path: str, element: ET.Element) -> str:
    tag, identity = _key(element)
    return f"{path}/{tag}[{identity}]" if identity else f"{path}/{tag}"


def _compare(wanted: ET.Element, defined: ET.Element, label: str) -> Iterator[str]:
    """The differences below two elements that stand in the same place."""
    name = label.lstrip("/") or "domain"
    for attribute, value in _attributes(wanted).items():
        found = _attributes(defined).get(attribute)
        if found != value:
            yield f"{name} {attribute}: {'not set' if found is None else found} -> {value}"
    if len(wanted) == 0 and _content(wanted) != _content(defined):
        yield f"{name}: {_content(defined) or 'empty'} -> {_content(wanted) or 'empty'}"
    there = _by_key(defined)
    for child in wanted:
        places = there.get(_key(child), [])
        if places:
            yield from _compare(child, places.pop(0), _label(label, child))
        else:
            yield f"{_label(label, child).lstrip('/')}: is missing"
    for child in (child for children in there.values() for child in children):
        if child.tag in _ONLY_WANTED.get(re.sub(r"\[[^]]*\]", "", label.lstrip("/")), ()):
            yield f"{_label(label, child).lstrip('/')}: is not wanted"


def _by_key(element: ET.Element) -> dict[tuple[str, str], list[ET.Element]]:
    result: dict[tuple[str, str], list[ET.Element]] = {}
    for child in element:
        result.setdefault(_key(child), []).append(child)
    return result


def _attributes(element: ET.Element) -> dict[str, str]:
    """Attributes in one spelling: machine types without their version, no unit, lower-case MAC addresses."""
    attributes = {name: value for name, value in element.attrib.items() if name != "unit"}
    machine = _MACHINE.fullmatch(attributes.get("machine", ""))
    if machine:
        attributes["machine"] = "pc" if machine["chipset"] == "i440fx" else "q35"
    if element.tag == "mac":
        attributes["address"] = attributes.get("address", "").lower()
    return attributes


def _content(element: ET.Element) -> str:
    """An element's text in one spelling: memory in KiB, UUIDs in lower case."""
    text = (element.text or "").strip()
    if element.tag in ("memory", "currentMemory") and text.isdigit():
        return f"{int(text) * _KIBIBYTES.get(element.get('unit', ''), 1)} KiB"
    return text.lower() if element.tag == "uuid" else text
