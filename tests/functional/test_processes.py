"""Finding and killing a VM's processes without libvirt."""

from __future__ import annotations

import subprocess
import sys
import uuid

from mnha.daemon.adapters.processes import Process, kill_all, qemu_pids


def stand_in(name: str) -> subprocess.Popen[bytes]:
    """A process with the command line of a QEMU; what is looked for is the command line alone."""
    code = "import time; print('up', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, "-name", "guest=x", "-uuid", name], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


def test_all_processes_of_a_uuid_are_found_and_killed_and_no_other() -> None:
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    processes = [stand_in(mine), stand_in(mine), stand_in(other)]
    try:
        pids = qemu_pids(mine)
        assert sorted(pids) == sorted(process.pid for process in processes[:2])
        assert kill_all(pids, timeout_s=5.0)
        assert qemu_pids(mine) == []  # zombies by now: they have no command line and can't write
        assert processes[2].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_handle_tells_the_end_of_a_stopped_process_only_when_it_is_dead() -> None:
    process = stand_in(str(uuid.uuid4()))
    try:
        handle = Process(process.pid)
        assert not handle.wait(0)
        handle.kill()
        assert handle.wait(5.0)
        handle.kill()  # of a dead one: nothing happens, and no other process can be hit
        handle.close()
    finally:
        process.kill()
        process.wait()
