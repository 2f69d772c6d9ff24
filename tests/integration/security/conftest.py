"""What the tests of security share: every secret of the lab's cluster, and eyes that look for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.provision import MASTER

SECRETS = f"etc/mnha/secrets/{CLUSTER_NAME}"
PUBLIC = ("ca.pem", "node.pem", "libvirt.pem", "master.pub")
PLAIN_USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--no-new-privs")
"""Debian's `nobody`: a process that has no right but those that everybody has."""


def telling_part(text: str) -> str:
    """What to look for: a token or key as it is, of a private key a line from its middle."""
    lines = [line for line in text.splitlines() if line and "-----" not in line]
    return lines[len(lines) // 2]


def secrets_of(cluster: Cluster) -> dict[str, str]:
    """Name -> what to look for, of every secret there is: the masters' store, the minions' keys."""
    store = cluster.file(MASTER, SECRETS)
    found = {
        str(path.relative_to(store)): telling_part(path.read_text())
        for path in sorted(store.rglob("*"))
        if path.is_file() and path.name not in PUBLIC
    }
    for node in cluster.names:
        found[f"minion key of {node}"] = telling_part(cluster.file(node, "etc/salt/pki/minion/minion.pem").read_text())
    return found


class Eyes:
    """Looks for secrets on a node, as root or as a plain user."""

    def __init__(self, cluster: Cluster, secrets: Mapping[str, str]) -> None:
        self._cluster, self._secrets = cluster, dict(secrets)

    def files_with(self, node: str, names: Sequence[str], plain: bool, skip: Sequence[str] = ()) -> set[str]:
        """The files of a node in which one of the secrets stands, as far as the one who looks may read them."""
        patterns = "/var/lib/what-to-look-for"
        self._cluster.write_file(node, patterns, "".join(f"{self._secrets[name]}\n" for name in names), 0o600)
        if plain:
            self._cluster.run(node, ["chown", "nobody", patterns], check=True)
        # Not /dev: to open a watchdog is to arm it.
        pruned = " -o ".join(f"-path {path}" for path in ("/proc", "/sys", "/dev", "/srv/packages", patterns, *skip))
        # What may not be read is passed over without a word: that is as it should be.
        look = f"find / \\( {pruned} \\) -prune -o -type f -print0 | xargs -0 grep -laFs -f {patterns}"
        try:
            found = self._cluster.run(node, [*(PLAIN_USER if plain else ()), "sh", "-c", look], timeout_s=180)
        finally:
            self._cluster.run(node, ["rm", "-f", patterns])
        return set(found.stdout.splitlines())

    def in_text(self, text: str) -> list[str]:
        """The names of those secrets that stand in a text."""
        return [name for name, secret in self._secrets.items() if secret in text]


@pytest.fixture
def secrets(cluster: Cluster) -> dict[str, str]:
    """See :func:`secrets_of`."""
    return secrets_of(cluster)


@pytest.fixture
def eyes(cluster: Cluster, secrets: dict[str, str]) -> Eyes:
    """See :class:`Eyes`."""
    return Eyes(cluster, secrets)


@pytest.fixture
def as_plain_user(cluster: Cluster) -> Callable[..., tuple[int, str]]:
    """Runs a command on a node as a plain user: exit code, everything it printed."""

    def run(node: str, *words: str, stdin: str | None = None) -> tuple[int, str]:
        done = cluster.run(node, [*PLAIN_USER, *words], timeout_s=60, stdin=stdin)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def consul_binary(cluster: Cluster) -> Path:
    """The program that the nodes run, for agents beside them."""
    return cluster.file(MASTER, "usr/bin/consul")
