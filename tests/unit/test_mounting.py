"""Whether what is mounted agrees in meaning with what is wanted, by lines as the kernel has them; and the units."""

from __future__ import annotations

import pytest

from mnha.host.mounting import Wanted, differences, is_tried_again, own_options, source_of, unit, unseen, with_defaults
from mnha.host.mounts import at, lease_time_s, parse

FOLDER = "/opt/smp/mngt"
LIVE = "rw,vers=4.2,rsize=1048576,wsize=1048576,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,local_lock=none"
STATISTICS = """\
device nfs1:/export/bs mounted on /opt/smp/bs with fstype nfs4 statvers=1.1
\tnfsv4:\tbm0=0xfdffbfff,acl=0x3,sessions,pnfs=not configured,lease_time=90,lease_expired=0
device nfs1:/export/mngt mounted on /opt/smp/mngt with fstype nfs4 statvers=1.1
\tnfsv4:\tbm0=0xfdffbfff,acl=0x3,sessions,pnfs=not configured,lease_time=10,lease_expired=0
device proc mounted on /proc with fstype proc
"""


def line(kind: str = "nfs4", source: str = "nfs1:/export/mngt", own: str = "rw,noatime", options: str = LIVE) -> str:
    return f"77 22 0:50 / {FOLDER} {own} shared:40 - {kind} {source} {options}"


def wanted(kind: str = "nfs4", source: str = "nfs1:/export/mngt", *options: str) -> Wanted:
    return Wanted(FOLDER, source, kind, with_defaults(kind, options))


@pytest.mark.parametrize(
    ("asked", "live"),
    [
        (wanted(), line()),
        (wanted("nfs"), line()),
        (wanted("nfs4", "nfs1:/export/mngt/"), line()),
        (wanted("nfs4", "nfs1:/export/mngt", "nfsvers=4", "tcp", "nofail", "x-systemd.mount-timeout=30", "rw"), line()),
        (wanted("nfs4", "nfs1:/export/mngt", "rsize=1048576", "wsize=2097152"), line()),
        (wanted("nfs4", "nfs1:/export/mngt", "atime"), line(own="rw,relatime")),
        (wanted("nfs4", "nfs1:/export/mngt", "soft"), line(options=LIVE.replace("hard", "soft"))),
        (wanted("glusterfs", "g1:/vol", "backupvolfile-server=g2"), line("fuse.glusterfs", "g1:/vol", options="rw")),
        (wanted("ocfs2", "/dev/sdb1", "rw"), line("ocfs2", "/dev/sdb1", options="rw")),
        (wanted("nfs4", "nfs1:/export/mngt", "v4.2", "async", "intr"), line()),
        (wanted("nfs4", "nfs1:/export/mngt", "vers=4", "minorversion=2"), line()),
        (wanted("tmpfs", "tmpfs", "size=10M"), line("tmpfs", "tmpfs", options="rw,size=10240k")),
    ],
)
def test_what_agrees_in_meaning_is_left_alone(asked: Wanted, live: str) -> None:
    mount = parse(live)
    assert mount is not None
    assert differences(asked, mount) == []


