"""The kinds of values that the sections of a configuration are made of, as pydantic's types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from . import fields
from .fields import PerNode, Wrong


def per_node(check: Callable[[Any], str]) -> BeforeValidator:
    return BeforeValidator(lambda value: fields.check_per_node(value, check))


def as_tuple(value: Any) -> Any:
    """YAML has lists only; the model keeps tuples, because they can't be changed afterwards."""
    if isinstance(value, list | tuple):
        return tuple(value)
    raise Wrong(f"{fields.show(value)} is not a list", "write a list, also around a single value: [value]")


ClusterName = Annotated[str, BeforeValidator(fields.check_cluster_name)]
NodeName = Annotated[str, BeforeValidator(fields.check_node_name)]
VmName = Annotated[str, BeforeValidator(fields.check_vm_name)]
InterfaceName = Annotated[str, BeforeValidator(fields.check_interface_name)]
ModuleName = Annotated[str, BeforeValidator(fields.check_module_name)]
IPv4 = Annotated[str, BeforeValidator(fields.check_ipv4)]
Host = Annotated[str, BeforeValidator(fields.check_host)]
Mac = Annotated[str, BeforeValidator(fields.check_mac)]
Uuid = Annotated[str, BeforeValidator(fields.check_uuid)]
Url = Annotated[str, BeforeValidator(fields.check_url)]
Suite = Annotated[str, BeforeValidator(fields.check_suite)]
Sha256 = Annotated[str, BeforeValidator(fields.check_sha256)]
AbsolutePath = Annotated[str, BeforeValidator(fields.check_absolute_path)]
RelativePath = Annotated[str, BeforeValidator(fields.check_relative_path)]
Text = Annotated[str, BeforeValidator(lambda value: fields.check_text(value, "a text"))]
AddressPerNode = Annotated[PerNode, per_node(fields.check_ipv4)]
NetmaskPerNode = Annotated[PerNode, per_node(fields.check_netmask)]
ListenAddressPerNode = Annotated[PerNode, per_node(fields.check_listen_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]
SecondsOrOff = Annotated[float, Field(ge=0, le=86400)]


class Section(BaseModel):
    """What all sections have in common."""

    NOT_HERE: ClassVar[Mapping[str, str]] = {}
    """Keys that one might look for here in vain, and why."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
