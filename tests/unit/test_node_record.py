"""When a guard publishes its node's record: at each change, and now and then all the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mnha.daemon import status
from mnha.daemon.status import MEMORY_STEP_MIB, REPUBLISH_S, Status


def test_a_record_that_somebody_deletes_is_there_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, free_mib, written = 100.0, 8192, list[str]()
    monkeypatch.setattr(status, "boottime_s", lambda: now_s)
    memory, publisher = (
        SimpleNamespace(free_mib=lambda: free_mib),
        SimpleNamespace(put=lambda key, _: written.append(key)),
    )
    networks = SimpleNamespace(checks=dict)
    node: Any = SimpleNamespace(name="n1", cluster="t", memory=memory, publisher=publisher, networks=networks)
    told = Status(node, {}, dict)

    def publish(at_s: float) -> int:
        nonlocal now_s
        now_s = at_s
        written.clear()
        told.publish()
        return len(written)

    assert publish(100.0) == 1
    assert written == ["mnha/t/nodes/n1"]
    assert publish(100.0 + REPUBLISH_S - 0.1) == 0, "nothing has changed"
    assert publish(100.0 + REPUBLISH_S) == 1
    assert publish(101.0 + REPUBLISH_S) == 0
    free_mib -= 4 * MEMORY_STEP_MIB
    assert publish(102.0 + REPUBLISH_S) == 1, "a change is told at once"
    assert publish(101.9 + 2 * REPUBLISH_S) == 0, "and counts from then"
