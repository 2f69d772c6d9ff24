"""Shared file systems on a real kernel, with a real NFS server and clients."""

from __future__ import annotations

import shlex
import sys

import pytest

from lab import build
from lab.settings import Settings
from lab.uml import End, Machine
from tests.support.example import ROOT

from .test_watchdog import BOOT_S

PACKAGES = ("nfs-common", "nfs-kernel-server", "rpcbind", "keyutils", "libnfsidmap1", "libtirpc3", "libtirpc-common",
            "libevent-core-2.1-7", "libwrap0", "ucf")  # fmt: skip
LIMIT_S = 400.0


@pytest.fixture(scope="module")
def said() -> End:
    """What a machine said in which `on_shares.py` was run."""
    settings = Settings.from_environment()
    repository = build.build_repository(settings, "packages", "node-packages.txt", build.build_base(settings))
    debs = [str(path) for name in PACKAGES for path in sorted(repository.glob(f"{name}_*.deb"))]
    options = "-p no:cacheprovider --color=no -x -v"
    program = f"""
    for deb in {shlex.join(debs)}; do
      dpkg-deb --fsys-tarfile $deb | tar -x --keep-directory-symlink -C / || exit 3
    done
    mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery /run/rpcbind /run/sendsigs.omit.d
    printf '%s:x:%s:65534::/run/rpcbind:/usr/sbin/nologin\n' _rpc 901 statd 902 >>/etc/passwd
    chown 901 /run/rpcbind; chown -R 902 /var/lib/nfs/sm /var/lib/nfs/sm.bak
    touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    mkdir -p /etc/systemd/system/mnha-mount-again@.service.d
    printf '[Unit]\\nDefaultDependencies=no\\n' >/etc/systemd/system/mnha-mount-again@.service.d/test.conf
    . {shlex.quote(str(ROOT / "tests/kernel/shares.sh"))}
    serve 10 || exit 7
    cd {shlex.quote(str(ROOT))} && export PYTHONPATH=salt/_utils:. PYTHONDONTWRITEBYTECODE=1
    exec {shlex.quote(sys.executable)} -m pytest {options} tests/kernel/on_shares.py
    """
    with Machine(program, systemd=True) as machine:
        return machine.wait(BOOT_S + LIMIT_S)


def test_the_shares_of_a_host(said: End) -> None:
    assert said.status == 0, f"{said.said}\n{said.console}"
