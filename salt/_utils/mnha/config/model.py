"""The model of a cluster's configuration: every key, its type, its default and its meaning, and nothing else.

This is the only place where a default stands. `pillar/defaults.yaml` is generated from it (see :mod:`.reference`) and a
test keeps the two equal. Every section is strict (no number in quotes, no ``yes`` for ``true``), immutable, and refuses
unknown keys. What concerns several keys at once is in :mod:`.rules`; no :class:`ClusterConfig` exists that breaks one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..core.timing import PROFILES, Timings
from ..errors import InputError
from . import fields, rules
from .fields import Wrong
from .host_networks import HostNetworks
from .kinds import (
    AbsolutePath,
    AddressPerNode,
    ClusterName,
    Host,
    InterfaceName,
    IPv4,
    ListenAddressPerNode,
    Mac,
    ModuleName,
    NetmaskPerNode,
    NodeName,
    Port,
    RelativePath,
    Seconds,
    SecondsOrOff,
    Section,
    Sha256,
    Suite,
    Text,
    Url,
    Uuid,
    VmName,
    as_tuple,
)
from .rbd import Rbd
from .shared_mounts import SharedMount


def _off(value: Any) -> Any:
    """YAML 1.1 reads the unquoted word `off` as false; no other spelling of false or true is understood."""
    return "off" if value is False else value


def _timings(value: Any) -> Any:
    """A profile's name, or all four timings; refused with the inequality if they would not be safe."""
    rules.check_timings(value)
    return value


def _profiles() -> str:
    """The profiles' names and numbers, as the reference shows them."""
    return ", ".join(
        f"{name} ({', '.join(f'{key} {value:g}' for key, value in timings.to_dict().items())})"
        for name, timings in PROFILES.items()
    )


TimingsOrProfile = Annotated[str | dict[str, float], BeforeValidator(_timings)]


class Node(Section):
    """One KVM host."""

    management: IPv4 = Field(description="Its address in the management network.")
    storage: IPv4 = Field(
        description="Its address in the storage network; Consul and live migration use this one as well."
    )


class RepositorySource(Section):
    """Consul from an apt repository that the states add."""

    kind: Literal["repository"] = Field(description="An apt repository that the states add.")
    url: Url = Field("https://apt.releases.hashicorp.com", description="The repository's address.")
    suite: Suite = Field("bookworm", description="The release's code name in that repository.")
    key_url: Url | None = Field(
        None, description="Where its signing key is (ASCII-armored); left out: <url>/gpg, as HashiCorp has it."
    )


class PackageSource(Section):
    """Consul from what apt is already set up for."""

    kind: Literal["package"] = Field(description="The package `consul` of the apt sources that are set up already.")


class FileSource(Section):
    """Consul from a file."""

    kind: Literal["file"] = Field(description="One binary or .deb that lies on every node.")
    path: AbsolutePath = Field(description="Where it lies.")
    sha256: Sha256 = Field(description="Its SHA-256 sum; another file is refused.")


class ConsulPorts(Section):
    """Consul's ports, by Consul's own names. All others of its ports are closed."""

    https: Port = Field(8501, description="HTTP API with TLS, on loopback and the storage network.")
    server: Port = Field(8300, description="RPC between the servers.")
    serf_lan: Port = Field(8301, description="Gossip, TCP and UDP.")


class Consul(Section):
    """The quorum's store."""

    source: Annotated[RepositorySource | PackageSource | FileSource, Field(discriminator="kind")] = Field(
        RepositorySource(kind="repository"), description="Where the program comes from: repository, package or file."
    )
    ports: ConsulPorts = Field(ConsulPorts(), description="The ports it listens on.")


class Pip(Section):
    """How pip finds the packages of the guard's virtual environment."""

    no_index: bool = Field(False, description="true: no package index is asked; find_links must then have everything.")
    find_links: Text | None = Field(None, description="A folder on the node, or a URL, where pip finds packages.")


class Packages(Section):
    """Where other software comes from."""

    pip: Pip = Field(Pip(), description="pip's options for the guard's virtual environment.")


