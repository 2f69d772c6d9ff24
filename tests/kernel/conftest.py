"""The order of the kernel tests."""

from __future__ import annotations

import pytest

OF_THE_NODES_IMAGE = {"consul", "said"}
"""Fixtures that take something from the image of the lab's nodes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the nodes' image comes last: where there is none yet, another one makes it meanwhile."""
    items.sort(key=lambda item: bool(OF_THE_NODES_IMAGE & set(getattr(item, "fixturenames", ()))))
