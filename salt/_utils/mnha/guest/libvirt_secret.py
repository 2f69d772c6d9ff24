"""libvirt's secret for the key of a VM's disk in Ceph, on this node: looked at, made, removed.

It is private: nobody gets its value back from libvirt, who may well be allowed to talk to it. Whether it has the right
one is told by the file in which libvirt keeps it, which root alone can read.
"""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from .libvirt_domains import connection

FOLDER = Path("/etc/libvirt/secrets")
ABSENT, OTHER = "absent", "with another value"


def usage(cluster: str, vm: str) -> str:
    """By what the secret of a VM is known to libvirt, beside its UUID."""
    return f"mnha {cluster} {vm}"


def xml(uuid: str, name: str) -> str:
    """The secret's definition."""
    root = ET.Element("secret", ephemeral="no", private="yes")
    ET.SubElement(root, "uuid").text = uuid
    ET.SubElement(root, "description").text = "Managed by Salt (states.mnvm)"
    ET.SubElement(ET.SubElement(root, "usage", type="ceph"), "name").text = name
    return ET.tostring(root, encoding="unicode")


def state(uuid: str, name: str, key: str) -> str:
    """What is not as it should be: :data:`ABSENT`, :data:`OTHER`; empty: nothing.

    :param key: as Ceph writes it, in base64.
    :raises MnhaError: libvirt does not tell.
    """
    with connection() as (opened, libvirt):
        found = _by_usage(opened, libvirt, name)
        if found is None or found.UUIDString() != uuid:
            return ABSENT
    try:
        kept = (FOLDER / f"{uuid}.base64").read_text(encoding="ascii").strip()
    except OSError:
        return OTHER
    return "" if kept == key else OTHER


def define(uuid: str, name: str, key: str) -> None:
    """Make the secret, with this value; one of the same use that has another UUID is replaced."""
    with connection() as (opened, libvirt):
        found = _by_usage(opened, libvirt, name)
        if found is not None and found.UUIDString() != uuid:
            found.undefine()
        opened.secretDefineXML(xml(uuid, name)).setValue(base64.b64decode(key))


def undefine(name: str) -> bool:
    """Remove the secret of this use; False: there was none."""
    with connection() as (opened, libvirt):
        found = _by_usage(opened, libvirt, name)
        if found is not None:
            found.undefine()
        return found is not None


def _by_usage(opened: Any, libvirt: Any, name: str) -> Any:
    kind = libvirt.VIR_SECRET_USAGE_TYPE_CEPH
    return next((one for one in opened.listAllSecrets() if (one.usageType(), one.usageID()) == (kind, name)), None)