class Salt(Section):
    """Who the nodes' masters are."""

    masters_on_nodes: bool = Field(True, description="Every node is a master too (hot-hot, one shared key).")
    masters: Annotated[tuple[Host, ...], BeforeValidator(as_tuple)] = Field(
        (), description="Addresses of masters outside the cluster, besides or instead."
    )
    pillar_files: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = Field(
        (),
        description="Files of the pillar tree, or patterns (*), that the nodes' masters get besides those that their "
        "own pillar is made of.",
    )


class Network(Section):
    """One network interface of a VM."""

    bridge: InterfaceName = Field(description="The bridge on every node that it is connected to.")
    mac: Mac = Field(description="Its MAC address, unique in the layer-2 segment; made up once and kept.")
    address: AddressPerNode | None = Field(
        None,
        description="The guest's address: one, or one per node if the guest moves between subnets, as a mapping "
        '{node: address} or "ADDRESS@NODE, ADDRESS@NODE". Required if `management`.',
    )
    netmask: NetmaskPerNode | None = Field(
        None, description="Its netmask, dotted; one or per node. Required with address."
    )
    gateway: AddressPerNode | None = Field(
        None, description="The gateway in that network; one or per node. Required if `default_route`."
    )
    management: bool = Field(False, description="The guest is managed here. True for exactly one network of a VM.")
    default_route: bool = Field(
        False, description="The guest's default route goes here. True for exactly one network of a VM."
    )


class Health(Section):
    """How the guard finds out that a running VM hangs."""

    agent: bool = Field(True, description="Ask the QEMU guest agent.")
    tcp_port: Port | None = Field(
        None, description="Then connect to this port of the management address; left out: not asked."
    )
    interval_s: Seconds = Field(5.0, description="How often.")
    timeout_s: Seconds = Field(3.0, description="How long an answer may take.")
    failures: Annotated[int, Field(ge=1, le=1000)] = Field(
        3,
        description="After this many failures in a row a VM that had answered counts as hung, if its virtual CPUs have "
        "not run in all that time.",
    )
    boot_grace_s: SecondsOrOff = Field(
        300.0,
        description="So long after its start, or a reboot, a guest may be silent. One that answers neither agent nor "
        "port for as long counts as hung, too; one that has never answered is told of, and not reset.",
    )
    on_hung: Literal["report", "reset"] = Field(
        "reset",
        description="What is done about a VM that hangs. report: it is told. reset: it is told, and started again on "
        "its node; one whose virtual CPUs still run is asked to shut down before.",
    )


class Restarts(Section):
    """How often a VM that ends is started again where it was, before another node gets it."""

    max: Annotated[int, Field(ge=0, le=1000)] = Field(3, description="At most so many times …")
    window_s: Seconds = Field(600.0, description="… within this time.")


class Boot(Section):
    """Direct kernel boot, instead of the boot loader on the VM's disk."""

    kernel: RelativePath = Field(description="The kernel, a file in image_folder.")
    initrd: RelativePath | None = Field(None, description="The initial RAM disk, a file in image_folder.")
    cmdline: Text | None = Field(None, description="The kernel's command line.")


