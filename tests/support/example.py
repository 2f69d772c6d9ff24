"""The example cluster's pillar, for tests to start from."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_EXAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "pillar/clusters/example.sls").read_text(encoding="utf-8"))


def example_pillar() -> dict[str, Any]:
    """A fresh copy of pillar/clusters/example.sls."""
    return copy.deepcopy(_EXAMPLE)


def example_with(changes: dict[str, Any]) -> dict[str, Any]:
    """The example pillar with some values replaced: ``{"vms:mnvm:cpus": 8}``. ``...`` takes a key out."""
    pillar = example_pillar()
    for path, value in changes.items():
        *way, last = path.split(":")
        place: Any = pillar["mnha"]["cluster"]
        for key in way:
            place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
        if value is ...:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return pillar
