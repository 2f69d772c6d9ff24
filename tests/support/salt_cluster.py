"""A real Salt cluster on loopback: masters on 127.0.0.N, minions beside them, all in one scratch folder.

Nothing outside the folder is read or written, no port of a production Salt is used, and only the processes that
were started here are ended. Several masters share one key pair (hot-hot), as on the nodes.

    with SaltCluster(root, masters=3, minions=["node1", "node2"], salt_roots=[...]) as cluster:
        cluster.minion_call("node1", "test.ping")
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.ports import free_ports

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]


class Daemon:
    """One daemon in a process group of its own: started, killed, frozen and thawed by its group's id."""

    def __init__(self, name: str, argv: Sequence[str], log: Path, pid_file: Path) -> None:
        self.name, self.argv, self.log, self.pid_file = name, list(argv), log, pid_file
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        for mark in (self.pid_file, self.pid_file.with_name(f"process_responsibility_{self.pid_file.name}")):
            mark.unlink(missing_ok=True)  # one that was killed leaves it, and the next would refuse to start
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509
            )

    def send(self, signum: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signum)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None


class SaltCluster:
    """Masters and minions; `start` returns when every minion answers on every master that was started."""

    def __init__(
        self,
        root: Path,
        masters: int = 1,
        minions: Sequence[str] = ("node1", "node2"),
        salt_roots: Sequence[Path] = (ROOT / "salt",),
        pillar: Mapping[str, Any] | None = None,
        master_opts: Mapping[str, Any] | None = None,
        minion_opts: Mapping[str, Any] | None = None,
        per_minion_opts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.root = root
        self.salt_roots = list(salt_roots)
        self.master_names = [f"m{i + 1}" for i in range(masters)]
        self.minion_names = list(minions)
        self.pillar = dict(pillar or {})
        self.master_opts, self.minion_opts = dict(master_opts or {}), dict(minion_opts or {})
        self.per_minion_opts = {k: dict(v) for k, v in (per_minion_opts or {}).items()}
        self.daemons: dict[str, Daemon] = {}
        self.publish_port, self.return_port = free_ports(2)

    # -- configuration ------------------------------------------------------------------------------------------
    def address(self, master: str) -> str:
        return f"127.0.0.{self.master_names.index(master) + 1}"

    def config_dir(self, name: str) -> Path:
        return self.root / name / "etc"

    def _write(self, name: str, role: str, opts: Mapping[str, Any]) -> None:
        folder = self.config_dir(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / role).write_text(json.dumps(opts, indent=1))
        (folder / f"{role}.d").mkdir(exist_ok=True)

    def _common(self, name: str) -> dict[str, Any]:
        base = self.root / name
        return {
            "root_dir": str(base),
            "pki_dir": str(base / "pki"),
            "cachedir": str(base / "cache"),
            "sock_dir": str(base / "s"),
            "log_file": str(base / "log"),
            "pidfile": str(base / "pid"),
            "log_level_logfile": os.environ.get("MNHA_SALT_LOG", "info"),
            "log_level": "warning",
            "user": "root",
            "publish_port": self.publish_port,
            "tcp_keepalive_idle": 5,
            "tcp_keepalive_intvl": 2,
            "tcp_keepalive_cnt": 3,
        }

    def configure(self) -> None:
        pillar_dir = self.root / "pillar"
        pillar_dir.mkdir(parents=True, exist_ok=True)
        (pillar_dir / "top.sls").write_text(json.dumps({"base": {"*": ["all"]}}))
        (pillar_dir / "all.sls").write_text("#!json\n" + json.dumps(self.pillar, indent=1))
        for name in self.master_names:
            self._write(
                name,
                "master",
                self._common(name)
                | {
                    "id": f"{name}_master",
                    "interface": self.address(name),
                    "ret_port": self.return_port,
                    "auto_accept": True,
                    "worker_threads": 3,
                    "file_roots": {"base": [str(root) for root in self.salt_roots]},
                    "pillar_roots": {"base": [str(pillar_dir)]},
                    "module_dirs": [str(root) for root in self.salt_roots],
                    "open_mode": False,
                    "minion_data_cache": True,
                }
                | self.master_opts,
            )
        for name in self.minion_names:
            self._write(
                name,
                "minion",
                self._common(name)
                | {
                    "id": name,
                    "master": [self.address(m) for m in self.master_names],
                    "master_port": self.return_port,
                    "retry_dns": 0,
                    "recon_max": 2000,
                    "acceptance_wait_time": 1,
                    "grains_cache": False,
                    "enable_fqdns_grains": False,
                    "enable_gpu_grains": False,
                    "disable_grains": [],
                }
                | self.minion_opts
                | self.per_minion_opts.get(name, {}),
            )
        self._share_key()

    def _share_key(self) -> None:
        """Give every master the first one's key pair before the first start."""
        first = self.root / self.master_names[0] / "pki"
        if not (first / "master.pem").exists():
            first.mkdir(parents=True, exist_ok=True)
            from cryptography.hazmat.primitives import serialization
            from cryptography.hazmat.primitives.asymmetric import rsa

            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            (first / "master.pem").write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.TraditionalOpenSSL,
                    serialization.NoEncryption(),
                )
            )
            (first / "master.pem").chmod(0o400)
            (first / "master.pub").write_bytes(
                key.public_key().public_bytes(
                    serialization.Encoding.PEM,
                    serialization.PublicFormat.SubjectPublicKeyInfo,
                )
            )
        for other in self.master_names[1:]:
            target = self.root / other / "pki"
            target.mkdir(parents=True, exist_ok=True)
            for key in ("master.pem", "master.pub"):
                shutil.copy2(first / key, target / key)

    # -- life ---------------------------------------------------------------------------------------------------
    def daemon(self, name: str) -> Daemon:
        if name not in self.daemons:
            program = "salt-master" if name in self.master_names else "salt-minion"
            self.daemons[name] = Daemon(
                name,
                [str(BIN / program), "-c", str(self.config_dir(name))],
                self.root / f"{name}.out",
                self.root / name / "pid",
            )
        return self.daemons[name]

    def start(self, skip: Sequence[str] = ()) -> None:
        self.configure()
        for name in [*self.master_names, *self.minion_names]:
            if name not in skip:
                self.daemon(name).start()
        for master in self.master_names:
            if master not in skip:
                self.wait_for_minions(master, [m for m in self.minion_names if m not in skip])

    def wait_for_minions(self, master: str, names: Sequence[str], timeout_s: float = 180) -> None:
        """Until every named minion has been accepted and answers a ping."""
        deadline = time.monotonic() + timeout_s
        wanted = set(names)
        missing = wanted
        while time.monotonic() < deadline:
            accepted = self.root / master / "pki" / "minions"
            missing = wanted - {p.name for p in accepted.glob("*")} if accepted.exists() else wanted
            if not missing:
                missing = wanted - self._pinged(master, names)
                if not missing:
                    return
            time.sleep(0.3)
        raise TimeoutError(f"minions {sorted(missing)} did not come up on master {master}")

    def _pinged(self, master: str, names: Sequence[str]) -> set[str]:
        """Who answers a ping; nobody while the master is not ready for a job."""
        from salt.exceptions import SaltClientError

        try:
            answer = self.salt(master, "test.ping", target=",".join(names), timeout_s=3)
        except SaltClientError:
            return set()
        return {name for name, value in answer.items() if value is True}

    def stop(self) -> None:
        for daemon in reversed(list(self.daemons.values())):
            daemon.thaw()
            daemon.kill()

    def __enter__(self) -> SaltCluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # -- calls --------------------------------------------------------------------------------------------------
    def client(self, master: str) -> Any:
        import salt.client

        return salt.client.LocalClient(c_path=str(self.config_dir(master) / "master"))

    def salt(self, master: str, fun: str, *args: Any, target: str = "*", timeout_s: float = 90, **kwargs: Any) -> Any:
        """Run an execution function through a master; answers by minion, of which each is to answer."""
        with self.client(master) as client:
            return client.cmd(
                target, fun, list(args), kwarg=kwargs, tgt_type="list" if "," in target else "glob", timeout=timeout_s
            )

    def run(self, master: str, *args: str, timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        """`salt-run` as an operator types it."""
        return subprocess.run(
            [str(BIN / "salt-run"), "-c", str(self.config_dir(master)), *args],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def events(self, master: str) -> Any:
        import salt.config
        import salt.utils.event

        opts = salt.config.master_config(str(self.config_dir(master) / "master"))
        return salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True)


def _end_with_parent() -> None:
    """In the child: get SIGTERM when the process that started it dies, however it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """The first true value of `condition`, or TimeoutError naming what was waited for."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise TimeoutError(f"not within {timeout_s} s: {what}")
