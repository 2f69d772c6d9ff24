"""What all guards of a node share: its ways to Consul, libvirt, the fencer and the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import keys
from ..core.guard import Guard
from ..core.timing import Timings
from ..fencer.slices import KernelSlices
from .adapters import fencer
from .adapters.certificates import Certificates
from .adapters.consul import Servers
from .adapters.consul_disk import ConsulDisk
from .adapters.libvirt import Connection
from .adapters.maintenance import Maintenance
from .adapters.networks import Networks
from .adapters.node_records import NodeRecords
from .adapters.other_nodes import OtherNodes
from .adapters.peers import Peers
from .adapters.probe import CONSUL_DATA
from .adapters.publisher import Publisher
from .adapters.record import Record
from .adapters.share import Rules, Share
from .checks import DISK
from .memory import Memory
from .settings import run_folder
from .threads import Fault, Forever

CONSUL_GROUP = "system.slice/consul.service"
"""The control group of this node's Consul server, below the hierarchy's root."""


class Node:
    """This node and its adapters, each once.

    :param config: what :func:`mnha.daemon.settings.load` returned.
    :param guards: VM -> its guard, as soon as there is one.
    :param maintained: called with why this node is to run nothing, or with nothing when it may again; in a thread of
        its own.
    :param consul_ended: called with why this node's Consul server was ended; in a thread of its own.
    :param network_told: called with an event and a sentence when a network is lost or well again; in a thread of its
        own.
    """

    def __init__(
        self,
        config: dict[str, Any],
        guards: Mapping[str, Guard],
        maintained: Callable[[str], None],
        consul_ended: Callable[[str], None],
        network_told: Callable[[str, str], None],
    ) -> None:
        self.config = config
        self.name, self.cluster = config["node"], config["cluster"]
        consul = config["consul"]
        self.servers = Servers(consul["servers"], Path(consul["ca"]), Path(consul["token_file"]))
        self.certificates = Certificates(Path(consul["ca"]))
        self.publisher = Publisher(self.servers)
        self.peers = Peers(self.servers, self.others)
        self._maintenance = Maintenance(self.servers, keys.full(self.cluster, keys.maintenance(self.name)), maintained)
        self.other_nodes = OtherNodes(self.servers, keys.folder(self.cluster), self.name, self.peers.seen)
        self._share = self.record(keys.SHARE, "share")
        self.share = Share(self.name, Path(config["image_folder"]), self._share, Rules.of(config))
        self.records = NodeRecords(self.servers, keys.folder(self.cluster))
        self.networks = Networks(config, network_told)
        self.connection = Connection()
        self.fencer = fencer.Link(Path(config["fencer"]["socket"]))
        self.memory = Memory(config, guards)
        slices = Path(config["fencer"]["slices"])
        self.slices = KernelSlices(slices)
        self.consul_disk = ConsulDisk(
            self.servers,
            [(node, config["addresses"][node]) for node in (self.name, *self.others)],
            keys.full(self.cluster, keys.node(self.name)),
            Timings.from_dict(config["timings"]),
            CONSUL_DATA,
            slices.parent / CONSUL_GROUP,
            lambda: self.other_nodes.failing(DISK),
            consul_ended,
        )
        self._adapters = (
            self.fencer,
            self.connection,
            self.publisher,
            self.peers,
            self.consul_disk,
            self._maintenance,
            self._share,
            self.records,
            self.certificates,
            self.networks,
        )

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
        for adapter in self._adapters:
            adapter.start()

    @property
    def threads(self) -> Iterator[Forever | Fault]:
        """The adapters' threads, and what else of them may fail."""
        for adapter in self._adapters:
            yield from adapter.threads
