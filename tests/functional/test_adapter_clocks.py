"""When the store looks at the clock, against a real server that stands still in between: safety hangs on the order."""

from __future__ import annotations

import os
import queue
import signal
import time
from pathlib import Path

import pytest

from mnha.core import lease as rules
from mnha.core.ports import Answered, LeaseSeen
from mnha.core.timing import PROFILES
from mnha.daemon.adapters.lease_store import ConsulStore
from mnha.host.clock import boottime_s
from tests.support.consul_server import ConsulServer, binary, running

STILL_S = 0.6


def test_a_read_is_stamped_before_it_is_sent_and_after_it_is_received(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Else a sighting would vouch for what was not yet so, or an observer would count from too early."""
    events: queue.Queue[object] = queue.Queue()
    with running(binary(tmp_path_factory.mktemp("consul")), tmp_path) as server:
        store = ConsulStore(server.servers(), "mnha/t/vms/v", events.put, timeout_s=5.0)
        store.start()
        store.cas(rules.first(PROFILES["default"]), 0, ticket=1)
        while not isinstance(events.get(timeout=5.0), Answered):
            pass
        asked_s, answered_s = _read_while_it_stands_still(server, store)
        while True:
            seen = events.get(timeout=5.0)
            if isinstance(seen, LeaseSeen) and seen.consistent:
                break
    assert seen.asked_s - asked_s < STILL_S / 2
    assert seen.received_s >= answered_s


def _read_while_it_stands_still(server: ConsulServer, store: ConsulStore) -> tuple[float, float]:
    """Have a read wait for a server that is stopped; (the clock before it was asked, the clock before it could be
    answered)."""
    assert server._process
    pid = server._process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # all of its threads: on a busy machine one may answer yet
        asked_s = boottime_s()
        store.read()
        time.sleep(STILL_S)
        return asked_s, boottime_s()
    finally:
        os.kill(pid, signal.SIGCONT)
