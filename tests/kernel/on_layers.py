"""Run in a machine with two cables to a neighbour (`cables.sh`), its file server, by `test_layers.py`: the layers of
the networks and of the storage as a highstate applies them, whole.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mnha.host import mounts
from tests.support.example import example_with
from tests.support.local_salt import LocalSalt

NEIGHBOUR = "192.168.93.4"
BEFORE = """\
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address 192.168.93.3/24
"""
FOLDER = "/opt/smp/mngt"
PILLAR = {
    "networks": {
        "bonds": {"bond0": {"links": ["eth0", "eth1"]}},
        "storage": {"device": "bond0", "bridge": "br_bond0", "mtu": 9000, "prefix": 24, "gateway": "192.168.93.1"},
    },
    "vms:mnvm:networks:0:bridge": "br_bond0",
    "image_folder": FOLDER,
    "chrony_servers": ["node1", NEIGHBOUR],
    "mounts": {FOLDER: {"source": f"{NEIGHBOUR}:/mngt"}, "/opt/smp/bs": {"source": f"{NEIGHBOUR}:/bs"}},
}
LAYERS = "states.network,states.storage"


@pytest.fixture(scope="module")
def salt(tmp_path_factory: pytest.TempPathFactory) -> LocalSalt:
    """A minion without a master, on a host that has one address on one link."""
    Path("/etc/network/interfaces").write_text(BEFORE)
    Path("/run/network").mkdir(exist_ok=True)
    subprocess.run(["ifreload", "--all"], check=True)
    pillar = example_with(PILLAR)
    image = pillar["mnha"]["cluster"]["vms"]["mnvm"]["image"]
    Path("/srv/nfs/mngt", image).write_bytes(b"image")
    made = LocalSalt(tmp_path_factory.mktemp("salt") / "salt", pillar)
    made.here("saltutil.sync_all")
    return made


def applied(salt: LocalSalt, *, test: bool = False) -> dict[str, dict[str, Any]]:
    """What came of each state of the two layers."""
    states = salt.here("state.apply", LAYERS, test=test)
    assert isinstance(states, dict), states
    return states


def changed(states: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of what came, what changed something, or would."""
    return {tag: one["comment"] for tag, one in states.items() if one["changes"] or one["result"] is None}


def failed(states: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {tag: one["comment"] for tag, one in states.items() if one["result"] is False}


def is_mounted() -> bool:
    return mounts.at(FOLDER, mounts.table()) is not None


def test_a_dry_run_tells_all_and_does_nothing(salt: LocalSalt) -> None:
    states = applied(salt, test=True)
    said = changed(states)
    assert [word for word in ("hostnet_", FOLDER, "/opt/smp/bs") if not any(word in tag for tag in said)] == [], states
    assert not Path("/sys/class/net/bond0").exists()
    assert not is_mounted()


def test_the_first_time_networks_and_shares_are_made(salt: LocalSalt) -> None:
    states = applied(salt)
    assert failed(states) == {}, states
    assert changed(states)
    assert Path("/sys/class/net/br_bond0/bridge").is_dir()
    assert is_mounted()


def test_the_second_time_nothing_changes(salt: LocalSalt) -> None:
    before = mounts.table()
    states = applied(salt)
    assert (failed(states), changed(states)) == ({}, {})
    assert mounts.table() == before, "the very same mounts"
    dry = applied(salt, test=True)
    assert (failed(dry), changed(dry)) == ({}, {}), "nor would anything"


def test_the_time_is_taken_from_whom_the_pillar_says_and_never_from_itself(salt: LocalSalt) -> None:
    for number in range(2):
        _, states, said = salt.call("state.apply", "states.host.time")
        assert isinstance(states, dict), f"{states} {said}"
        assert failed(states) == {}
        assert bool(changed(states)) == (number == 0), states
    asked = subprocess.run(["chronyc", "-n", "-c", "sources"], capture_output=True, text=True, check=True).stdout
    assert [line.split(",")[2] for line in asked.splitlines()] == [NEIGHBOUR]
    answered = subprocess.run(["chronyc", "accheck", "192.168.93.5"], capture_output=True, text=True, check=True).stdout
    assert "Access allowed" in answered
