"""What a mount says of itself, by texts as the kernel has them in /proc/self/mountinfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnha.daemon.adapters.look import mount_of
from mnha.daemon.adapters.share import Rules, fitness
from mnha.host.mounts import carrying, parse

ROOT = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"
SHARE = Path("/opt/smp/mngt")
NFS4 = "rw,vers=4.2,rsize=1048576,namlen=255,hard,proto=tcp,timeo=600,sec=sys,local_lock=none,addr=192.0.2.9"
NFS3 = "rw,vers=3,rsize=1048576,namlen=255,hard,proto=tcp,mountproto=udp,local_lock=none,addr=192.0.2.9"


def line(kind: str, options: str, point: str = str(SHARE)) -> str:
    return f"77 22 0:50 / {point} rw,relatime shared:40 - {kind} server:/export {options}"


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("nfs4", NFS4, []),
        ("nfs", NFS3, ["NFSv3", "vers=4.2"]),
        ("nfs", NFS3.replace("vers=3", "vers=3,nolock"), ["NFSv3", "nolock"]),
        ("nfs", NFS3.replace("local_lock=none", "local_lock=all"), ["NFSv3", "local_lock=all"]),
        ("nfs4", NFS4.replace("local_lock=none", "local_lock=posix"), ["local_lock=posix"]),
        ("nfs4", NFS4.replace("hard", "soft"), ["option soft", "`hard`"]),
        ("nfs4", NFS4.replace("hard", "softerr"), ["option softerr", "`hard`"]),
        ("cifs", "rw,vers=3.1.1,cache=strict,soft,nobrl", ["nobrl"]),
        ("cifs", "rw,vers=3.1.1,cache=strict,soft", []),
        ("ocfs2", "rw,_netdev,localflocks", ["localflocks"]),
        ("gfs2", "rw,lockproto=lock_nolock", ["lock_nolock"]),
        ("fuse.glusterfs", "rw,user_id=0", []),
        ("ceph", "rw,acl", []),
    ],
)
def test_a_mount_without_working_locks_or_that_gives_up_writes_is_refused(
    kind: str, options: str, words: list[str]
) -> None:
    mount = parse(line(kind, options))
    assert mount
    refused, told = (fitness(mount, SHARE, Rules(refuse=refuse)) for refuse in (True, False))
    assert (refused.ok, told.ok) == (not words, True)
    for word in words:
        assert word in refused.why
        assert word in told.why
    assert ("unsafe_mount" in refused.why) == bool(words)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "overlay", "tmpfs"])
def test_a_file_system_that_can_not_be_shared_is_told_unless_somebody_vouches_for_it(kind: str) -> None:
    mount = parse(line(kind, "rw"))
    assert mount
    assert fitness(mount, SHARE, Rules()).ok
    assert "no two nodes share such a file system; is the share mounted?" in fitness(mount, SHARE, Rules()).why
    assert fitness(mount, SHARE, Rules(declared=True)).why == ""


def test_a_line_that_can_not_be_understood_is_no_mount() -> None:
    assert [parse(text) for text in ("", "1 2 3", "22 1 254:1 / / rw", " - ext4 x rw")] == [None] * 4


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ([], ROOT),
        ([line("nfs4", NFS4)], line("nfs4", NFS4)),
        ([line("nfs4", NFS4, "/opt/smp")], line("nfs4", NFS4, "/opt/smp")),
        ([line("nfs4", NFS4, "/opt/smp/mngt2"), line("nfs4", NFS4, "/opt/sm")], ROOT),
        # Something else mounted over it.
        ([line("nfs4", NFS4), "78 77 0:51 / /opt/smp/mngt rw - tmpfs x rw"],
         "78 77 0:51 / /opt/smp/mngt rw - tmpfs x rw"),
        # What is mounted above, later, hides it.
        ([line("nfs4", NFS4), "78 22 0:51 / /opt rw - tmpfs x rw"], "78 22 0:51 / /opt rw - tmpfs x rw"),
        # Below that again.
        ([line("nfs4", NFS4), "78 22 0:51 / /opt rw - tmpfs x rw", "79 78 0:52 / /opt/smp rw - xfs x rw"],
         "79 78 0:52 / /opt/smp rw - xfs x rw"),
    ],
)  # fmt: skip
def test_the_mount_of_a_folder_is_the_one_that_the_kernel_walks_into(mounts: list[str], found: str) -> None:
    for order in (1, -1):
        text = "\n".join([ROOT, *mounts][::order])
        assert mount_of(str(SHARE), text) == found
        assert carrying(str(SHARE), text.splitlines()) == parse(found), "the guard and Salt see the same"


def test_a_mount_point_with_a_blank_is_found() -> None:
    mounted = line("nfs4", NFS4, r"/opt/the\040share\134")
    assert mount_of("/opt/the share\\/x", f"{ROOT}\n{mounted}") == mounted


def test_a_version_that_is_no_number_is_no_traceback() -> None:
    mount = parse(line("nfs4", NFS4.replace("vers=4.2", "vers=x")))
    assert mount
    assert mount.faults == []
    assert carrying("/x", []) is None


def test_the_same_place_mounted_again_from_elsewhere_is_another_mount() -> None:
    first, second = (parse(line("nfs4", NFS4).replace("server:", server)) for server in ("a:", "b:"))
    assert first
    assert second
    assert first.key != second.key
    again = parse(line("nfs4", NFS4.replace("rsize=1048576", "rsize=65536")))
    assert again
    assert again.key == parse(line("nfs4", NFS4)).key  # type: ignore[union-attr]
