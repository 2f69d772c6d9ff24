"""What the states put on a node is removed by `states.removed`, or stays on purpose: a new file is one or the other."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.example import ROOT

STATES = ROOT / "salt/states"
PLACE = re.compile(r"(?:name: |- |')(/(?:etc|usr|opt|var|run|srv)/[^\s'\"{},)]*)")
STAYS = (
    "/etc/mnha/secrets", "/etc/salt", "/srv/mnha", "/var/cache/salt", "/var/lib/mnha/given.json",  # Salt's
    "/usr/lib/mnha/stamp", "/usr/lib/mnha/restart-when-idle", "/usr/lib/mnha/salt-requirements.txt",
    "/etc/systemd/system/salt-master.service.d", "/etc/systemd/system/salt-minion.service.d",
    "/etc/mnha/networks.json", "/var/lib/mnha/network",  # the networks'
    "/usr/lib/mnha/network-back", "/etc/systemd/system/mnha-network-back-at-boot.service",  # the networks'
    "/etc/chrony/chrony.conf", "/etc/default/libvirtd", "/etc/libvirt",  # other packages', as they were set
    "/usr/bin/python3", "/usr/bin/systemd-run",
)  # fmt: skip
FOLDERS = {"/etc/mnha", "/etc/mnha/", "/var/lib/mnha", "/usr/lib/mnha"}
"""In which something of both lies."""
IN_THE_GUEST = {"/run/mnha-guest.addresses", "/run/mnha-guest.json"}


def places(paths: list[Path]) -> set[str]:
    return {found for path in paths for found in PLACE.findall(path.read_text(encoding="utf-8"))}


def below(path: str, folders: set[str] | tuple[str, ...]) -> bool:
    return any(path == one or path.startswith(f"{one.rstrip('/')}/") for one in folders)


def test_what_the_states_put_on_a_node_is_removed_or_stays_on_purpose() -> None:
    removed = places(list((STATES / "removed").glob("*.sls")))
    put = places([path for path in STATES.rglob("*.sls") if path.parent.name != "removed"])
    assert len(put) > 40
    assert {path for path in put - FOLDERS if not below(path, removed) and not below(path, STAYS)} == set()


def test_nothing_that_stays_is_removed() -> None:
    removed = places([STATES / "removed/files.sls", STATES / "removed/consul.sls", STATES / "removed/daemons.sls"])
    assert {path for path in removed if below(path, STAYS)} == set()
    assert {kept for kept in STAYS if below(kept, removed)} == set()
    assert not removed & FOLDERS


def test_what_modules_and_daemons_write_is_removed_or_stays_on_purpose() -> None:
    """By the paths that stand in the library and in Salt's modules."""
    removed = places(list((STATES / "removed").glob("*.sls")))
    written = re.compile(r'"(/(?:etc|usr/lib|opt|var/lib|var/cache|var/log|run)/mnha[^"{ ]*)"')
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "salt").rglob("*.py")]
    put = {path for text in sources for path in written.findall(text)} - FOLDERS - IN_THE_GUEST
    assert len(put) > 15
    assert {path for path in put if not below(path, removed) and not below(path, STAYS)} == set()