class Vm(Section):
    """One protected VM."""

    uuid: Uuid = Field(description="The domain's UUID; made once with uuidgen and kept.")
    cpus: Annotated[int, Field(ge=1, le=512)] = Field(
        description="Virtual CPUs; at least 4 (8 for more than 100 hosts or 1,000 VMs, 12 beyond 1,000 and 10,000)."
    )
    memory_mib: Annotated[int, Field(ge=64, le=16 * 1024 * 1024)] = Field(
        description="Memory in MiB; at least 8192 (16384 and 32768 where cpus is 8 and 12)."
    )
    image: RelativePath | None = Field(
        None, description="The disk image, a file in image_folder. Required, unless the disk is in Ceph (`rbd`)."
    )
    image_format: Literal["qcow2", "raw"] = Field("qcow2", description="That file's format, qcow2 or raw.")
    rbd: Rbd | None = Field(None, description="The disk as an RBD image of a Ceph cluster, instead of `image`.")
    networks: Annotated[tuple[Network, ...], BeforeValidator(as_tuple)] = Field(
        description="Its network interfaces, in the guest's order."
    )
    dns: Annotated[tuple[IPv4, ...], BeforeValidator(as_tuple)] = Field((), description="The guest's name servers.")
    configure_guest: bool = Field(
        True,
        description="Whether the guest gets its name, addresses, default route and name servers: from a seed disk when "
        "it boots, by its agent while it runs. false: they are its own business: no seed, and its agent is not told.",
    )
    health: Health = Field(Health(), description="How the guard finds out that it hangs.")
    restarts: Restarts = Field(
        Restarts(), description="How often it is started again in place before another node gets it."
    )
    stop_timeout_s: Seconds = Field(
        120.0, description="How long the guest may take to shut down when it is told to; then it is killed."
    )
    prefer: Annotated[tuple[NodeName, ...], BeforeValidator(as_tuple)] = Field(
        (), description="Nodes in the order in which they are chosen when all else is equal."
    )
    boot: Boot | None = Field(None, description="Direct kernel boot; left out: from the image.")
    domain_type: Literal["auto", "kvm", "qemu"] = Field(
        "auto", description="kvm, qemu (emulated, slow, for tests), or auto: kvm where KVM works."
    )
    machine: Literal["q35", "pc"] = Field("q35", description="The machine type; pc for guests that know only PCI.")
    cpu_model: Text | None = Field(
        None,
        description="A CPU model that all nodes have, as in `virsh cpu-models x86_64`; left out: that of the host "
        "(live migration then needs hosts of one generation).",
    )
    console_address: ListenAddressPerNode | None = Field(
        None,
        description="Where the VM's VNC console listens, without a password; one or per node. Left out: at a Unix "
        "socket that only root can open (`mnvm.console` says how).",
    )
    console_proxy_address: AddressPerNode | None = Field(
        None,
        description="The address at which browsers reach the guest's console proxy, if it is not its own; one or per "
        "node. The guest is told it.",
    )
    allow_reset_root_password: bool = Field(
        False, description="Whether the guest's root password may be reset through the guest agent."
    )

    def console_address_at(self, node: str) -> str | None:
        """Where the VNC console listens while the VM runs at `node`; None: at a Unix socket."""
        return fields.value_at(self.console_address, node) if self.console_address else None


class Migration(Section):
    """Live migration between the nodes, by libvirt over TLS in the storage network."""

    port: Port = Field(16514, description="Where the nodes' libvirt listens, on the storage address only.")
    bandwidth_mib_s: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        0, description="The most that a migration sends, in MiB/s, so that it leaves the storage some. 0: no limit."
    )
    unsafe: bool = Field(
        False,
        description="true: migrate though libvirt does not know the file system of image_folder as a shared one (it "
        "knows NFS, CephFS, GlusterFS, GFS2, OCFS2, SMB and the like). It must be shared and coherent all the same, or "
        "the image is destroyed. For tests.",
    )


