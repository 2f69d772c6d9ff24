"""A real libvirtd with a real, emulated QEMU, for tests of what talks to it, in namespaces of its own that end with it.

Its root file system is the lab's base with the lab's packages unpacked over it. Files are seen at the same paths within
and without.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt

from lab import build, host
from lab.settings import Settings
from lab.shell import wait_until

START_LIMIT_S = 60.0
NOT_NEEDED = ("consul", "systemd")
SERVE = """
set -e
mount -t tmpfs written "$1/written" && mkdir "$1/written/upper" "$1/written/work"
mount -t overlay -o "lowerdir=$6:$2,upperdir=$1/written/upper,workdir=$1/written/work" root "$1/root"
mount -t proc proc "$1/root/proc" && mount --rbind /dev "$1/root/dev" && mount --rbind /sys "$1/root/sys"
mkdir -p "$1/root/run/libvirt" "$1/root/etc/libvirt" "$1/root$1/files"
mount --bind "$1/run" "$1/root/run/libvirt" && mount --bind "$1/files" "$1/root$1/files"
hostname "$3"
for name in run files; do
    [ -z "$4" ] || { mkdir -p "$1/root$4/$name" && mount --bind "$4/$name" "$1/root$4/$name"; }
done
cat >"$1/root/etc/libvirt/qemu.conf" <<END
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
dynamic_ownership = 0
stdio_handler = "file"
END
for name in libvirt-qemu kvm libvirt tss; do  # whom the packages would have made
    echo "$name:x:64055:" >>"$1/root/etc/group" && echo "$name:x:64055:64055::/:/bin/false" >>"$1/root/etc/passwd"
done
printf 'auth_unix_rw = "none"\nhost_uuid = "%s"\n' "$5" >"$1/root/etc/libvirt/libvirtd.conf"
chroot "$1/root" /usr/sbin/libvirtd &
wait $!  # and for the QEMUs that it leaves: nobody else here would
"""


class RealLibvirt:
    """One libvirtd.

    :ivar files: a folder for images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        self.uri = f"qemu+unix:///system?socket={folder}/run/libvirt-sock"

    def images(self, *words: object) -> None:
        """Run `qemu-img` with these words."""
        subprocess.run(["qemu-img", *map(str, words)], check=True, stdout=subprocess.DEVNULL)

    def send(self, what: signal.Signals) -> None:
        """Send a signal to libvirtd."""
        for pid in self.pids():
            with contextlib.suppress(OSError):
                os.kill(pid, what)

    def pids(self) -> list[int]:
        """The processes of libvirtd, as this machine numbers them."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_it = b"libvirtd" in (place / "cmdline").read_bytes()
                if is_it and os.readlink(place / "root").startswith(str(self.folder)):
                    found.append(int(place.name))
        return found

    def root(self) -> Path:
        """Its root file system, as it is seen from here."""
        return Path("/proc") / str(self.pids()[0]) / "root"

    def is_up(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.open(self.uri).close()
            return True
        return False


def unpack(packages: Path, folder: Path) -> None:
    """Unpack the lab's packages into a new folder."""
    folder.mkdir()
    for package in packages.glob("*.deb"):
        if not any(word in package.name for word in NOT_NEEDED):
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    for name in ("lib", "sbin", "bin"):  # which are links into /usr in the base
        if (old := folder / name).exists():
            subprocess.run(["cp", "-a", f"{old}/.", folder / "usr" / name], check=True)
            subprocess.run(["rm", "-r", old], check=True)


@contextlib.contextmanager
def running(folder: Path, hostname: str = "alone", beside: Path | None = None) -> Iterator[RealLibvirt]:
    """A libvirtd for the length of a test.

    :param hostname: two that migrate to each other need different ones.
    :param beside: the folder of one to which this one migrates: its socket and files are seen here as well.
    """
    host.prepare()
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    settings = Settings.from_environment()
    base = build.build_base(settings)
    for name in ("written", "root", "run", "files"):
        (folder / name).mkdir()
    unpacked = (beside or folder) / "unpacked"
    if not beside:
        unpack(build.build_repository(settings, "packages", "node-packages.txt", base), unpacked)
    spaces = ["unshare", "--mount", "--pid", "--net", "--uts", "--fork", "--kill-child"]
    more = [hostname, beside or "", str(uuid.uuid4()), unpacked]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*spaces, "sh", "-c", SERVE, "-", folder, base, *more], stdout=log, stderr=log)
    made = RealLibvirt(folder)
    try:
        wait_until(made.is_up, START_LIMIT_S, f"libvirtd answers; see {folder}/log")
        yield made
    finally:
        server.kill()
        server.wait()
