"""What is asked of a mount: what is accepted, and each way to get it wrong."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.host import mount_arguments as arguments


@pytest.mark.parametrize(
    "folder", ["/opt/smp/mngt", "/opt/my files/", "/mnt", "/srv/shared", "/usr/local/share", "/home/x", "/var/lib/x"]
)
def test_a_folder_of_its_own_is_accepted(folder: str) -> None:
    assert list(arguments.of_folder(folder)) == []


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (5, "is not a path"),
        (None, "is not a path"),
        ("", "is not a path"),
        ("opt/x", "is not a path"),
        ("/opt/x\nOptions=suid", "no unit can hold"),
        ("/opt/x\\", "no unit can hold"),
        *((one, "is a system folder") for one in sorted(arguments.SYSTEM)),
        ("//etc/", "/etc is a system folder"),
        ("/opt/../usr", "/usr is a system folder"),
        ("/etc/mnha", "lies in a system folder"),
        ("/proc/fs", "lies in a system folder"),
        ("/usr/lib/x", "lies in a system folder"),
    ],
)
def test_any_other_is_refused(folder: Any, said: str) -> None:
    (fault,) = arguments.of_folder(folder)
    assert said in fault.problem
    assert fault.remedy


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "glusterfs", "fuse.sshfs", "tmpfs", "ocfs2", "ceph"])
def test_types_are_accepted_though_this_host_may_not_know_them(kind: str) -> None:
    assert list(arguments.of_kind(kind)) == []


@pytest.mark.parametrize("kind", ["nfs5", "nfs3", "NFS4", "nfsv4", "nfs4.2", "gluster", "", 4, "a b", "-t", "x\ny"])
def test_a_type_that_there_can_not_be_is_refused(kind: Any) -> None:
    (fault,) = arguments.of_kind(kind)
    assert "is no file system's type" in fault.problem


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("nfs4", "nfs1:/export/mngt"),
        ("nfs", "192.0.2.9:/"),
        ("nfs4", "[2001:db8::1]:/x y"),
        ("glusterfs", "g1:/vol"),
        ("glusterfs", "g1,g2:vol/sub"),
        ("fuse.glusterfs", "g1:/vol"),
        ("ceph", "mon1:6789,mon2:6789:/"),
        ("ceph", ":/"),
        ("ceph", "admin@.fs=/"),
        ("cifs", "//server/share"),
        ("ocfs2", "/dev/mapper/shared"),
        ("gfs2", "UUID=1234"),
        ("tmpfs", "tmpfs"),
    ],
)
def test_sources_are_accepted_as_mount_takes_them(kind: str, source: str) -> None:
    assert list(arguments.of_source(source, kind)) == []


@pytest.mark.parametrize(
    ("kind", "source", "remedy"),
    [
        ("nfs4", "/export", "SERVER:/EXPORT"),
        ("nfs4", ":/x", "SERVER:/EXPORT"),
        ("nfs", "a b:/c", "SERVER:/EXPORT"),
        ("nfs4", "nfs1", "SERVER:/EXPORT"),
        ("nfs4", "nfs1:export", "SERVER:/EXPORT"),
        ("glusterfs", "g1", "SERVER:/VOLUME"),
        ("glusterfs", "g1:/", "SERVER:/VOLUME"),
        ("ceph", "mon1", "MONITOR:/FOLDER"),
        ("cifs", "server:/share", "//SERVER/SHARE"),
        ("ocfs2", "sdb1", "/dev/NAME"),
        ("tmpfs", "", "`mount`"),
        ("tmpfs", 5, "`mount`"),
        ("tmpfs", "x\nOptions=suid", "`mount`"),
    ],
)
def test_any_other_source_is_refused(kind: str, source: Any, remedy: str) -> None:
    (fault,) = arguments.of_source(source, kind)
    assert remedy in fault.remedy


@pytest.mark.parametrize(
    ("given", "one_by_one"),
    [
        (None, ()),
        ([], ()),
        ("", ()),
        ("nolock", ("nolock",)),
        ("a, b,", ("a", "b")),
        (["a", "b"], ("a", "b")),
        (("a,b", "c"), ("a", "b", "c")),
    ],
)
def test_options_are_a_list_or_a_text_as_mount_takes_it(given: Any, one_by_one: tuple[str, ...]) -> None:
    assert arguments.listed(given) == one_by_one
    assert list(arguments.of_options(given)) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (5, "5 is no list of options"),
        ({"a": 1}, "is no list of options"),
        (["a", 5], "5 is not an option"),
        ([{"rsize": 4}], "is not an option"),
        (["a\nb"], "no unit can hold"),
        ("hard,soft", "hard and soft contradict"),
        (["hard", "softerr"], "hard and softerr contradict"),
        (["ro", "rw"], "ro and rw contradict"),
        (["vers=4.1", "nfsvers=4.2"], "contradict"),
        (["v4.1", "vers=4.2"], "contradict"),
        (["timeo=1", "timeo=2"], "contradict"),
        (["vers=6"], "there is no such version"),
    ],
)
def test_other_options_are_refused(given: Any, said: str) -> None:
    (fault,) = arguments.of_options(given, "nfs4")
    assert said in fault.problem


def test_what_is_said_twice_and_what_may_be_given_twice_contradicts_nothing() -> None:
    given = ["tcp", "proto=tcp", "backupvolfile-server=a", "backupvolfile-server=b", "x-a=1", "x-a=2", "vers=3.1.1"]
    assert list(arguments.of_options(given, "cifs")) == []