class ClusterConfig(Section):
    """A cluster: everything under `mnha:cluster` in the pillar, without secrets."""

    name: ClusterName = Field(description="The cluster's name; every Consul key, event tag and runner call carries it.")
    timings: TimingsOrProfile = Field(
        "default",
        description=f"The lease's timings: {_profiles()}, or a mapping of these four. Unsafe ones are refused, with "
        "the inequality they violate.",
    )
    watchdog: Annotated[Literal["required", "automatic", "off"], BeforeValidator(_off)] = Field(
        "automatic",
        description="required: no VM starts without a watchdog; automatic: used where there is one; off: not used.",
    )
    watchdog_device: AbsolutePath = Field(
        "/dev/watchdog", description="The watchdog's device file, the same on every node (softdog or hardware)."
    )
    watchdog_driver: ModuleName | None = Field(
        None,
        description="The kernel module of that device, such as softdog: the states load it, now and at each boot, so "
        "that it can be stopped again (nowayout=0). Left out: it is there already.",
    )
    announce_s: SecondsOrOff = Field(
        2.5,
        description="So long before a lease expires the other nodes announce it, so that a take-over can be prepared "
        "(never done) early. 0: no announcement.",
    )
    masterless_takeover_after_s: SecondsOrOff = Field(
        2.0,
        description="So long after a lease has expired a guard takes over without a master, if no master has ordered "
        "anybody to; after one was given back, 3 s longer. The nodes do so in the order in which a master would choose "
        "them, 0.5 s apart. At least 1, for masters that are well come first; 0: none does so without a master, and a "
        "node that becomes fit while no other is may wait for a master's next look, up to a minute.",
    )
    storage_lost_after_s: SecondsOrOff = Field(
        12.0,
        description="So long a VM is left alone when its image can't be reached from its node, or QEMU has paused it "
        "there because its disk fails. Then it is killed and started elsewhere, if another node's storage is well; if "
        "none is it is left alone, for it may go on when the file server is back. 0: it is never killed for that.",
    )
    management_lost_after_s: SecondsOrOff = Field(
        15.0,
        description="So long a VM stays on a node that has lost its management network: no carrier, no link that "
        "passes frames, or nobody who answers there. Then it is migrated, live, to the best node whose management "
        "network is well, or, if that can't be, shut down and started there. The time counts while another node has "
        "the network: where it is gone for all, the VM stays, also when it comes back. 0: it is never moved for that.",
    )
    memory_reserve_mib: Annotated[int, Field(ge=0, le=1024 * 1024)] = Field(
        1024,
        description="So much memory of a node, in MiB, no VM is placed on: what QEMU needs beside its guest's memory "
        "(100 to 300 MiB each), what Salt's jobs and Consul take at times, and the 1024 MiB by which a node's record "
        "may be behind.",
    )
    image_folder: AbsolutePath | None = Field(
        None,
        description="The shared folder with the disk images; every node has it mounted. Required, unless each VM has "
        "its disk in Ceph (`rbd`), and boots from it.",
    )
    mounts: dict[AbsolutePath, SharedMount] = Field(
        {},
        description="The shared file systems that the states mount on each node, by folder. One that is left out is "
        "there already, and not touched.",
    )
    unsafe_mount: Literal["refuse", "warn"] = Field(
        "refuse",
        description="What becomes of a node that has image_folder from NFSv3, or mounted with nolock, local_lock, soft "
        "or the like: QEMU's image lock does not hold between nodes there, or writes are given up that the file server "
        "may carry out later. refuse: it is no candidate, though what runs there goes on; warn: it is told only.",
    )
    minimum_size: bool = Field(True, description="false: VMs below 4 CPUs and 8192 MiB are allowed (for tests).")
    nodes: dict[NodeName, Node] = Field(
        description="Three or five KVM hosts. The key is minion id, hostname and Consul node name at once."
    )
    networks: HostNetworks | None = Field(
        None,
        description="The hosts' own networks, which the states make. Left out: they are there already, and nothing of "
        "them is touched.",
    )
    chrony_servers: Annotated[tuple[Host, ...], BeforeValidator(as_tuple)] = Field(
        (),
        description="Whom the nodes take the time from, by chrony: servers outside, or nodes, by name or address. A "
        "node in the list asks the others in it. Empty: their time is set up already, and not touched.",
    )
    consul: Consul = Field(Consul(), description="The quorum's store, a server on every node.")
    migration: Migration = Field(Migration(), description="Live migration between the nodes.")
    packages: Packages = Field(Packages(), description="Where other software comes from.")
    salt: Salt = Field(Salt(), description="Who the nodes' masters are.")
    vms: dict[VmName, Vm] = Field(description="The protected VMs, by name.")

    @model_validator(mode="after")
    def _obey_rules(self) -> Self:
        faults = rules.check(self.model_dump())
        if faults:
            raise Wrong(faults=faults)
        return self

    @property
    def effective_timings(self) -> Timings:
        """The timings in force: those of the profile, or the cluster's own."""
        return PROFILES[self.timings] if isinstance(self.timings, str) else Timings.from_dict(self.timings)

    def require_node(self, name: str) -> Node:
        """The node of that name.

        :raises InputError: there is none; with those that there are.
        """
        if name not in self.nodes:
            raise InputError(f"cluster {self.name} has no node {name!r}; its nodes are {', '.join(self.nodes)}")
        return self.nodes[name]

    def require_vm(self, name: str) -> Vm:
        """The VM of that name.

        :raises InputError: there is none; with those that there are.
        """
        if name not in self.vms:
            raise InputError(f"cluster {self.name} has no VM {name!r}; its VMs are {', '.join(self.vms)}")
        return self.vms[name]

    def to_mapping(self) -> dict[str, Any]:
        """The whole configuration, defaults included, as plain values; keys that hold nothing are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_pillar(self) -> dict[str, Any]:
        """The pillar that :func:`mnha.config.load` reads back to an equal configuration."""
        return {"mnha": {"cluster": self.to_mapping()}}
