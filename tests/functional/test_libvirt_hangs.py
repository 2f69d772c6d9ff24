"""A real libvirtd that hangs again and again, under a process that calls it from several threads, as the guard does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.example import ROOT
from tests.support.real_libvirt import running

ROUNDS = 8
"""One connection for all threads brought the process down in the fourth."""
HANGS_S, ANSWERS_S = 3.5, 1.5
CALLER = """
import sys, threading, time
import libvirt
from mnha.daemon.adapters.libvirt import Connection
from mnha.errors import FailedError

class Impatient(Connection):
    def _open(self):
        connection = libvirt.open(self._uri)
        connection.setKeepAlive(1, 2)
        return connection

def call(every_s):
    while True:
        try:
            for domain in connection.get().listAllDomains():
                domain.state()
        except (FailedError, libvirt.libvirtError):
            pass
        time.sleep(every_s)

connection = Impatient(sys.argv[1])
connection.start()
for every_s in (0.01, 0.02, 0.05):
    threading.Thread(target=call, args=(every_s,), daemon=True).start()
while True:
    time.sleep(0.2)
    print(connection.error or "well", flush=True)
"""


@pytest.mark.nightly
def test_a_libvirtd_that_hangs_brings_down_nobody_who_calls_it_from_several_threads(tmp_path: Path) -> None:
    told = tmp_path / "told"
    with running(tmp_path) as libvirtd, told.open("wb") as output:
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, libvirtd.uri], stdout=output, stderr=output,
            env={**os.environ, "PYTHONPATH": str(ROOT / "salt/_utils")},
        )  # fmt: skip
        try:
            time.sleep(ANSWERS_S)
            for _ in range(ROUNDS):
                libvirtd.send(signal.SIGSTOP)
                time.sleep(HANGS_S)
                libvirtd.send(signal.SIGCONT)
                time.sleep(ANSWERS_S)
                assert caller.poll() is None, told.read_text()[-2000:]
        finally:
            caller.kill()
            caller.wait()
    assert told.read_text().count("the connection was closed") >= ROUNDS // 2
