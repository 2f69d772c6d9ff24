"""A Ceph of one monitor and one OSD, in a folder of its own, on one address: real, small, gone when it is stopped.

It takes some 10 s to come up and 80 MB of memory. No manager, no systemd, nothing outside the folder; the daemons are
children of the process that uses it. Needs the packages ceph-mon, ceph-osd and ceph-common.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.settings import LabError

POOL = "mn"
USER = "libvirt"
READY_S = 120.0
OSD_BYTES = 2 << 30
"""Of a sparse file."""


class Ceph:
    """The cluster.

    :param folder: for all it keeps, empty.
    :param address: where monitor and OSD listen.
    :param enter: the words before each command, such as those that enter a network namespace.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", enter: Sequence[str] = ()) -> None:
        self.folder, self.address, self._enter = folder, address, list(enter)
        self.conf = folder / "ceph.conf"
        self.monitor = f"{address}:6789"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    # ---- its life

    def start(self) -> None:
        """Make the cluster, with a pool, and wait until it can be written to.

        :raises LabError: that does not come about.
        """
        fsid = str(uuid.uuid4())
        for name in ("run", "log", "mon-a", "osd-0"):
            (self.folder / name).mkdir(parents=True)
        self.conf.write_text(self._configuration(fsid))
        keyring = self.folder / "keyring"
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        caps = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *caps)
        keyring.chmod(0o600)
        self._run("monmaptool", "--create", "--addv", "a", f"[v2:{self.address}:3300,v1:{self.address}:6789]",
                  "--fsid", fsid, self.folder / "monmap")  # fmt: skip
        self._run("ceph-mon", "-c", self.conf, "--mkfs", "-i", "a", "--monmap", self.folder / "monmap",
                  "--keyring", keyring)  # fmt: skip
        self.start_daemon("mon")
        self.ask("osd", "set-require-min-compat-client", "luminous")
        self._make_osd()
        self.start_daemon("osd")
        self.ask("osd", "pool", "create", POOL, "8", "8")
        self.ask("osd", "pool", "set", POOL, "size", "1", "--yes-i-really-mean-it")
        self._wait_until_written()

    def stop(self) -> None:
        """End the daemons, whatever they do; what they kept is void."""
        for daemon in self._daemons.values():
            daemon.kill()
        for daemon in self._daemons.values():
            daemon.wait()
        self._daemons.clear()

    def start_daemon(self, kind: str) -> None:
        """Start the monitor (`mon`) or the OSD (`osd`)."""
        program, name = {"mon": ("ceph-mon", "a"), "osd": ("ceph-osd", "0")}[kind]
        log = (self.folder / "log" / f"{kind}.out").open("ab")
        command = [*self._enter, program, "-c", str(self.conf), "-f", "-i", name]
        with log:
            self._daemons[kind] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def pause_daemon(self, kind: str) -> None:
        """Have it stand still, as one whose host is out of reach."""
        self._daemons[kind].send_signal(signal.SIGSTOP)

    def resume_daemon(self, kind: str) -> None:
        """Have it go on."""
        self._daemons[kind].send_signal(signal.SIGCONT)

    def set_full(self, is_full: bool) -> None:
        """Have what little it keeps count as too much, or not; it takes a moment until that is known."""
        ratios = {"nearfull": 0.0001, "backfillfull": 0.0002, "full": 0.0003}
        for name, ratio in ratios.items() if is_full else [("full", 0.95), ("backfillfull", 0.9), ("nearfull", 0.85)]:
            self.ask("osd", f"set-{name}-ratio", str(ratio))

    # ---- what tests and the lab ask of it

    def ask(self, *words: str | Path) -> str:
        """The output of a command of `ceph`, as its administrator."""
        return self._run("ceph", "-c", self.conf, "--connect-timeout", "60", *words)

    def rbd(self, *words: str) -> str:
        """The output of a command of `rbd`, as its administrator."""
        return self._run("rbd", "-c", self.conf, *words)

    def make_image(self, name: str, mib: int) -> None:
        """Make an image in the pool."""
        self.rbd("create", f"{POOL}/{name}", "--size", f"{mib}M")

    def make_user(self, name: str = USER) -> str:
        """The key of a client with the capabilities that the documentation names, and no more."""
        caps = ("mon", "profile rbd", "osd", f"profile rbd pool={POOL}")
        self.ask("auth", "get-or-create", f"client.{name}", *caps)
        return self.ask("auth", "get-key", f"client.{name}").strip()

    def blocklist(self) -> list[str]:
        """The clients that are shut out."""
        text = self.ask("osd", "blocklist", "ls", "--format", "json").strip()
        return [one["addr"] for one in json.JSONDecoder().raw_decode(text)[0]]  # a list of ranges follows

    def watchers(self, image: str) -> list[str]:
        """The clients that have an image open."""
        found: dict[str, Any] = json.loads(self.rbd("status", f"{POOL}/{image}", "--format", "json"))
        return [one["address"] for one in found["watchers"]]

    # ---- its parts

    def _configuration(self, fsid: str) -> str:
        kept = self.folder
        return (
            "[global]\n"
            f"fsid = {fsid}\nmon host = [v2:{self.address}:3300,v1:{self.address}:6789]\n"
            f"public addr = {self.address}\n"
            f"keyring = {kept}/keyring\nrun dir = {kept}/run\nadmin socket =\npid file =\nlog file =\n"
            "log to stderr = true\nerr to stderr = true\ncrash dir =\n"
            "auth allow insecure global id reclaim = false\n"
            "osd pool default size = 1\nosd pool default min size = 1\nmon allow pool size one = true\n"
            "osd crush chooseleaf type = 0\nosd pool default pg autoscale mode = off\n"
            "mon data avail crit = 0\nmon data avail warn = 0\n"
            f"[mon]\nmon data = {kept}/mon-a\n"
            f"[osd]\nkeyring = {kept}/osd-0/keyring\nosd data = {kept}/osd-0\nosd objectstore = bluestore\n"
            f"bluestore block size = {OSD_BYTES}\n"
            "osd memory target = 939524096\nbluestore cache autotune = false\nbluestore cache size = 16777216\n"
            "osd client watch timeout = 300\n"  # a client whose node a test holds still is not to be forgotten
            "osd op num shards = 1\nosd op num threads per shard = 2\n"
        )

    def _make_osd(self) -> None:
        """One OSD, on a sparse file."""
        home, number = self.folder / "osd-0", str(uuid.uuid4())
        secret = self._run("ceph-authtool", "--gen-print-key").strip()
        given = self.folder / "secret.json"
        given.write_text(json.dumps({"cephx_secret": secret}))
        self.ask("osd", "new", number, "-i", given)
        (home / "type").write_text("bluestore\n")
        with (home / "block").open("wb") as file:
            file.truncate(OSD_BYTES)
        self._run("ceph-authtool", "--create-keyring", home / "keyring", "-n", "osd.0", "--add-key", secret)
        self._run("ceph-osd", "-c", self.conf, "-i", "0", "--mkfs", "--osd-uuid", number)
        self.ask("osd", "crush", "add", "osd.0", "1", "host=localhost", "root=default")

    def _wait_until_written(self) -> None:
        end_s = time.monotonic() + READY_S
        while True:
            try:
                self._run(
                    "rados", "-c", self.conf, "--rados-osd-op-timeout", "5", "-p", POOL, "put", "ready", self.conf
                )
                break
            except LabError:
                if time.monotonic() > end_s:
                    raise
        self.rbd("pool", "init", POOL)

    def _run(self, *words: str | Path) -> str:
        command = [*self._enter, *map(str, words)]
        environment = {**os.environ, "CEPH_ARGS": ""}
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                              timeout=READY_S, env=environment)  # fmt: skip
        if done.returncode:
            daemons = {kind: one.poll() for kind, one in self._daemons.items()}
            raise LabError(f"{' '.join(command)} ends with {done.returncode}: {done.stderr[-2000:]}; daemons {daemons}")
        return done.stdout


@contextmanager
def running(folder: Path, address: str = "127.0.0.1", enter: Sequence[str] = ()) -> Iterator[Ceph]:
    """A Ceph that is there within the block."""
    ceph = Ceph(folder, address, enter)
    try:
        ceph.start()
        yield ceph
    finally:
        ceph.stop()
