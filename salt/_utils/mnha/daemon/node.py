"""What all guards of a node share: its ways to Consul, libvirt, the fencer and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import keys
from ..fencer.slices import KernelSlices
from .adapters import fencer
from .adapters.certificates import Certificates
from .adapters.consul import Servers
from .adapters.libvirt import Connection
from .adapters.maintenance import Maintenance
from .adapters.other_nodes import OtherNodes
from .adapters.peers import Peers
from .adapters.publisher import Publisher
from .threads import Fault, Forever


class Node:
    """This node and its adapters, each once.

    :param config: what :func:`mnha.daemon.settings.load` returned.
    :param maintained: called with why this node is to run nothing, or with nothing when it may again; in a thread of
        its own.
    """

    def __init__(self, config: dict[str, Any], maintained: Callable[[str], None]) -> None:
        self.config = config
        self.name, self.cluster = config["node"], config["cluster"]
        consul = config["consul"]
        self.servers = Servers(consul["servers"], Path(consul["ca"]), Path(consul["token_file"]))
        self.certificates = Certificates(Path(consul["ca"]))
        self.publisher = Publisher(self.servers)
        self.peers = Peers(self.servers, self.others)
        self._maintenance = Maintenance(self.servers, keys.full(self.cluster, keys.maintenance(self.name)), maintained)
        self.other_nodes = OtherNodes(self.servers, keys.folder(self.cluster), self.name, self.peers.seen)
        self.connection = Connection()
        self.fencer = fencer.Link(Path(config["fencer"]["socket"]))
        self.slices = KernelSlices(Path(config["fencer"]["slices"]))

    @property
    def others(self) -> list[str]:
        """The other nodes of the cluster."""
        return [node for node in self.config["nodes"] if node != self.name]

    def start(self) -> None:
        """Start the adapters' threads."""
        self.fencer.start()
        self.connection.start()
        self.publisher.start()
        self.peers.start()
        self._maintenance.start()
        self.certificates.start()

    @property
    def threads(self) -> Iterator[Forever | Fault]:
        """The adapters' threads, and what else of them may fail."""
        adapters = (self.publisher, self.peers, self._maintenance, self.fencer, self.connection, self.certificates)
        for adapter in adapters:
            yield from adapter.threads
