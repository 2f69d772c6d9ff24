"""What a start says of a VM that stands paused."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.core.model import Pause
from mnha.master import paused

PAUSED = "node1 has the lease (epoch 7), and mnvm is paused there"
RESUMES = "its guard resumes it when its storage is well again, 2 times so far; see to the storage"
LEFT_ALONE = "nobody resumes it but `virsh resume mnvm` on node1"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({}, f"{PAUSED}: its guard does not say why"),
        ({"paused": {"why": Pause.NO_SPACE.value, "resumes": 2}}, f"{PAUSED}: its disk has no space left; {RESUMES}"),
        ({"paused": {"why": Pause.OPERATOR.value}}, f"{PAUSED}: somebody has suspended it; {LEFT_ALONE}"),
    ],
)
def test_a_start_that_finds_it_paused_says_why_and_who_resumes_it(told: dict[str, Any], text: str) -> None:
    assert paused.started("mnvm", "node1", 7, told) == text
