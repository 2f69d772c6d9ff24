"""``mnha-fencer``: one thread that kills at the deadline, and can't be held up.

    python3 -m mnha.fencer --config /etc/mnha/fencer.json

It waits for nothing but its epoll: no TLS, no libvirt, no log that blocks, no lock. Clients, which are root's, send one
JSON object a packet (SOCK_SEQPACKET) and get one back:

    {"v": 1, "op": "prepare", "vm": "mnvm", "until_s": 5012.3, "kill_s": 2}     -> {"v": 1, "ok": true, …}
    {"v": 1, "op": "grant", …} {"op": "expect", …} {"op": "kill", "vm": …} {"op": "status"}

An error is ``{"v": 1, "ok": false, "error": {"kind": …, "message": …}}`` (:mod:`mnha.errors`). A client that does not
take its answers is dropped, and none can make the loop wait.

Configuration: ``{"v": 1, "socket", "memory", "mark", "slices", "vms", "watchdog", "watchdog_device"}``. SIGTERM ends
the process and nothing else: what was granted is written down, the device counts on in systemd's keeping, and the next
fencer goes on with both.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import BugError, ConfigurationError, InputError, MnhaError
from ..host.clock import boottime_s
from ..host.systemd import keep, kept, notify
from .memory import FileMemory
from .rules import Fencer
from .slices import KernelSlices
from .watchdog import LinuxWatchdog

log = logging.getLogger("mnha.fencer")

VERSION = 1
CONFIG = Path("/etc/mnha/fencer.json")
PRIORITY = 60
"""SCHED_RR, above the guard's 50: who kills comes before who asks."""
LONGEST_SLEEP_S = 0.1
"""A slice may be populated by somebody else at any moment; and epoll's clock stands still while the host is suspended,
so that CLOCK_BOOTTIME is looked at as often."""
MAX_PACKET = 4096
MAX_CLIENTS = 16
KEPT_NAME = "watchdog"
_MCL_CURRENT, _MCL_FUTURE = 1, 2


class PromptLog(logging.Handler):
    """Writes to stderr what goes in without waiting, and drops the rest: journald may hang."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or none."""
        with contextlib.suppress(OSError):
            os.write(2, f"{record.levelname} {record.getMessage()}\n".encode(errors="replace"))


class Server:
    """The socket, without waiting for anybody.

    :param answer: takes a request, returns its answer; never raises.
    """

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._answer = answer
        self._clients: dict[int, socket.socket] = {}
        self.epoll = select.epoll()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(MAX_CLIENTS)
        self.epoll.register(self._listener, select.EPOLLIN)

    def wait(self, timeout_s: float) -> None:
        """Serve what comes within `timeout_s`, one packet of each client at the most."""
        for fd, what in self.epoll.poll(max(0.0, timeout_s)):
            if fd == self._listener.fileno():
                self._accept()
            elif fd in self._clients and what & (select.EPOLLHUP | select.EPOLLERR):
                # What it still had asked is not carried out: who has gone can't know that it was, and another, who
                # came since, may have asked for the contrary.
                self._drop(self._clients[fd])
            elif fd in self._clients:
                self._serve(self._clients[fd])

    def close(self) -> None:
        """Close all."""
        for client in list(self._clients.values()):
            self._drop(client)
        self._listener.close()
        self.epoll.close()

    def _accept(self) -> None:
        """Take a client that is root's, or whose this process is."""
        with contextlib.suppress(OSError):
            client, _ = self._listener.accept()
            client.setblocking(False)
            _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid not in (0, os.geteuid()) or len(self._clients) >= MAX_CLIENTS:
                client.close()
                return
            self._clients[client.fileno()] = client
            self.epoll.register(client, select.EPOLLIN)

    def _serve(self, client: socket.socket) -> None:
        """Answer one packet; drop who ends, sends no JSON or does not take the answer."""
        try:
            packet = client.recv(MAX_PACKET)
            request = json.loads(packet) if packet else None
            if not isinstance(request, dict):
                self._drop(client)
                return
            client.send(json.dumps(self._answer(request)).encode())
        except (OSError, ValueError, RecursionError):
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client.fileno(), None)
        client.close()


