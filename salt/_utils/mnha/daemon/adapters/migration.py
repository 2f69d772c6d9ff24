"""The way of a live migration: where to, over what, and with which of libvirt's options.

The two libvirts speak with each other (peer to peer), over TLS with certificates of their own on both sides, and the
memory goes the same way (TUNNELLED). QEMU's own TLS was rejected: its user would have to read a private key of the
node; so was a plain stream beside the secured connection, for it holds all that the guest's memory does. The price is
that libvirtd copies the memory once more on each side.

PAUSED is what safety rests on: the VM must not go on at the target before the lease is there. PERSIST_DEST is left out:
each node has its own definition from the states, and what arrives shall not replace it. What arrives has the epoch of
the VM's last *start* in its fw_cfg; it is what its guest has read, and stays so until the next start. AUTO_CONVERGE
slows down a guest that writes its memory faster than the network takes it: the alternative is a migration that never
ends. Post-copy is not used: with it the loss of either node in the middle loses the VM's memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import libvirt

from ...errors import FailedError
from ...guest.domain import with_console

_FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_TUNNELLED
    | libvirt.VIR_MIGRATE_PAUSED
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    | libvirt.VIR_MIGRATE_AUTO_CONVERGE
)


@dataclasses.dataclass(frozen=True)
class Route:
    """How one VM gets to other nodes.

    :param addresses: node -> the storage address at which its libvirt listens.
    :param consoles: node -> where the VM's VNC console listens there; empty: at a Unix socket.
    :param port: of all nodes' libvirt.
    :param pki: folder with this node's `cacert.pem`, `clientcert.pem` and `clientkey.pem`.
    :param bandwidth_mib_s: the most that is sent; 0: no limit.
    :param unsafe: migrate also where libvirt does not take the image's file system for a shared one.
    """

    addresses: Mapping[str, str]
    consoles: Mapping[str, str]
    port: int = 16514
    pki: str = ""
    bandwidth_mib_s: int = 0
    unsafe: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], vm: Mapping[str, Any]) -> Route:
        """The route that the guard's configuration describes; a file of an older version knows of none."""
        return cls(config.get("addresses", {}), vm.get("console_addresses", {}), **config.get("migration", {}))

    def uri(self, target: str) -> str:
        """libvirt's address of node `target`.

        :raises FailedError: none is known.
        """
        if target not in self.addresses:
            raise FailedError(f"no address of node {target} is known; apply states.guard")
        return f"qemu+tls://{self.addresses[target]}:{self.port}/system?pkipath={self.pki}"

    def send(self, domain: Any, target: str) -> None:
        """Migrate a live domain; returns when it has arrived, complete and paused, and has ended here.

        :raises libvirt.libvirtError: it has not, as far as this libvirt knows.
        :raises FailedError: it was not even tried.
        """
        parameters: dict[str, Any] = {}
        if self.bandwidth_mib_s:
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = self.bandwidth_mib_s
        if len(set(self.consoles.values())) > 1:
            xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE)
            parameters[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = with_console(xml, self.consoles[target])
        flags = _FLAGS | (libvirt.VIR_MIGRATE_UNSAFE if self.unsafe else 0)
        domain.migrateToURI3(self.uri(target), parameters, flags)
