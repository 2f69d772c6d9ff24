"""Whether a mount that failed was refused, or nobody was there to refuse it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mnha.host import file_servers
from mnha.host.mounting import Wanted


def test_a_server_that_listens_has_refused_and_one_that_does_not_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        wanted = Wanted("/opt/x", "127.0.0.1:/x", "nfs4", (f"port={port}",))
        assert not file_servers.is_silent(wanted)
    assert file_servers.is_silent(wanted)


@pytest.mark.parametrize(("code", "silent"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)])
def test_a_name_that_nobody_knows_is_refused_one_that_can_not_be_asked_for_is_not(
    monkeypatch: pytest.MonkeyPatch, code: int, silent: bool
) -> None:
    def connect(*_: object) -> None:
        raise socket.gaierror(code, "x")

    monkeypatch.setattr(socket, "create_connection", connect)
    assert file_servers.is_silent(Wanted("/opt/x", "nfs9:/x", "nfs")) is silent


def test_a_device_that_is_not_there_yet_is_silent_and_nothing_else_without_a_server(tmp_path: Path) -> None:
    assert file_servers.is_silent(Wanted("/opt/x", "/dev/mapper/no-such", "ocfs2"))
    assert not file_servers.is_silent(Wanted("/opt/x", "/dev/null", "ocfs2"))
    assert not file_servers.is_silent(Wanted("/opt/x", "tmpfs", "tmpfs"))


@pytest.mark.parametrize(
    ("kind", "source", "hosts"),
    [
        ("nfs", "nfs1:/x", ["nfs1"]),
        ("nfs", "[fe80::1]:/x", ["fe80::1"]),
        ("glusterfs", "g1,g2:/vol", ["g1", "g2"]),
        ("ceph", "m1:6789,m2:/x", ["m1", "m2"]),
        ("ceph", "admin@.fs=/", []),
        ("cifs", "//s/share", ["s"]),
    ],
)
def test_the_servers_of_a_source(kind: str, source: str, hosts: list[str]) -> None:
    assert file_servers.servers(kind, source) == hosts
