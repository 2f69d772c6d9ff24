"""A process on a node that is not root's: it reads no secret, and talks to nobody who could do harm."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lab.cluster import Cluster
from tests.support.scene import Scene

from .conftest import Eyes, secrets_of

SKIP_CODE = ("/usr/share", "/usr/lib", "/usr/bin", "/usr/sbin", "/opt")
"""Code that no state writes to; on one node it is searched as well."""

KNOCK = """
import json, os, socket, stat
found = []
for top in ("/run", "/var", "/tmp", "/dev", "/srv", "/etc", "/root", "/home"):
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    continue
            except OSError:
                continue
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
                with socket.socket(socket.AF_UNIX, kind) as probe:
                    probe.settimeout(2)
                    try:
                        probe.connect(path)
                    except OSError:
                        continue
                    found.append(path)
                    break
print(json.dumps(sorted(found)))
"""

OPEN_SOCKETS = {
    "/run/dbus/system_bus_socket": "D-Bus: its policy lets a plain user ask, not change",
    "/run/systemd/journal/dev-log": "everybody may write into the log",
    "/run/systemd/journal/socket": "everybody may write into the log",
    "/run/systemd/journal/stdout": "everybody may write into the log",
    "/run/systemd/notify": "systemd asks the kernel who speaks",
    "/run/systemd/private": "systemd asks the kernel who speaks",
    "/run/systemd/io.system.ManagedOOM": "systemd asks the kernel who speaks",
    "/run/systemd/userdb/io.systemd.DynamicUser": "names of users",
    "/run/systemd/userdb/io.systemd.Machine": "names of users",
    "/run/libvirt/libvirt-sock": "libvirt asks polkit who speaks (the test below tries)",
    "/run/libvirt/libvirt-sock-ro": "libvirt's read-only door: names and state of VMs, no secret",
}
"""Sockets that a plain user may open, and why that does no harm."""

DEEDS = (
    ("virsh", "-c", "qemu:///system", "destroy", "mnvm"),
    ("virsh", "-r", "-c", "qemu:///system", "destroy", "mnvm"),
    ("virsh", "-c", "qemu:///system", "dumpxml", "--security-info", "mnvm"),
    ("salt-call", "guard.release"),
    ("salt-run", "mnha.stop"),
    ("salt", "*", "test.ping"),
    ("systemctl", "stop", "mnha-guard"),
    ("systemctl", "kill", "consul"),
    ("env", "CONSUL_HTTP_ADDR=https://127.0.0.1:8501", "CONSUL_CACERT=/etc/mnha/tls/ca.pem", "consul", "leave"),
    ("sh", "-c", "kill -9 $(pgrep -f qemu-system)"),
    ("sh", "-c", "kill -9 $(pgrep -f mnha.daemon)"),
    ("sh", "-c", ": >> /srv/shared/mngt/mnvm.img"),
    ("sh", "-c", ": >> /etc/mnha/guard.json"),
)
"""What would stop the MNVM, or more, if a plain user could do it."""


def test_no_secret_can_be_read_by_a_plain_user(cluster: Cluster, secrets: dict[str, str], eyes: Eyes) -> None:
    names = list(secrets)
    assert len(names) >= 16, names
    for node in cluster.names:
        skip = () if node == cluster.names[-1] else SKIP_CODE
        assert "/etc/mnha/tokens/guard" in eyes.files_with(node, names, plain=False, skip=(*SKIP_CODE, "/var", "/srv"))
        assert eyes.files_with(node, names, plain=True, skip=skip) == set()


def test_no_secret_stands_in_a_command_line_or_an_environment(cluster: Cluster, eyes: Eyes) -> None:
    """Looked at from outside, where all processes of all nodes are seen, while states are applied."""
    seen: dict[str, list[str]] = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for process in Path("/proc").iterdir():
                if not process.name.isdigit() or int(process.name) == os.getpid():
                    continue
                for name in ("cmdline", "environ"):
                    try:
                        text = (process / name).read_bytes().decode(errors="replace")
                    except OSError:
                        continue
                    if found := eyes.in_text(text):
                        seen[f"{name}: {text[:200]!r}"] = found
            time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        words = ["salt", "--timeout=120", "*", "state.apply", "states.consul,states.guard"]
        cluster.run("node1", words, timeout_s=200, check=True)
        cluster.run("node1", ["salt-run", "mnha_policy.consul_roles"], timeout_s=120, check=True)
    finally:
        stop.set()
        watcher.join()
    assert seen == {}


def test_the_guards_socket_is_closed_to_a_plain_user(
    scene: Scene, as_plain_user: Callable[..., tuple[int, str]]
) -> None:
    ask = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/mnha/guard.sock')"
    for node in scene.cluster.names:
        code, printed = as_plain_user(node, "python3", "-c", ask)
        assert code != 0
        assert "PermissionError" in printed
        code, printed = as_plain_user(node, "ls", "/run/mnha")
        assert code != 0
        assert "Permission denied" in printed
    assert scene.cluster.run(scene.holder, ["python3", "-c", ask]).returncode == 0


def test_the_vms_display_is_roots_only(scene: Scene, as_plain_user: Callable[..., tuple[int, str]]) -> None:
    told = scene.cluster.run(scene.holder, ["salt-call", "--out=json", "mnvm.console"], check=True).stdout
    display = json.loads(told)["local"]["display"]
    assert display.startswith("/"), "a Unix socket"
    look = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({display!r}); print(s.recv(3))"
    assert "RFB" in scene.cluster.run(scene.holder, ["python3", "-c", look], check=True).stdout
    code, printed = as_plain_user(scene.holder, "python3", "-c", look)
    assert code != 0
    assert "PermissionError" in printed


def test_a_plain_user_reaches_no_socket_that_could_do_harm(
    cluster: Cluster, as_plain_user: Callable[..., tuple[int, str]]
) -> None:
    for node in cluster.names:
        code, printed = as_plain_user(node, "python3", "-c", KNOCK)
        assert code == 0, printed
        assert set(json.loads(printed)) <= set(OPEN_SOCKETS), node


def test_a_plain_user_can_not_stop_the_mnvm(scene: Scene, as_plain_user: Callable[..., tuple[int, str]]) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    for words in DEEDS:
        code, printed = as_plain_user(scene.holder, *words)
        assert code != 0, (words, printed)
    assert (scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]) == (pid, epoch)


def test_the_search_would_find_what_is_there(cluster: Cluster, eyes: Eyes) -> None:
    """The test above is worth something: a secret that is laid open is found."""
    node, names = cluster.names[0], ["management-token"]
    planted = "/var/log/laid-open"
    cluster.write_file(node, planted, f"token={secrets_of(cluster)['management-token']}\n", 0o644)
    try:
        assert eyes.files_with(node, names, plain=True, skip=SKIP_CODE) == {planted}
    finally:
        cluster.run(node, ["rm", planted])
