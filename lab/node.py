"""One node: a systemd-nspawn container with real systemd that is switched on, entered, and cut off from power."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import cgroups, network, storage
from lab.settings import MGMT, NETWORKS, PACKAGES_FOLDER, STORAGE, SWITCH, LabError, NodePlan, Settings
from lab.shell import CLEAN_PATH, mounts_below, run, wait_until, write_whole

REBOOT_CODE = 133
"""nspawn's exit code when the system inside asked for a reboot."""

ENTERED = "lab-entered"
DEVICES = ("/dev/net/tun", "/dev/fuse")
CAPABILITIES = "CAP_IPC_LOCK"
"""Over nspawn's default set: a guard that locks its memory, as on real hosts. Never `all`: a node with CAP_SYS_TIME
would set the machine's clock."""


def supervisor_script(plan: NodePlan, settings: Settings, binds: Sequence[str]) -> str:
    """The shell script that keeps a node running: enters the node's groups, runs nspawn, again after a reboot.

    It does nothing where the groups are gone, so a `down` that came in between leaves nothing that starts later.
    """
    name, root = plan.name, settings.node_root(plan.name)
    enter = "\n".join(f"echo 0 >{shlex.quote(str(folder))}/cgroup.procs" for folder in cgroups.folders(name))
    command = " ".join(
        shlex.quote(word)
        for word in (
            "env", "-i", f"PATH={CLEAN_PATH}", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
            "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network",
            "nsenter", f"--net={network.NETNS}",
            "systemd-nspawn", "--boot", "--quiet", "--register=no", "--keep-unit", f"--machine={SWITCH}-{name}",
            f"--hostname={name}", "-D", str(root),
            *(f"--network-veth-extra={plan.link(net)}:{card}" for net, card in ((MGMT, "eth0"), (STORAGE, "eth1"))),
            "--link-journal=no", "--console=pipe", "--resolv-conf=off", "--timezone=off",
            f"--capability={CAPABILITIES}", *binds,
        )
    )  # fmt: skip
    plug = "\n".join(
        f"  i=0; until ip -n {SWITCH} link set {plan.link(net)} master {net} up 2>/dev/null;"
        f" do i=$((i+1)); [ $i -lt 1500 ] || exit 1; sleep 0.02; done"
        for net in NETWORKS
    )
    return f"""#!/bin/sh
# Runs {name} of the lab until its power is cut. Written by lab/node.py.
set -e
{enter}
set +e
plug() {{
{plug}
}}
while :; do
  plug &
  {command} </dev/null
  code=$?
  wait
  [ $code = {REBOOT_CODE} ] || exit $code
done
"""


def network_files(plan: NodePlan) -> dict[str, str]:
    """systemd-networkd's files of a node: the management address on a bridge that the guest's card can join."""
    return {
        "10-br_mgmt.netdev": "[NetDev]\nName=br_mgmt\nKind=bridge\n[Bridge]\nSTP=no\nForwardDelaySec=0\n",
        "20-eth0.network": "[Match]\nName=eth0\n[Network]\nBridge=br_mgmt\n",
        "20-br_mgmt.network": "[Match]\nName=br_mgmt\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        f"Address={plan.mgmt}/24\n",
        "20-eth1.network": "[Match]\nName=eth1\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        f"Address={plan.storage}/24\n",
    }


