"""A configuration that is given as a file: read, and checked. Needs pydantic, and nothing of Salt's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml

from .. import config
from ..errors import ConfigurationError, InputError
from ..oldsuite import conversion, file, tolerant
from .result import count

LARGEST_BYTES = 1024 * 1024
CHECK_PASS = "config file check pass"
"""The old suite's words."""


@dataclasses.dataclass(frozen=True)
class Given:
    """A configuration from a file.

    :param is_old: the file is in the form of the old suite.
    :param corrections: what was corrected in the file so that it says this.
    """

    cluster: config.ClusterConfig
    is_old: bool
    corrections: tuple[str, ...] = ()


def read_file(path: str, base: Mapping[str, Any] | None, vm: str = "") -> Given:
    """What a file says: the old suite's JSON, or a pillar as YAML or JSON.

    :param path: an absolute path on this machine.
    :param base: what stands under `mnha:cluster` so far, for what the old form can't say; None: nothing yet.
    :param vm: which VM the old form is about; empty: the only one.
    :raises InputError: there is no such file.
    :raises ConfigurationError: with all faults, each with its path in the file.
    """
    text = _text(path)
    if not path.endswith((".yaml", ".yml", ".sls")):
        value, corrections = tolerant.read(text)
        if not isinstance(value, Mapping) or "mnha" not in value:
            return _old(text, base, vm)
        return Given(config.load(value), False, tuple(map(str, corrections)))
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return Given(config.load(value if isinstance(value, Mapping) else {}), False)


def _text(path: str) -> str:
    if not path.startswith("/"):
        raise InputError(f"{path}: give the file with its whole path, from / on")
    try:
        with open(path, "rb") as handle:
            data = handle.read(LARGEST_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text in UTF-8: save it as such") from None
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{path} is larger than {LARGEST_BYTES // 1024} KiB: is it the right file?")
    return text


def _old(text: str, base: Mapping[str, Any] | None, vm: str) -> Given:
    """A file in the old form, in the place of what the cluster has of it."""
    old, corrections = file.read(text)
    before = _stand_in(old) if base is None else base
    name = conversion.the_vm(config.load_mapping(before), vm) if base is not None else "mnvm"
    try:
        cluster = config.load_mapping(conversion.to_cluster(old, before, name))
    except ConfigurationError as error:
        raise ConfigurationError(faults=conversion.in_the_file(error.faults, name)) from None
    return Given(cluster, True, tuple(map(str, corrections)))


def _stand_in(old: file.OldConfig) -> dict[str, Any]:
    """What the old form can't say of a cluster that is not there yet, so that the rest can be checked as a whole."""
    nodes = {name: {"storage": f"192.0.2.{number}"} for number, name in enumerate(old.addresses(), start=1)}
    vm = {"uuid": "6f2b1f0e-4a4e-4b3c-9d53-6f1f6a0f4c11", "image": "mnvm.img"}
    return {"name": "example", "nodes": nodes, "vms": {"mnvm": vm}}


def check(path: str, base: Mapping[str, Any] | None, vm: str = "") -> dict[str, Any]:
    """What is wrong with a file: a verb's result, with `corrections` of what was read otherwise than it stands there,
    and `doubts` of what is allowed, and may turn out badly.

    :param base: as of :func:`read_file`, as is `vm`.
    :raises InputError: there is no such file.
    """
    try:
        given = read_file(path, base, vm)
    except ConfigurationError as error:
        lines = [str(fault) for fault in error.faults] or [error.message]
        return {"result": False, "comment": f"{count(len(lines), 'fault')} in {path}", "faults": {path: lines}}
    doubts = [str(doubt) for doubt in config.doubts(given.cluster)]
    return {"result": True, "comment": CHECK_PASS, "corrections": list(given.corrections),
            "doubts": {path: doubts} if doubts else {}}  # fmt: skip
