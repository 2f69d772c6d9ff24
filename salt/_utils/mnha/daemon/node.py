"""What all guards of a node share: its ways to Consul, libvirt, the fencer and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import keys
from ..fencer.slices import KernelSlices
from .adapters import fencer
from .adapters.consul import Servers
from .adapters.libvirt import Connection
from .adapters.maintenance import Maintenance
from .adapters.other_nodes import OtherNodes
from .adapters.peers import Peers
from .adapters.publisher import Publisher
from .adapters.record import Record
from .adapters.share import Rules, Share
from .settings import run_folder
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
        self.publisher = Publisher(self.servers)
        self.peers = Peers(self.servers, self.others)
        self._maintenance = Maintenance(self.servers, keys.full(self.cluster, keys.maintenance(self.name)), maintained)
        self.other_nodes = OtherNodes(self.servers, keys.folder(self.cluster), self.name, self.peers.seen)
        self._share = self.record(keys.SHARE, "share")
        self.share = Share(self.name, Path(config["image_folder"]), self._share, Rules.of(config))
        self.connection = Connection()
        self.fencer = fencer.Link(Path(config["fencer"]["socket"]))
        self.slices = KernelSlices(Path(config["fencer"]["slices"]))

    @property
    def others(self) -> list[str]:
        """The other nodes of the cluster."""
        return [node for node in self.config["nodes"] if node != self.name]

    def record(self, key: str, name: str) -> Record:
        """A record in Consul that this cluster's guards keep.

        :param key: relative to the cluster's folder.
        :param name: of the file below /run in which it is known to the next guard.
        """
        return Record(self.servers, keys.full(self.cluster, key), run_folder(self.config) / f"{name}.json")

    def start(self) -> None:
        """Start the adapters' threads."""
        self.fencer.start()
        self.connection.start()
        self.publisher.start()
        self.peers.start()
        self._maintenance.start()
        self._share.start()

    @property
    def threads(self) -> Iterator[Forever | Fault]:
        """The adapters' threads, and what else of them may fail."""
        for adapter in (self.publisher, self.peers, self._maintenance, self._share, self.fencer, self.connection):
            yield from adapter.threads