def hosts_file(plans: Sequence[NodePlan]) -> str:
    """/etc/hosts of every node: names stand for management addresses, `<name>-storage` for the others."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{plan.mgmt} {plan.name}\n{plan.storage} {plan.name}-storage" for plan in plans]
    return "\n".join(lines) + "\n"


class Node:
    """A node by its plan. It keeps no state of its own: what is asked is read from the machine."""

    def __init__(self, plan: NodePlan, settings: Settings) -> None:
        self.plan = plan
        self.settings = settings
        self.name = plan.name

    # power

    def write_files(self, plans: Sequence[NodePlan]) -> None:
        """What an installer leaves on a fresh host: name, machine id, network, the names of its peers."""
        etc = self.settings.node_upper(self.name) / "etc"
        write_whole(etc / "hostname", f"{self.name}\n")
        write_whole(etc / "machine-id", f"{self.plan.index:032x}\n")
        write_whole(etc / "hosts", hosts_file(plans))
        for name, text in network_files(self.plan).items():
            write_whole(etc / "systemd/network" / name, text)

    def power_on(self, lowers: Sequence[Path], binds: Sequence[str], realtime_us: int) -> None:
        """Mounts the node's file system and starts it, detached. Use `wait_ready` to see it up."""
        if self.is_on():
            raise LabError(f"{self.name} is already on")
        folder = self.settings.node_dir(self.name)
        for name in ("root", "upper", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.unmount()
        network.remove_cables(self.plan)
        layers = ":".join(str(lower) for lower in lowers)
        run(["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={layers},upperdir={folder}/upper,workdir={folder}/work", folder / "root"])  # fmt: skip
        cgroups.create(self.name)
        cgroups.freeze(self.name, False)  # it may have been frozen when it lost its power
        cgroups.allow_realtime(self.name, realtime_us)
        script = folder / "supervise"
        write_whole(script, supervisor_script(self.plan, self.settings, binds), mode=0o755)
        with (folder / "console.log").open("ab") as log:
            subprocess.Popen(
                ["/bin/sh", str(script)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                cwd="/",
            )  # fmt: skip
        wait_until(self.is_on, 10, f"{self.name} was given power but no process of it runs: see {folder}/console.log")

    def power_off(self) -> None:
        """Cuts the power: links first, so that no FIN or RST gets out, then every process at once."""
        network.unplug(self.plan)
        cgroups.send_kill(self.name)
        storage.stop(self.name)  # what waits for hanging storage can't die before
        cgroups.kill(self.name)
        network.remove_cables(self.plan)
        self.unmount()

    def unmount(self) -> None:
        for point in mounts_below(self.settings.node_root(self.name)):
            run(["umount", "--lazy", point])

    def is_on(self) -> bool:
        return cgroups.populated(self.name)

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Returns when the node's systemd has started everything and both addresses are there."""
        end = time.monotonic() + timeout_s
        said = ""
        while time.monotonic() < end:
            with contextlib.suppress(LabError):
                done = self.run(["systemctl", "is-system-running"], timeout_s=10)
                said = (done.stdout or done.stderr).strip()
                if said in ("running", "degraded") and self._has_addresses():
                    return
            if not self.is_on():
                break
            time.sleep(0.05)
        log = self.settings.node_dir(self.name) / "console.log"
        raise LabError(f"{self.name} is not up after {timeout_s:g} s (systemd says {said!r}): see {log}")

    def _has_addresses(self) -> bool:
        text = self.run(["ip", "-4", "-o", "address"], timeout_s=10).stdout
        return all(f"{address}/24" in text for address in (self.plan.mgmt, self.plan.storage))

    # entering

    def init_pid(self) -> int:
        """The node's own PID 1, as this machine numbers it; LabError if the node is off or not that far."""
        scope = cgroups.folders(self.name)[0] / "payload" / "init.scope" / "cgroup.procs"
        with contextlib.suppress(OSError):
            for pid in scope.read_text().split():
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("NSpid:") and line.split()[-1] == "1":
                        return int(pid)
        raise LabError(f"{self.name} is not running: `python3 -m lab poweron {self.name}`")

    def entry(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The command line that runs `argv` in the node, with no capability that the node itself has not."""
        pid = self.init_pid()
        settings = {"PATH": CLEAN_PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": os.environ.get("TERM", "dumb")}
        settings.update(env or {})
        return [
            "nsenter", "--target", str(pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
            "--wd", "setpriv", f"--bounding-set={bounding_set(pid)}",
            "env", "-i", *(f"{key}={value}" for key, value in settings.items()), *argv,
        ]  # fmt: skip

    def popen(self, argv: Sequence[str], env: Mapping[str, str] | None = None, **options) -> subprocess.Popen:
        """Starts a command in the node; `options` are Popen's.

        The command belongs to the node's groups, so it is killed and frozen with it. A shell moves itself there and
        then becomes the command: were it done before that shell is started, a frozen node would hold up the caller.
        """
        targets = [folder / "payload" / ENTERED if (folder / "payload").is_dir() else folder
                   for folder in cgroups.folders(self.name)]  # fmt: skip
        entry = self.entry(argv, env)
        moves = [f"mkdir {folder} 2>/dev/null; echo 0 >{folder}/cgroup.procs" for folder in targets]
        words = ["/bin/sh", "-c", "{ " + "; ".join(moves) + '; } 2>/dev/null; exec "$@"', "sh", *entry]
        return subprocess.Popen(words, **options)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float = 60,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the node to its end and returns its output and exit code.

        LabError when the node is off, when the command does not end in `timeout_s` (it is killed then), and with
        `check` also when it fails.
        """
        process = self.popen(
            argv, env, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            kill_tree(process)
            raise LabError(f"`{shlex.join(argv)}` on {self.name} did not end in {timeout_s:g} s") from error
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode != 0:
            tail = "\n".join((out + err).strip().splitlines()[-20:])
            raise LabError(f"`{shlex.join(argv)}` on {self.name} ended with code {done.returncode}:\n{tail}")
        return done


def bounding_set(pid: int) -> str:
    """setpriv's words for exactly the capabilities that process `pid` could have at most."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            mask = int(line.split()[1], 16)
            return ",".join(["-all", *(f"+cap_{bit}" for bit in range(64) if mask >> bit & 1)])
    raise LabError(f"process {pid} is gone: the node lost its power just now")


def kill_tree(process: subprocess.Popen) -> None:
    """Kills nsenter and the command it started, which runs in the node's PID namespace and would outlive it."""
    children = []
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in map(int, children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5)


def package_binds(debs: Path, wheels: Path, peer: Path | None, shared: Path) -> list[str]:
    """nspawn's words for what every node gets from outside."""
    binds = [f"--bind={shared}:/srv/shared", f"--bind-ro={debs}:{PACKAGES_FOLDER}/debs",
             f"--bind-ro={wheels}:{PACKAGES_FOLDER}/wheels"]  # fmt: skip
    if peer:
        binds.append(f"--bind-ro={peer}:{PACKAGES_FOLDER}/peer")
    return binds + [f"--bind={device}" for device in DEVICES]


def remove_node_files(settings: Settings, name: str) -> None:
    shutil.rmtree(settings.node_dir(name), ignore_errors=False)
