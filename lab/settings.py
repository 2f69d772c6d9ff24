"""Where the lab keeps things and what its cluster looks like. Pure: nothing here touches the machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent

SALT_VERSION = "3008.3"
SUITE = "bookworm"

MGMT = "mgmt"
STORAGE = "storage"
NETWORKS = (MGMT, STORAGE)

NAME_VARIABLE = "MNHA_LAB_NAME"
SWITCH = os.environ.get(NAME_VARIABLE) or "mnha-lab"
"""The lab's name: that of the network namespace that holds both switches, of its control group, its lock and, by
default, its state folder. Labs of different names live side by side on one machine."""

MGMT_NET = "172.20.198"
STORAGE_NET = "192.168.93"
FIRST_HOST = 3
SWITCH_HOST = 254
GUEST_HOST = 10
GUEST_PORT = 8080
VM_NAME = "mnvm"

IMAGE_FOLDER = "/srv/shared/mngt"
PACKAGES_FOLDER = "/srv/packages"
CONSOLE_LOG_FOLDER = "var/log/libvirt/qemu"

MAX_NODES = 5


class LabError(Exception):
    """The lab could not do what was asked; the message names the thing and the remedy."""


@dataclass(frozen=True)
class NodePlan:
    """One node's names and addresses. `index` counts from 1; all else follows from it."""

    index: int

    @property
    def name(self) -> str:
        return f"node{self.index}"

    @property
    def mgmt(self) -> str:
        return f"{MGMT_NET}.{FIRST_HOST + self.index - 1}"

    @property
    def guest_net(self) -> str:
        """The guest's network while it runs here: another one at each node, all of them over the management switch. At
        the first node it is the nodes' own."""
        first, second, third = MGMT_NET.split(".")
        return f"{first}.{second}.{int(third) + self.index - 1}"

    @property
    def guest(self) -> str:
        return f"{self.guest_net}.{GUEST_HOST}"

    @property
    def storage(self) -> str:
        return f"{STORAGE_NET}.{FIRST_HOST + self.index - 1}"

    def link(self, network: str) -> str:
        """Name of the switch's end of the node's cable to `network`."""
        return {MGMT: f"m{self.index}", STORAGE: f"s{self.index}"}[network]


@dataclass(frozen=True)
class Settings:
    """Folders of the lab, from $MNHA_LAB_CACHE, $MNHA_LAB_STATE and $MNHA_LAB_NAME or their defaults."""

    cache: Path
    state: Path
    repository: Path = field(default=REPOSITORY)

    @staticmethod
    def from_environment() -> Settings:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", SWITCH):
            raise LabError(f"{NAME_VARIABLE}={SWITCH!r} cannot name a lab: small letters, digits and dashes only")
        return Settings(
            cache=Path(os.environ.get("MNHA_LAB_CACHE") or "/var/cache/mnha-lab"),
            state=Path(os.environ.get("MNHA_LAB_STATE") or f"/var/lib/{SWITCH}"),
        )

    @property
    def record(self) -> Path:
        """What the lab is about to make or has made; written before it is made."""
        return self.state / "lab.json"

    @property
    def shared(self) -> Path:
        """Host side of the nodes' shared file system."""
        return self.state / "shared"

    @property
    def disk_image(self) -> Path:
        return self.shared / "mngt" / "mnvm.img"

    def node_dir(self, name: str) -> Path:
        return self.state / "nodes" / name

    def node_root(self, name: str) -> Path:
        """The node's file system; mounted only while the node is powered on."""
        return self.node_dir(name) / "root"

    def node_upper(self, name: str) -> Path:
        """The node's own files (overlay upper layer); readable also while the node is off."""
        return self.node_dir(name) / "upper"


def plan_nodes(count: int) -> list[NodePlan]:
    """The plans of `count` nodes; an even or absurd number is refused, for it gains no quorum."""
    if count not in (1, 3, 5):
        raise LabError(f"a cluster has 3 or 5 nodes (1 for trials), not {count}: use --nodes 3 or --nodes 5")
    return [NodePlan(index) for index in range(1, count + 1)]
