"""Finding and killing a VM's processes without libvirt."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

from mnha.daemon.adapters.processes import Process, kill_all, libvirt_pids, qemu_pids


def stand_in(name: str) -> subprocess.Popen[bytes]:
    """A process with the command line of a QEMU; what is looked for is the command line alone."""
    code = "import time; print('up', flush=True); time.sleep(600)"
    words = ["qemu-system-x86_64", "-c", code, "-name", "guest=x", "-uuid", name]
    process = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE)
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
        assert qemu_pids(mine) == []  # zombies by now, with no thread left: `kill_all` waits for the last one
        assert processes[2].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_child_of_libvirtd_is_found_though_it_has_the_name_of_the_thread_that_forked_it() -> None:
    """As libvirt 9 makes them: `/proc/PID/comm` is `rpc-libvirtd`."""
    code = "open('/proc/self/comm', 'w').write('rpc-libvirtd'); print('up', flush=True); import time; time.sleep(600)"
    words = ["/usr/sbin/libvirtd", "-c", code]
    process = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        process.stdout.readline()
        assert Path(f"/proc/{process.pid}/comm").read_text() == "rpc-libvirtd\n"
        assert process.pid in libvirt_pids()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


HEADLESS = """
import ctypes, itertools, threading, time
def write():
    for number in itertools.count():
        print(number, flush=True)
        time.sleep(0.01)
threading.Thread(target=write).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_not_listed_though_another_thread_still_writes() -> None:
    """Why no command line tells that a VM is off: the zombie's is empty. So is a QEMU's after a SIGKILL, while a worker
    of it hangs in D state. A handle taken before tells the truth, and so does its slice.
    """
    name = str(uuid.uuid4())
    words = ["qemu-system-x86_64", "-c", HEADLESS, "-uuid", name]
    process = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout
    try:
        handle = Process(process.pid)
        stat = Path(f"/proc/{process.pid}/stat")
        end_s = time.monotonic() + 10
        while stat.read_text().rpartition(")")[2].split()[0] != "Z" and time.monotonic() < end_s:
            time.sleep(0.01)
        assert stat.read_text().rpartition(")")[2].split()[0] == "Z"
        assert qemu_pids(name) == []
        before = process.stdout.readline()
        os.set_blocking(process.stdout.fileno(), False)
        while process.stdout.readline():
            pass
        time.sleep(0.2)
        assert process.stdout.readline() > b"", f"no line after {before!r}"
        assert not handle.wait(0)
        handle.kill()
        assert handle.wait(5.0)
        handle.close()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


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
