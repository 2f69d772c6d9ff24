"""A configuration that is given as a file: read, and checked. Needs pydantic, and nothing of Salt's."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import yaml

from .. import config
from ..errors import ConfigurationError, Fault, InputError
from ..oldsuite import conversion, file, tolerant
from .result import count

LARGEST_BYTES = 1024 * 1024
STAND_IN = {"CPU": 4, "MemorySizeInGB": 8, "ImageFolder": "/mngt"}
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


class _Once(yaml.SafeLoader):
    """YAML, each of whose keys may stand there once, as Salt reads it."""


def _mapping(loader: _Once, node: yaml.MappingNode) -> dict[Any, Any]:
    known = set()
    for key, _ in node.value:
        if (name := loader.construct_object(key, deep=True)) in known:
            raise yaml.constructor.ConstructorError(None, None, f"{name} stands there twice", key.start_mark)
        known.add(name)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Once.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_file(
    path: str, base: Mapping[str, Any] | None, vm: str = "", corrections: list[tolerant.Correction] | None = None
) -> Given:
    """What a file says: the old suite's JSON, or a pillar as YAML or JSON.

    :param path: an absolute path on this machine.
    :param base: what stands under `mnha:cluster` so far, for what the old form can't say; None: nothing yet.
    :param vm: which VM the old form is about; empty: the only one.
    :param corrections: gets what was corrected also where the file is refused.
    :raises InputError: there is no such file.
    :raises ConfigurationError: with all faults, each with its path in the file.
    """
    text, corrections = _text(path), [] if corrections is None else corrections
    if not path.lower().endswith((".yaml", ".yml", ".sls")) or text.lstrip("\ufeff \t\r\n").startswith("{"):
        value, _ = tolerant.read(text, corrections)
        if not isinstance(value, Mapping) or "mnha" not in value:
            corrections.clear()
            return _old(text, base, vm, corrections)
        return Given(config.load(value), False, tuple(map(str, corrections)))
    try:
        value = yaml.load(text, _Once)
    except RecursionError:
        raise ConfigurationError("it is nested too deeply to be a configuration") from None
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # of wrong dates, numbers, tags
        raise ConfigurationError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return Given(config.load(value if isinstance(value, Mapping) else {}), False)


def _text(path: str) -> str:
    if not path.startswith("/"):
        raise InputError(f"{path}: give the file with its whole path, from / on")
    try:
        with open(path, "rb") as handle:
            data = handle.read(LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:  # the latter of a name with a NUL
        raise InputError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > LARGEST_BYTES:
        raise InputError(f"{path} is larger than {LARGEST_BYTES // 1024} KiB: is it the right file?")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # also of UTF-16, which may be well-formed UTF-8
        raise ConfigurationError(f"{path} is no text in UTF-8: save it as such")
    return text


def _old(text: str, base: Mapping[str, Any] | None, vm: str, corrections: list[tolerant.Correction]) -> Given:
    """A file in the old form, in the place of what the cluster has of it."""
    try:
        old, _ = file.read(text, corrections)
    except file.FaultyError as error:
        more = _wrong_besides(error, base, vm)
        raise ConfigurationError(faults=sorted([*error.faults, *more], key=lambda fault: fault.path)) from None
    return Given(_whole(old, base, vm), True, tuple(map(str, corrections)))


def _wrong_besides(error: file.FaultyError, base: Mapping[str, Any] | None, vm: str) -> list[Fault]:
    """What the whole configuration shows of the keys that are well by themselves, so that all is told at once. Values
    that are well stand in for the faulty ones; what they may make wrong is not told, and nothing where too much hangs
    on them.
    """
    if error.faulty & {"Node", "Type", "Network"}:
        return []
    stand_in = {key: value for key, value in STAND_IN.items() if key in error.faulty}
    try:
        _whole(file.read(json.dumps({**error.well, **stand_in}))[0], base, vm)
    except file.FaultyError:
        return []
    except ConfigurationError as found:
        return [fault for fault in found.faults if fault.path.partition(":")[0] in error.well]
    return []


def _whole(old: file.OldConfig, base: Mapping[str, Any] | None, vm: str) -> config.ClusterConfig:
    """What a cluster becomes by a file.

    :raises ConfigurationError: with all faults, each with its path in the file.
    """
    before = _stand_in(old) if base is None else base
    name = conversion.the_vm(config.load_mapping(before), vm) if base is not None else "mnvm"
    try:
        return config.load_mapping(conversion.to_cluster(old, before, name))
    except ConfigurationError as error:
        raise ConfigurationError(faults=conversion.in_the_file(error.faults, name)) from None


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
    corrections: list[tolerant.Correction] = []
    try:
        given = read_file(path, base, vm, corrections)
    except ConfigurationError as error:
        lines = [str(fault) for fault in error.faults] or [error.message]
        return {"result": False, "comment": f"{count(len(lines), 'fault')} in {path}",
                "corrections": list(map(str, corrections)), "faults": {path: lines}}  # fmt: skip
    doubts = [str(doubt) for doubt in config.doubts(given.cluster)]
    return {"result": True, "comment": CHECK_PASS, "corrections": list(given.corrections),
            "doubts": {path: doubts} if doubts else {}}  # fmt: skip
