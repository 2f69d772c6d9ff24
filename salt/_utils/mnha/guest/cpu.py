"""Whether a running guest's CPU could go on at another host: what of it is asked there. Pure.

libvirt finds the same out when a migration begins; here it is known before anything is done. An emulated CPU is the
same everywhere.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TypedDict

from ..errors import FailedError


class Wanted(TypedDict):
    """What a host must be able to do.

    :ivar cpu: libvirt's `<cpu>` of the running guest, with all features that it was given.
    :ivar arch: such as `x86_64`.
    :ivar kind: libvirt's type of the domain, such as `kvm`.
    """

    cpu: str
    arch: str
    kind: str


def wanted(running_xml: str) -> Wanted | None:
    """What another host must be able to do; None: any can.

    :param running_xml: of the running domain: there libvirt has put in what `host-model` became.
    :raises FailedError: it is no domain.
    """
    try:
        root = ET.fromstring(running_xml)
    except ET.ParseError as error:
        raise FailedError(f"the domain is not XML ({error}); define the VM again") from None
    cpu, machine = root.find("cpu"), root.find("os/type")
    if cpu is None or machine is None or root.get("type") == "qemu":
        return None
    return Wanted(cpu=ET.tostring(cpu, encoding="unicode").strip(), arch=machine.get("arch", "x86_64"),
                  kind=root.get("type", "kvm"))  # fmt: skip
