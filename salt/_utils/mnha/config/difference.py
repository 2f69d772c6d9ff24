"""Where two configurations of one cluster differ, and when a change takes effect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .fields import join, show
from .model import ClusterConfig

SHOWN = 3
"""So many of the places where two configurations differ are named."""

When = Literal["now", "guest", "start", "never"]
WORDS: dict[When, str] = {
    "now": "at once",
    "guest": "at once where the guest's agent sets it, else at the VM's next start",
    "start": "at the VM's next start",
    "never": "only by a new installation",
}
OF_CLUSTER: dict[str, When] = {"name": "never", "nodes": "never", "image_folder": "start"}
"""When the cluster's own keys take effect, where it is not at once. A node's name and addresses are in certificates,
in Consul's members and in Salt's keys."""
OF_VM: dict[str, When] = {
    "uuid": "never",
    **dict.fromkeys(
        ("cpus", "memory_mib", "image", "image_format", "rbd", "networks", "boot", "domain_type", "machine",
         "cpu_model", "console_address", "configure_guest"),
        "start",
    ),
    **dict.fromkeys(("dns", "console_proxy_address"), "guest"),
}  # fmt: skip
"""The same for a VM's: what its domain is made of, and what its guest is told."""
OF_NETWORK: dict[str, When] = dict.fromkeys(("address", "netmask", "gateway", "default_route"), "guest")
"""The same for one of its networks; all else of it is the domain's. `management` is where the VM is asked for."""


@dataclass(frozen=True)
class Difference:
    """What stands at `path` (keys, and numbers in lists) in one and in the other; None where nothing does."""

    path: tuple[str | int, ...]
    old: Any
    new: Any

    @property
    def where(self) -> str:
        """The path as Salt writes it."""
        return join(*self.path)

    @property
    def when(self) -> When:
        """When the change takes effect."""
        first = str(self.path[0]) if self.path else ""
        if first == "vms" and len(self.path) > 2:
            own = OF_VM.get(str(self.path[2]), "now")
            is_in_network = self.path[2] == "networks" and len(self.path) > 4
            return OF_NETWORK.get(str(self.path[4]), own) if is_in_network else own
        return OF_CLUSTER.get(first, "now")

    def __str__(self) -> str:
        return f"{self.where}: {_shown(self.old)} → {_shown(self.new)}"


def differences(old: Any, new: Any, path: tuple[str | int, ...] = ()) -> Iterator[Difference]:
    """Each place where they differ, as deep as both have something: `vms:second` if one of them lacks that VM.

    Lists of mappings are compared one by one if they are as long as each other, else as a whole.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), (*path, str(key)))
    elif _are_alike(old, new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, (*path, number))
    elif old != new:
        yield Difference(path, old, new)


def places(old: ClusterConfig, new: ClusterConfig) -> str:
    """The first few places where two configurations differ; empty if nowhere."""
    return _first(one.where for one in differences(old.to_mapping(), new.to_mapping()))


def changes(old: ClusterConfig, new: ClusterConfig) -> str:
    """The same with the values, old → new."""
    return _first(str(one) for one in differences(old.to_mapping(), new.to_mapping()))


def _first(words: Iterable[str]) -> str:
    found = list(words)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(found[:SHOWN]) + more


def _are_alike(old: Any, new: Any) -> bool:
    """Lists of mappings, of one length."""
    lists = all(isinstance(one, Sequence) and not isinstance(one, str) for one in (old, new))
    return lists and len(old) == len(new) and all(isinstance(one, Mapping) for one in (*old, *new))


def _shown(value: Any) -> str:
    return "none" if value is None else show(value)
