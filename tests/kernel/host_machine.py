"""A machine with a kernel of its own for the states of a host: its root is this machine's, with Debian's packages more,
and a file of tests is run in it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from lab import build
from lab.settings import Settings
from lab.uml import End, Machine
from tests.support.example import ROOT

from .test_watchdog import BOOT_S

CABLES = f". {shlex.quote(str(ROOT / 'tests/kernel/cables.sh'))}"
NETWORKS = ("ifupdown2", "bridge-utils")
SHARES = ("nfs-common", "nfs-kernel-server", "rpcbind", "keyutils", "libnfsidmap1", "libtirpc3", "libtirpc-common",
          "libevent-core-2.1-7", "libwrap0", "ucf")  # fmt: skip
UNPACKED = """
mkdir -p /var/lib/nfs/sm /var/lib/nfs/sm.bak /var/lib/nfs/v4recovery /run/rpcbind /run/sendsigs.omit.d
printf '%s:x:%s:65534::/run/rpcbind:/usr/sbin/nologin\\n' _rpc 901 statd 902 >>/etc/passwd
chown 901 /run/rpcbind; chown -R 902 /var/lib/nfs/sm /var/lib/nfs/sm.bak
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
mkdir -p /etc/systemd/system/mnha-mount-again@.service.d
printf '[Unit]\\nDefaultDependencies=no\\n' >/etc/systemd/system/mnha-mount-again@.service.d/test.conf
systemctl start systemd-journald.socket systemd-journald.service
"""
"""What the packages' scripts would have made for a file server; nothing that was booted for is waited for. And a
journal, which has what mount programs say."""


FORGET = "echo 2 >/proc/sys/vm/drop_caches"
"""Shell: the machine keeps a file of its host open for each that it remembers, of which there may be 20,000: those of
the packages' installation are not needed any more.
"""
NOT_EMPTIED = "systemctl --runtime --quiet mask systemd-tmpfiles-setup.service"
"""Shell: a service that is started brings along what a machine does when it boots, and that empties /tmp."""


EVERYTHING = "-m 'nightly or not nightly'"
"""For pytest: also the tests that are too long for CI. A machine computes at a tenth of its host's speed."""


def debs(packages: Sequence[str]) -> list[str]:
    """The files of Debian's packages, as a node of the lab gets them."""
    settings = Settings.from_environment()
    repository = build.build_repository(settings, "packages", "node-packages.txt", build.build_base(settings))
    return [str(path) for name in packages for path in sorted(repository.glob(f"{name}_*.deb"))]


def install(packages: Sequence[str]) -> str:
    """Shell: install them, whatever they depend on."""
    return f"""
    export DEBIAN_FRONTEND=noninteractive
    mkdir -p /etc/network/interfaces.d
    dpkg --force-all --install {shlex.join(debs(packages))} >/run/dpkg 2>&1 || {{ cat /run/dpkg; exit 3; }}
    """


def unpack(packages: Sequence[str]) -> str:
    """Shell: put their files in place, and run none of their scripts."""
    return f"""
    for deb in {shlex.join(debs(packages))}; do
      dpkg-deb --fsys-tarfile $deb | tar -x --keep-directory-symlink -C / || exit 3
    done
    """


def installed(package: str) -> str:
    """Shell: have dpkg take one of those for installed."""
    (deb,) = debs([package])
    return f"{{ dpkg-deb --field {deb}; printf 'Status: install ok installed\\n\\n'; }} >>/var/lib/dpkg/status"


def run_program(words: str, prepare: Sequence[str], limit_s: float) -> End:
    """Run Python with these words in such a machine; what it said.

    :param prepare: shell, each before the next.
    """
    lines = [
        NOT_EMPTIED,
        *prepare,
        FORGET,
        f"cd {shlex.quote(str(ROOT))} && export PYTHONPATH=salt/_utils:. PYTHONDONTWRITEBYTECODE=1",
        f"exec {shlex.quote(sys.executable)} {words}",
    ]
    with Machine("\n".join(lines), systemd=True) as machine:
        return machine.wait(BOOT_S + limit_s)


def run_tests(file: str, prepare: Sequence[str], limit_s: float, more: str = "") -> End:
    """Run a file of tests in such a machine, as :func:`run_program`.

    :param more: words for pytest.
    """
    return run_program(f"-m pytest -p no:cacheprovider --color=no -x -v {more} tests/kernel/{file}", prepare, limit_s)
