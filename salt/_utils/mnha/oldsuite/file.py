"""The old suite's configuration file: its keys, as typed as the pillar's, and what one hand-written file says.

:func:`read` takes a text as people have it (:mod:`.tolerant`) and gives the :class:`OldConfig` and all that was
corrected on the way, or all faults at once, each with the file's own path (``Network:0:Ipaddr``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema

from ..config import faults as model_faults
from ..config.fields import Wrong, check_ipv4, check_node_name, items, join, show
from ..config.kinds import (
    AbsolutePath,
    AddressPerNode,
    Host,
    InterfaceName,
    IPv4,
    Mac,
    NetmaskPerNode,
    Section,
    as_tuple,
)
from ..config.rbd import check_monitor, check_rbd_name
from ..errors import ConfigurationError, Fault
from .tolerant import Correction
from .tolerant import read as read_json
from .written import MIB_OF_GB, as_there

NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,12})?")
PER_NODE = ("Ipaddr", "Netmask", "Gateway", "ConsoleProxyOverriddenIP")
COMMAS = str.maketrans("、；;", ",,,")
"""What may stand between the values of several nodes."""
OTHER_SPELLINGS = {"ConsoleProxyOverridenIP": "ConsoleProxyOverriddenIP"}
"""The old suite's manual has both."""


def _nothing(value: Any) -> Any:
    """The file's ways to say that there is none."""
    return None if value in ("", [], {}) else value


def _list(value: Any) -> Any:
    """A list; null is the file's empty one."""
    return () if value is None else as_tuple(value)


def check_node(value: Any) -> str:
    """A node as `IP name`."""
    remedy = 'write its address and its name: "172.20.198.3 node1"'
    words = value.split() if isinstance(value, str) else ()
    if len(words) != 2:
        raise Wrong(f"{show(value)} is no node", remedy)
    return f"{check_ipv4(words[0])} {check_node_name(words[1])}"


TEXTS = WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]})
Hosts = Annotated[tuple[Host, ...], BeforeValidator(_list), TEXTS]
Addresses = Annotated[tuple[IPv4, ...], BeforeValidator(_list), TEXTS]
TEXT = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]})
Monitors = Annotated[tuple[Annotated[str, BeforeValidator(check_monitor)], ...], BeforeValidator(_list), TEXTS]
Pool = Annotated[str, BeforeValidator(lambda value: check_rbd_name(value) if value else "")]
Address = Annotated[AddressPerNode | None, BeforeValidator(_nothing), TEXT]
Mask = Annotated[NetmaskPerNode | None, BeforeValidator(_nothing), TEXT]


class FaultyError(ConfigurationError):
    """Keys of a file are wrong by themselves.

    :param well: those that are not, as they were meant.
    """

    def __init__(self, faults: list[Fault], meant: Mapping[str, Any]) -> None:
        super().__init__(faults=sorted(faults, key=lambda fault: fault.path))
        self.faulty = {fault.path.partition(":")[0] for fault in faults}
        self.well = {key: value for key, value in meant.items() if key not in self.faulty}


class OldNetwork(Section):
    """One network interface of the VM."""

    Bridge: InterfaceName = Field(description="the bridge on every node that it is connected to")
    MacAddress: Mac = Field(description="unique in the layer-2 segment, made up once")
    Ipaddr: Address = Field(None, description='the guest\'s address; one, or "ADDRESS@NODE, ADDRESS@NODE"')
    Netmask: Mask = Field(None, description="its netmask, dotted; one or per node")
    Gateway: Address = Field(None, description="the gateway there; one or per node")
    IsMgmt: bool = Field(False, description="the guest is managed here")
    IsDefRoute: bool = Field(False, description="the guest's default route goes here")


class OldConfig(Section):
    """The whole file."""

    Node: Annotated[tuple[Annotated[str, BeforeValidator(check_node)], ...], BeforeValidator(_list)] = Field(
        description='the nodes, each as "ADDRESS NAME"'
    )
    MemorySizeInGB: Annotated[float, Field(gt=0, le=16384)] = Field(description="the VM's memory; at least 8")
    CPU: Annotated[int, Field(ge=1, le=512)] = Field(description="the VM's virtual CPUs; at least 4")
    Type: Literal["FileConf", "CephConf"] = Field("FileConf", description="where the VM's disk is")
    MonAddrs: Monitors = Field((), description="Ceph's monitors; null for FileConf")
    ChronyServers: Hosts = Field((), description="the time servers")
    PoolName: Pool = Field("", description='Ceph\'s pool; "" for FileConf')
    ImageFolder: Annotated[AbsolutePath | None, BeforeValidator(_nothing)] = Field(
        None, description="the shared folder with the VM's image"
    )
    DNS: Addresses = Field((), description="the guest's name servers")
    Network: Annotated[tuple[OldNetwork, ...], BeforeValidator(_list)] = Field(
        description="the VM's network interfaces, in the guest's order"
    )
    ConsoleProxyOverriddenIP: Address = Field(
        None, description="the address at which browsers reach the guest's console proxy; one or per node"
    )
    AllowResetRootPassword: bool = Field(False, description="whether the guest's root password may be reset")

    def addresses(self) -> dict[str, str]:
        """Node -> its address."""
        return {name: address for address, name in (node.split() for node in self.Node)}