class Process:
    """The fencer with everything around it.

    :param config: see the module's docstring.
    :param watchdog_fd: the open device, from the fencer before this one.
    """

    def __init__(self, config: dict[str, Any], watchdog_fd: int | None = None) -> None:
        self._watchdog = LinuxWatchdog(
            config["watchdog"], config["watchdog_device"], Path(config["mark"]), kept_fd=watchdog_fd,
            keep=lambda fd: keep(KEPT_NAME, fd),
        )  # fmt: skip
        memory = FileMemory(Path(config["memory"]))
        Path(config["memory"]).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fencer = Fencer(
            KernelSlices(Path(config["slices"])), self._watchdog, memory, memory.load(), config["vms"]
        )
        self._server = Server(Path(config["socket"]), self.answer)
        self._ending = False
        self._about = {"version": __version__, "pid": os.getpid(), "since_s": boottime_s()}

    def run(self) -> None:
        """Keep the promise until SIGTERM."""
        signal.signal(signal.SIGTERM, self._end)
        notify("READY=1")
        while not self._ending:
            self._round()
        self._server.close()

    def _round(self) -> None:
        """Look, then serve until it is time to look again. Nothing that goes wrong in it may end the loop."""
        try:
            next_s = min(self._fencer.look(boottime_s()), self._watchdog.sharpen())
            notify("WATCHDOG=1")
            self._server.wait(min(next_s - boottime_s(), LONGEST_SLEEP_S))
        except Exception:
            log.exception("a round ended in a way nobody expected")
            time.sleep(LONGEST_SLEEP_S)  # at this priority, again at once would leave nobody else a core

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; an error is one, too."""
        try:
            return {"v": VERSION, "ok": True, **self._obey(request)}
        except MnhaError as error:
            return {"v": VERSION, "ok": False, "error": error.to_wire()}
        except Exception as error:
            log.exception("a request ended in a way nobody expected")
            return {"v": VERSION, "ok": False, "error": BugError(repr(error)).to_wire()}

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request.

        :raises MnhaError: it is refused, wrong, or could not be done.
        """
        if request.get("v") != VERSION:
            raise InputError(f"v is {request.get('v')!r}: this fencer speaks {VERSION}")
        now_s = boottime_s()
        match request.get("op"):
            case "status":
                return {"boottime_s": now_s, "fencer": self._about, "vms": self._fencer.status(now_s),
                        "watchdog": self._watchdog_status()}  # fmt: skip
            case "prepare":
                self._fencer.prepare(_vm(request), _number(request, "until_s"), _number(request, "kill_s"), now_s)
                return {"protected": self._watchdog.protects(_vm(request))}
            case "grant":
                kept_to = self._fencer.grant(
                    _vm(request), _number(request, "until_s"), _number(request, "kill_s"), now_s
                )
                return {"protected": self._watchdog.protects(_vm(request)), "as_required": kept_to}
            case "expect":
                self._fencer.expect(_vm(request), _number(request, "until_s"), now_s)
                return {}
            case "kill":
                self._fencer.forbid(_vm(request), now_s)
                found = self._fencer.status(boottime_s()).get(_vm(request), {"empty": True})
                return {"vm": found, "protected": self._watchdog.protects(_vm(request))}
            case other:
                raise InputError(f"op is {other!r}: one of prepare, grant, expect, kill, status")

    def _watchdog_status(self) -> dict[str, Any]:
        found = self._watchdog
        return {"mode": found.mode, "device": found.device, "armed": found.armed, "failing": found.failing,
                "objection": found.objection(), "why": found.objection() or found.why}  # fmt: skip

    def _end(self, *_: object) -> None:
        self._ending = True


def _vm(request: dict[str, Any]) -> str:
    """The VM of a request.

    :raises InputError: it names none.
    """
    vm = request.get("vm")
    if not isinstance(vm, str) or not vm or len(vm) > 64 or "/" in vm or "\0" in vm:
        raise InputError(f"vm is {vm!r}: give the name of a VM")
    return vm


def _number(request: dict[str, Any], field: str) -> float:
    """A number of a request.

    :raises InputError: it is none.
    """
    value = request.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{field} is {value!r}: give a number of seconds")
    return float(value)


def become_prompt() -> None:
    """Ask for real-time priority and locked memory, as far as allowed; stop writing that waits."""
    os.set_blocking(2, False)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(PRIORITY))
    if ctypes.CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE):
        log.warning("memory is not locked: %s", os.strerror(ctypes.get_errno()))


def load(path: Path) -> dict[str, Any]:
    """Read the configuration.

    :raises ConfigurationError: it is missing, not JSON, of another version, or incomplete; names all that is missing.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} can't be read: {error}; apply states.fencer") from error
    if not isinstance(config, dict) or config.get("v") != VERSION:
        raise ConfigurationError(f"{path} is not of version {VERSION}, which this fencer knows; apply states.fencer")
    wanted = dict.fromkeys(("socket", "memory", "mark", "slices", "watchdog", "watchdog_device"), str) | {"vms": list}
    if missing := [name for name, kind in wanted.items() if not isinstance(config.get(name), kind)]:
        raise ConfigurationError(f"{path} has no {', no '.join(missing)}; apply states.fencer")
    return config


def config_file(words: Sequence[str]) -> Path:
    """The configuration that a command line names, CONFIG if it names none. (What argparse imports, compression among
    it, would be locked in memory, too.)

    :raises InputError: it says something else.
    """
    match words:
        case []:
            return CONFIG
        case ["--config", file]:
            return Path(file)
    raise InputError(f"{' '.join(words)!r} is not understood: write --config FILE, or nothing")


def main() -> int:
    """Read the command line and run."""
    logging.basicConfig(level=logging.INFO, handlers=[PromptLog()])
    try:
        process = Process(load(config_file(sys.argv[1:])), kept(KEPT_NAME))
    except MnhaError as error:
        log.critical("%s", error.message)
        return 2
    become_prompt()
    process.run()
    return 0