@pytest.mark.parametrize(
    ("asked", "live", "said"),
    [
        (wanted("nfs4", "nfs2:/export/mngt"), line(), ["it is nfs1:/export/mngt, not nfs2:/export/mngt"]),
        (wanted("glusterfs", "nfs1:/export/mngt"), line(), ["it is of type nfs4, not glusterfs"]),
        (wanted(), line(options=LIVE.replace("vers=4.2", "vers=3")), ["vers=4.2 is not in force"]),
        (
            wanted("nfs4", "nfs1:/export/mngt", "vers=4"),
            line(options=LIVE.replace("4.2", "3")),
            ["vers=4 is not in force"],
        ),
        (wanted(), line(options=LIVE.replace("hard", "soft")), ["hard is not in force"]),
        (wanted(), line(options=LIVE.replace("hard", "softerr")), ["hard is not in force"]),
        (wanted(), line(own="rw,relatime"), ["noatime is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "rw"), line(own="ro,noatime"), ["rw is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "ro"), line(), ["ro is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "rsize=65536"), line(), ["rsize=65536 is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "timeo=100"), line(), ["timeo=100 is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "nolock"), line(), ["nolock is not in force"]),
        (wanted("ocfs2", "/dev/sdb1", "rw"), line("ocfs2", "/dev/sdb1", "ro", "rw"), ["rw is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "v4.1"), line(), ["v4.1 is not in force"]),
        (wanted("nfs4", "nfs1:/export/mngt", "vers=4", "minorversion=1"), line(), ["minorversion=1 is not in force"]),
        (
            wanted("tmpfs", "tmpfs", "size=10M"),
            line("tmpfs", "tmpfs", options="rw,size=20480k"),
            ["size=10M is not in force"],
        ),
    ],
)
def test_what_does_not_is_told(asked: Wanted, live: str, said: list[str]) -> None:
    mount = parse(live)
    assert mount is not None
    assert differences(asked, mount) == said


def test_the_defaults_give_way_to_what_is_given() -> None:
    assert with_defaults("nfs4", []) == ("vers=4.2", "hard", "noatime")
    assert with_defaults("nfs", ["nfsvers=3", "softerr", "relatime", ""]) == ("nfsvers=3", "softerr", "relatime")
    assert with_defaults("ocfs2", ["rw"]) == ("rw",)
    assert with_defaults("nfs4", ["v4.1"]) == ("hard", "noatime", "v4.1")
    assert with_defaults("nfs4", ["minorversion=1"]) == ("hard", "noatime", "minorversion=1")


def test_the_unit_comes_before_the_guard_and_is_tried_again() -> None:
    text = unit(wanted(), ["mnha-guard.service", "libvirtd.service"])
    assert "Before=mnha-guard.service libvirtd.service remote-fs.target\n" in text
    assert "OnFailure=mnha-mount-again@%n.service\n" in text
    assert "What=nfs1:/export/mngt\nWhere=/opt/smp/mngt\nType=nfs4\nOptions=_netdev,vers=4.2,hard,noatime\n" in text


def test_a_unit_takes_no_letter_for_a_specifier_and_tells_what_it_mounts() -> None:
    text = unit(Wanted("/opt/10%n", "nfs1:/a%b", "nfs4"), ["x.service"])
    assert "What=nfs1:/a%%b\nWhere=/opt/10%%n\n" in text
    assert (source_of(text), source_of("[Mount]")) == ("nfs1:/a%b", "")
    assert is_tried_again(text)
    assert not is_tried_again("[Mount]\nWhat=x\n")


def test_what_the_kernel_does_not_show_is_known_not_to_be_known() -> None:
    live = parse(line("tmpfs", "tmpfs", options="rw,inode64"))
    assert live is not None
    given = wanted("tmpfs", "tmpfs", "size=10M", "noatime", "x-a=b", "defaults", "inode64")
    assert (unseen(given, live), differences(given, live)) == (["size=10M"], [])
    nfs = parse(line())
    assert nfs is not None
    assert unseen(wanted("nfs4", "nfs1:/export/mngt", "nconnect=4"), nfs) == [], "NFS shows all of it"


def test_the_options_by_which_a_mount_is_made_again() -> None:
    live = parse(line(options="rw,vers=4.2,namlen=255,hard,clientaddr=192.0.2.3,addr=192.0.2.9"))
    assert live is not None
    assert own_options(live) == ["hard", "noatime", "rw", "vers=4.2"]


def test_of_several_mounts_at_one_place_the_last_is_seen() -> None:
    below, above = line(source="old:/x"), line(source="new:/x")
    found = at(FOLDER, ["nonsense", below, above, line().replace(FOLDER, "/opt/smp")])
    assert found is not None
    assert found.source == "new:/x"
    assert at("/opt", [below]) is None
    assert at("/opt/my files", [line().replace(FOLDER, "/opt/my\\040files")]) is not None


def test_the_time_for_which_a_dead_nodes_locks_are_kept() -> None:
    assert lease_time_s(FOLDER, STATISTICS) == 10
    assert lease_time_s("/opt/smp/bs", STATISTICS) == 90
    assert lease_time_s("/opt/smp", STATISTICS) is None