def read(text: str, corrections: list[Correction] | None = None) -> tuple[OldConfig, list[Correction]]:
    """What a file says, and what was corrected so that it says it.

    :param corrections: gets what was corrected also where the file is refused.
    :raises FaultyError: with all faults of the file by itself; what only the whole configuration can tell (is the
        memory enough?) is found when it has become one.
    :raises ConfigurationError: it can't be read at all.
    """
    value, corrections = read_json(text, corrections)
    if not isinstance(value, Mapping):
        raise ConfigurationError("the file holds no object: it begins with { and ends with }")
    meant = _meant(value, corrections)
    try:
        found = OldConfig.model_validate(meant)
    except ValidationError as error:
        faults = model_faults.from_pydantic(error, OldConfig, meant)
        faults += _rules(model_faults.without_faulty(error, dict(meant)))
    else:
        faults = list(_rules(meant))
        if not faults:
            if (mib := found.MemorySizeInGB * MIB_OF_GB) != round(mib):
                corrections.append(
                    Correction("MemorySizeInGB", f"{found.MemorySizeInGB:g} GB are taken as {round(mib)} MiB")
                )
            return found, corrections + list(_normalized(meant, found))
    raise FaultyError(faults, meant)


def _meant(value: Mapping[str, Any], corrections: list[Correction]) -> dict[str, Any]:
    """The file with its keys and values in the forms that the model knows; each change is told."""
    found: dict[str, Any] = {}
    for key, one in value.items():
        if key == "$schema":  # for an editor
            continue
        name = OTHER_SPELLINGS.get(key, key)
        if name != key:
            corrections.append(Correction(key, f"is read as {name}"))
        if name in found and found[name] != one:
            problem = f"stands there in two spellings, as {show(found[name])} and as {show(one)}"
            raise ConfigurationError(faults=[Fault(name, one, problem, "keep one of them")])
        found[name] = one
    for path, holder, key in _places(found):
        plain = _plain(key, holder[key])
        if plain != holder[key] or type(plain) is not type(holder[key]):
            corrections.append(Correction(path, f"{show(holder[key])} is read as {show(plain)}"))
            holder[key] = plain
    return found


def _normalized(meant: Any, found: Any, path: str = "") -> Iterator[Correction]:
    """Texts that the model has in another form than the file: `52-54-…`, `/opt/../srv`, `10.0.0.9 @node1`. Neither
    case nor a blank after a comma is one.

    :param found: the model, or a part of it.
    """
    for key, one in items(meant):
        its = found[key] if isinstance(found, tuple) else getattr(found, key)
        if isinstance(one, str) and isinstance(its, str | dict):
            text = as_there(its)
            if text.replace(", ", ",").lower() != one.replace(", ", ",").lower():
                yield Correction(join(path, key), f"{show(one)} is read as {show(text)}")
        elif isinstance(its, tuple | Section):
            yield from _normalized(one, its, join(path, key))


def _places(found: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Path, holder and key of each value that may be written in another form."""
    for key in list(found):
        yield key, found, key
    for key, count in ((key, len(found[key])) for key in ("Node", "Network") if isinstance(found.get(key), list)):
        for number in range(count):
            one = found[key][number]
            if isinstance(one, dict):
                for inner in list(one):
                    yield join(key, number, inner), one, inner
            else:
                yield join(key, number), found[key], number


def _plain(key: Any, value: Any) -> Any:
    """A value as it was meant: numbers and true or false without quotes, a node's address first, commas between the
    values of several nodes.
    """
    if not isinstance(value, str):
        return value
    if key in ("CPU", "MemorySizeInGB") and NUMBER.fullmatch(value):
        return float(value) if "." in value else int(value)
    if key in ("IsMgmt", "IsDefRoute", "AllowResetRootPassword") and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if key in PER_NODE and "@" in value:
        return value.translate(COMMAS)
    if isinstance(key, int) and len(words := value.split()) == 2:
        return " ".join(sorted(words, key=lambda word: not word.replace(".", "").isdigit()))
    return value


def _rules(values: Mapping[str, Any]) -> list[Fault]:
    """What must hold between the file's keys, over plain values of which the faulty ones have been taken out."""
    faults: list[Fault] = []
    kind, monitors, pool = values.get("Type", "FileConf"), values.get("MonAddrs"), values.get("PoolName")
    if kind == "FileConf":
        if values.get("ImageFolder") in (None, ""):
            faults.append(Fault("ImageFolder", None, "is missing, and Type is FileConf", "give the shared folder"))
        for key, value in (("MonAddrs", monitors), ("PoolName", pool)):
            if isinstance(value, list | str) and value:
                faults.append(Fault(key, value, "is Ceph's, and Type is FileConf", "leave it empty, or change Type"))
    elif kind == "CephConf":
        if not monitors:
            faults.append(Fault("MonAddrs", monitors, "is missing, and Type is CephConf", "name Ceph's monitors"))
        if not pool:
            faults.append(Fault("PoolName", pool, "is missing, and Type is CephConf", "name Ceph's pool"))
    return faults + _twice(values)


def _twice(values: Mapping[str, Any]) -> list[Fault]:
    """A node that is named twice: as one of two the other would be lost."""
    given = values.get("Node")
    nodes = [node.split() for node in given if isinstance(node, str)] if isinstance(given, list | tuple) else []
    faults = []
    for place, word in enumerate(("address", "name")):
        known: set[str] = set()
        for number, node in enumerate(nodes):
            if len(node) != 2:
                continue
            if node[place] in known:
                problem = f"the {word} {node[place]} is that of another node"
                faults.append(Fault(join("Node", number), " ".join(node), problem, "correct it"))
            known.add(node[place])
    return faults
