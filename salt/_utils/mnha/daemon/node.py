"""What all guards of a node share: its ways to Consul, libvirt, the fencer and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import keys
from ..core.guard import Guard
from ..fencer.slices import KernelSlices
from .adapters import fencer
from .adapters.consul import Servers
from .adapters.libvirt import Connection
from .adapters.maintenance import Maintenance
from .adapters.node_records import NodeRecords
from .adapters.other_nodes import OtherNodes
from .adapters.peers import Peers
from .adapters.publisher import Publisher
from .memory import Memory
from .threads import Fault, Forever


class Node:
    """This node and its adapters, each once.

    :param config: what :func:`mnha.daemon.settings.load` returned.
    :param guards: VM -> its guard, as soon as there is one.
    :param maintained: called with why this node is to run nothing, or with nothing when it may again; in a thread of
        its own.
    """

    def __init__(self, config: dict[str, Any], guards: Mapping[str, Guard], maintained: Callable[[str], None]) -> None:
        self.config = config
        self.name, self.cluster = config["node"], config["cluster"]
        consul = config["consul"]
        self.servers = Servers(consul["servers"], Path(consul["ca"]), Path(consul["token_file"]))
        self.publisher = Publisher(self.servers)
        self.peers = Peers(self.servers, self.others)
        self._maintenance = Maintenance(self.servers, keys.full(self.cluster, keys.maintenance(self.name)), maintained)
        self.other_nodes = OtherNodes(self.servers, keys.folder(self.cluster), self.name, self.peers.seen)
        self.records = NodeRecords(self.servers, keys.folder(self.cluster))
        self.connection = Connection()
        self.fencer = fencer.Link(Path(config["fencer"]["socket"]))
        self.memory = Memory(config, guards)
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
        self.records.start()

    @property
    def threads(self) -> Iterator[Forever | Fault]:
        """The adapters' threads, and what else of them may fail."""
        for adapter in (self.publisher, self.peers, self._maintenance, self.records, self.fencer, self.connection):
            yield from adapter.threads
