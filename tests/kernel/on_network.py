"""Run in a machine with two cables to a neighbour (`cables.sh`), by `test_network.py`: the layer of the hosts'
networks, from an interface with an address to a bridge on a bond with LACP. Each goes on where the one before ended.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnha.daemon.adapters.networks import Networks
from mnha.daemon.adapters.probe import Check
from mnha.fencer.slices import KernelSlices
from mnha.host.network import transaction
from tests.support.example import example_pillar
from tests.support.local_salt import LocalSalt

ADDRESS, NEIGHBOUR, GATEWAY = "192.168.93.3/24", "192.168.93.4", "192.168.93.1"
BEFORE = f"""\
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address {ADDRESS}
"""
NETWORKS: dict[str, Any] = {
    "bonds": {"bond0": {"links": ["eth0", "eth1"]}},
    "storage": {"device": "bond0", "bridge": "br_bond0", "mtu": 9000, "prefix": 24, "gateway": GATEWAY},
}
LIMIT_S = 20.0


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def neighbour(*commands: str) -> None:
    """Commands of `ip` for the neighbour."""
    for command in commands:
        run("ip", "-n", "neighbour", *command.split())


def until(question: Callable[[], object], limit_s: float, what: str, seen: Callable[[], object] = str) -> None:
    """:param seen: what is the case instead, if it does not become so."""
    end_s = time.monotonic() + limit_s
    while not question():
        assert time.monotonic() < end_s, f"not within {limit_s:g} s: {what}; {seen()}"
        time.sleep(0.2)


def answers(size: int = 56) -> bool:
    """Whether the neighbour answers a packet of that size that may not be taken apart."""
    words = ["ping", "-n", "-q", "-c", "2", "-i", "0.2", "-W", "1", "-M", "do", "-s", str(size), NEIGHBOUR]
    return subprocess.run(words, capture_output=True, timeout=20, check=False).returncode == 0


def devices() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()} - {"lo", "bonding_masters"}


class Host:
    """This machine, with a minion that has no master."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._salt, self._runs = folder, None, 0

    def pillar(
        self,
        change: Callable[[dict[str, Any]], None] = lambda networks: None,
        networks: dict[str, Any] | None = NETWORKS,
    ) -> LocalSalt:
        """A minion whose pillar wants the networks with a change; None: it says nothing of them."""
        pillar = example_pillar()
        cluster = pillar["mnha"]["cluster"]
        cluster["vms"]["mnvm"]["networks"][0]["bridge"] = "br_bond0"
        if networks is not None:
            cluster["networks"] = copy.deepcopy(networks)
            change(cluster["networks"])
        if self._salt is None:
            (self.folder / "root").mkdir()
            self._salt = LocalSalt(self.folder / "salt", pillar, roots=(self.folder / "root",))
            self._salt.here("saltutil.sync_all")
        else:
            self._salt.write_pillar(pillar)
            self._salt.here("saltutil.refresh_pillar")
        return self._salt

    def apply(
        self, change: Callable[[dict[str, Any]], None] = lambda networks: None, *, test: bool = False
    ) -> dict[str, Any]:
        """What came of the state of the networks when its layer was applied; the tools of the layer are well, and its
        bridges are there if the networks are.
        """
        salt = self.pillar(change)
        states = salt.here("state.apply", "states.network", test=test)
        assert isinstance(states, dict), states
        (own,) = [one for tag, one in states.items() if tag.startswith("hostnet_")]
        wrong = {tag: one["comment"] for tag, one in states.items() if one["result"] is False and one is not own}
        assert own["result"] is False or wrong == {}
        assert [tag for tag in wrong if not tag.startswith("netbridge_")] == []
        return own


def begin() -> None:
    """The host as it is before any change: an address on one link."""
    Path("/etc/network/interfaces").write_text(BEFORE)
    run("mkdir", "-p", "/run/network")
    run("ifreload", "--all")
    until(answers, 10, "the neighbour answers")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    begin()
    return Host(tmp_path_factory.mktemp("salt"))


def as_before(limit_s: float = 10.0) -> None:
    """All is as before any change, within that time."""
    main, own = Path("/etc/network/interfaces"), Path("/etc/network/interfaces.d/mnha")
    until(lambda: main.read_text() == BEFORE and not own.exists(), limit_s, "the files are as before")
    until(lambda: devices() == {"eth0", "eth1", "eth2", "eth3"}, limit_s, f"the devices are as before: {devices()}")
    # A bond that nobody answers by LACP any more uses one of its links, the neighbour's the one that leads nowhere now.
    neighbour("link set eth1 down")
    until(answers, limit_s, "the neighbour answers: " + run("ip", "address"))
    neighbour("link set eth1 up")


def test_a_dry_run_tells_the_change_and_makes_none(host: Host) -> None:
    found = host.apply(test=True)
    assert found["result"] is None, found
    assert sorted(found["changes"]) == ["/etc/network/interfaces", "/etc/network/interfaces.d/mnha"]
    assert "+    bond-slaves eth0 eth1" in found["changes"]["/etc/network/interfaces.d/mnha"]["diff"]
    as_before()


@pytest.mark.nightly
def test_an_interface_that_is_not_there_is_refused_before_anything_is_touched(host: Host) -> None:
    found = host.apply(lambda networks: networks["bonds"]["bond0"].update(links=["eth0", "eth7"]))
    assert found["result"] is False
    assert "there is no interface eth7 here" in found["comment"]
    as_before()


def test_a_gateway_that_does_not_answer_brings_the_old_network_back(host: Host) -> None:
    began_s = time.monotonic()
    found = host.apply(lambda networks: networks["storage"].update(gateway="192.168.93.250"))
    assert found["result"] is False, found
    assert "the old network is back: the gateway (192.168.93.250) does not answer in the storage" in found["comment"]
    as_before()
    print(f"wrong gateway: back after {time.monotonic() - began_s:.1f} s")


@pytest.mark.nightly
def test_a_bond_of_the_wrong_links_brings_the_old_network_back(host: Host) -> None:
    found = host.apply(lambda networks: networks["bonds"]["bond0"].update(links=["eth2", "eth3"], mode="active-backup"))
    assert found["result"] is False, found
    assert f"the old network is back: the gateway ({GATEWAY}) does not answer in the storage" in found["comment"]
    as_before()


@pytest.mark.nightly
def test_a_bridge_on_the_wrong_device_is_refused_before_anything_is_touched(host: Host) -> None:
    found = host.apply(lambda networks: networks["storage"].update(device="eth2", mtu=1500))
    assert found["result"] is False, found
    assert f"eth0 has the address {ADDRESS}, which nothing that lies on it would have" in found["comment"]
    as_before()


@pytest.mark.nightly
def test_a_switch_without_lacp_brings_the_old_network_back(host: Host) -> None:
    neighbour("link set eth0 nomaster", "link set eth1 nomaster", "link set eth0 up")
    neighbour("address flush dev bond0")
    neighbour(*(f"address add {one}/24 dev eth0" for one in (NEIGHBOUR, GATEWAY)))
    until(answers, 10, "the neighbour answers")
    found = host.apply()
    assert found["result"] is False, found
    assert "no switch answers bond0 by LACP" in found["comment"]
    as_before()
    neighbour("address flush dev eth0")
    for link in ("eth0", "eth1"):
        neighbour(f"link set {link} down", f"link set {link} master bond0", f"link set {link} up")
    neighbour(*(f"address add {one}/24 dev bond0" for one in (NEIGHBOUR, GATEWAY)))
    until(answers, 10, "the neighbour answers")


def test_whoever_is_killed_in_the_middle_of_a_change_leaves_the_old_network(host: Host) -> None:
    """By systemd's timer."""
    salt = host.pillar(lambda networks: networks["storage"].update(gateway="192.168.93.250"))
    program = str(Path(sys.executable).with_name("salt-call"))
    change = subprocess.Popen(
        [program, "--local", "-c", str(salt.etc), "hostnet.apply", f"limit_s={LIMIT_S}"], stdout=subprocess.DEVNULL
    )
    until(lambda: "br_bond0" in devices(), 60, "the network is changed")
    change.kill()
    change.wait()
    assert (transaction.BEFORE / "whole").exists()
    as_before(LIMIT_S + 15)
    assert not (transaction.BEFORE / "whole").exists()


def test_a_change_that_is_well_holds(host: Host) -> None:
    began_s = time.monotonic()
    found = host.apply()
    assert found["result"] is True, found
    print(f"the change: {found['comment']}; in all {time.monotonic() - began_s:.1f} s")
    assert {"bond0", "br_bond0"} <= devices()
    assert answers(8972)
    assert not (transaction.BEFORE / "whole").exists()
    assert run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"{transaction.UNIT}.*") == ""


def test_the_second_time_nothing_changes(host: Host) -> None:
    found = host.apply()
    assert (found["result"], found["changes"]) == (True, {}), found
    assert host.apply(test=True)["result"] is True


def files() -> dict[str, str]:
    found = [Path("/etc/network/interfaces"), Path("/etc/network/interfaces.d/mnha")]
    return {str(path): path.read_text() for path in found}


@pytest.mark.nightly
def test_networks_that_are_left_out_of_the_pillar_stay_as_they_are(host: Host) -> None:
    before = files(), devices()
    salt = host.pillar(networks=None)
    for words in (["test=True"], [], ["force=True"]):
        code, found, printed = salt.call("hostnet.apply", *words)
        assert (code, found["changes"], found["faults"]) == (0, {}, []), printed
        assert "nothing is touched" in found["comment"], found
    states = salt.here("state.single", "hostnet.applied", "networks")
    assert [(one["result"], one["changes"]) for one in states.values()] == [(True, {})], states
    assert (files(), devices()) == before
    assert answers(8972)


@pytest.mark.nightly
def test_a_change_that_takes_the_nodes_address_away_is_refused_and_comes_back_where_it_is_forced(host: Host) -> None:
    before = files(), devices()
    salt = host.pillar(networks={"management": {"device": "eth2", "prefix": 24}})
    for words in (["test=True"], []):
        code, _, printed = salt.call("hostnet.apply", *words)
        assert code == 1, printed
        assert "br_bond0 has this node's address 192.168.93.3 of the storage network, and nothing would" in printed
    assert (files(), devices()) == before
    assert answers(8972)
    code, found, printed = salt.call("hostnet.apply", "force=True")
    assert (code, found["is_back"], found["changes"]) == (1, True, {}), printed
    assert "this node's address 192.168.93.3 of the storage network is gone" in found["faults"], found
    assert f"node2 ({NEIGHBOUR}) does not answer in the storage network" in found["faults"], found
    until(lambda: answers(8972), 20, "the old network is back")
    assert (files(), devices()) == before


@pytest.mark.nightly
def test_what_somebody_has_changed_by_hand_is_told_and_made_right(host: Host) -> None:
    run("ip", "address", "del", ADDRESS, "dev", "br_bond0")
    dry = host.apply(test=True)
    assert dry["result"] is None, dry
    assert f"br_bond0 has not address {ADDRESS}" in dry["changes"]["the network"]["diff"], dry
    found = host.apply()
    assert (found["result"], list(found["changes"])) == (True, ["the network"]), found
    assert answers()


def test_the_bond_is_shown_as_the_old_suite_did_and_how_it_is(host: Host) -> None:
    salt = host.pillar()
    lines = salt.here("bond.list").splitlines()
    assert [cell.strip() for cell in lines[0].split("|")] == ["Bond Name", "SLAVE(s)", "BONDING_OPTS"]
    assert [cell.strip() for cell in lines[2].split("|")] == [
        "bond0", "eth0 eth1", "mode=802.3ad miimon=100 xmit_hash_policy=layer2+3 lacp_rate=fast",
    ]  # fmt: skip
    (status,) = salt.here("bond.status").values()
    assert status["carrier"]
    assert status["lacp"]["heard"]
    assert {link: one["passes"] for link, one in status["links"].items()} == {"eth0": True, "eth1": True}
    assert salt.here("hostnet.problems") == []


@pytest.mark.nightly
def test_a_vms_port_stays_in_its_bridge_while_that_is_changed(host: Host) -> None:
    run("ip", "tuntap", "add", "vnet0", "mode", "tap")
    run("ip", "link", "set", "vnet0", "master", "br_bond0", "up")
    found = host.apply(lambda networks: networks["bonds"]["bond0"].update(xmit_hash_policy="layer3+4"))
    assert found["result"] is True, found
    assert Path("/sys/class/net/vnet0/master").resolve().name == "br_bond0"
    run("ip", "link", "del", "vnet0")
    assert host.apply()["result"] is True


@pytest.mark.nightly
def test_the_network_is_not_changed_under_a_vm_unless_that_is_forced(host: Host) -> None:
    """By the kernel's word: its guard is not there, and could not be asked."""
    folder = Path("/sys/fs/cgroup/mnha.slice")
    KernelSlices(folder).open("mnvm")
    vm = subprocess.Popen(["sleep", "600"])
    (KernelSlices(folder).path("mnvm") / "cgroup.procs").write_text(str(vm.pid))
    fencer = {"v": 1, "socket": "", "memory": "", "mark": "", "slices": str(folder), "watchdog": "off", "vms": ["mnvm"]}
    Path("/etc/mnha").mkdir(exist_ok=True)
    Path("/etc/mnha/fencer.json").write_text(json.dumps(fencer | {"watchdog_device": ""}))

    def other(networks: dict[str, Any]) -> None:
        networks["bonds"]["bond0"].update(xmit_hash_policy="layer3+4")

    try:
        assert host.apply()["result"] is True, "nothing is to be changed"
        found = host.apply(other)
        assert (found["result"], found["changes"]) == (False, {}), found
        assert "the network is not changed: mnvm runs here" in found["comment"]
        assert host.apply(other, test=True)["result"] is False, "a dry run says so, too"
        code, forced, printed = host.pillar(other).call("hostnet.apply", "force=True")
        assert code == 0, printed
        assert (forced["faults"], list(forced["changes"])) == ([], ["/etc/network/interfaces.d/mnha"]), forced
    finally:
        vm.kill()
        vm.wait()
    assert host.apply()["result"] is True


@pytest.mark.nightly
def test_jumbo_frames_that_do_not_arrive_are_told_and_taken_back(host: Host) -> None:
    def smaller(networks: dict[str, Any]) -> None:
        networks["storage"].update(mtu=1500)

    assert host.apply(smaller)["result"] is True
    for link in ("a0", "b0", "a1", "b1"):
        run("ip", "-n", "cable", "link", "set", link, "mtu", "1500")
    found = host.apply()
    for link in ("a0", "b0", "a1", "b1"):
        run("ip", "-n", "cable", "link", "set", link, "mtu", "9000")
    assert found["result"] is False, found
    assert f"packets of 9000 bytes do not arrive at node2 ({NEIGHBOUR}) in the storage network" in found["comment"]
    until(answers, 10, "the old network is back")
    assert host.apply()["result"] is True
    assert answers(8972)


@pytest.fixture(scope="module")
def watch(host: Host) -> Networks:
    """What a guard knows of the network, by the device that has its address."""
    network = {"address": ADDRESS.partition("/")[0], "gateway": GATEWAY, "peers": {"node2": NEIGHBOUR}}
    made = Networks({"networks": {"storage": network}})
    made.start()
    return made


def seen(watch: Networks) -> Check:
    return watch.checks()["storage_network"]


def is_lost(watch: Networks) -> bool:
    return watch.lost_s("storage_network") is not None and not seen(watch).ok


def is_well(watch: Networks) -> bool:
    return seen(watch) == Check(True, "")


@pytest.mark.nightly
def test_one_link_may_be_cut_and_both_silent_ones_are_told(host: Host, watch: Networks) -> None:
    salt = host.pillar()
    until(lambda: is_well(watch), 20, "the guard finds it well", lambda: seen(watch))
    run("ip", "-n", "cable", "link", "set", "a0", "down")
    until(lambda: not salt.here("bond.status")["bond0"]["links"]["eth0"]["passes"], 5, "one link is down")
    assert salt.here("hostnet.problems") == []
    until(lambda: "eth0 of bond0 passes no frames" in seen(watch).why, 5, "the guard tells it", lambda: seen(watch))
    assert seen(watch).ok, "and nothing else"
    until(answers, 6, "the neighbour uses the other link, too: its own carrier is well, and LACP is silent for 3 s")
    run("ip", "-n", "cable", "link", "set", "a0", "up")
    until(lambda: salt.here("bond.status")["bond0"]["links"]["eth0"]["passes"], 20, "it is back")
    until(lambda: is_well(watch), 20, "the guard finds it well", lambda: seen(watch))
    began_s = time.monotonic()
    for link in ("a0", "a1"):
        run("ip", "-n", "cable", "link", "set", link, "down")
    until(lambda: is_lost(watch), 5, "the guard finds it lost", lambda: seen(watch))
    print(f"both carriers down: the guard knows after {time.monotonic() - began_s:.2f} s")
    assert seen(watch).why == "no link of bond0 passes frames (eth0, eth1)"
    for link in ("a0", "a1"):
        run("ip", "-n", "cable", "link", "set", link, "up")
    until(lambda: is_well(watch), 30, "the guard finds it well", lambda: seen(watch))
    neighbour("address flush dev bond0")
    until(lambda: is_lost(watch), 10, "the guard finds that nobody answers", lambda: seen(watch))
    assert "nobody answers by br_bond0: the gateway (192.168.93.1), node2 (192.168.93.4)" in seen(watch).why
    neighbour(*(f"address add {one}/24 dev bond0" for one in (NEIGHBOUR, GATEWAY)))
    until(lambda: is_well(watch), 20, "the guard finds it well", lambda: seen(watch))
    for link in ("a0", "b0", "a1", "b1"):
        run("ip", "netns", "exec", "cable", "tc", "filter", "del", "dev", link, "ingress")
    until(lambda: any("bond0" in text for text in salt.here("hostnet.problems")), 20, "the silence is told")
    assert salt.here("bond.status")["bond0"]["carrier"], "to the kernel nothing has happened"
    until(lambda: is_lost(watch), 10, "the guard finds it lost", lambda: seen(watch))
    until(lambda: "no switch answers bond0 by LACP" in seen(watch).why, 10, "and why", lambda: seen(watch))


OWN = """
include:
  - states.network.tools

bond7:
  bond.present:
    - links: [eth2, eth3]
    - mode: active-backup

br_bond7:
  netbridge.present:
    - port: bond7
    - address: 10.7.0.3/24

networks:
  hostnet.applied:
    - require:
      - sls: states.network.tools
      - bond: bond7
      - netbridge: br_bond7
"""

GONE = """
bond7:
  bond.absent: []

br_bond7:
  netbridge.absent: []

networks:
  hostnet.applied:
    - order: last
"""


def own(salt: LocalSalt, text: str, *, test: bool = False) -> dict[str, dict[str, Any]]:
    """What came of a host's own states, by their name; those of the tools are left out."""
    (salt.folder.parent / "root/own.sls").write_text(text)
    states = salt.here("state.apply", "own", test=test)
    assert isinstance(states, dict), states
    kept = ("bond_", "netbridge_", "hostnet_")
    found = {one["__id__"]: one for tag, one in states.items() if tag.startswith(kept)}
    assert found, states
    return found


@pytest.mark.nightly
def test_a_hosts_own_states_add_a_bond_and_a_bridge_and_take_them_away(host: Host, watch: Networks) -> None:
    for link in ("a0", "b0", "a1", "b1"):  # the cables that the test before left cut
        other = ("b" if link[0] == "a" else "a") + link[1]
        words = ["ingress", "matchall", "action", "mirred", "egress", "redirect", "dev", other]
        run("ip", "netns", "exec", "cable", "tc", "filter", "add", "dev", link, *words)
    salt = host.pillar()
    problems = lambda: salt.here("hostnet.problems")  # noqa: E731
    until(lambda: problems() == [], 40, "the cables are well again", problems)
    until(lambda: is_well(watch), 20, "the guard finds it well", lambda: seen(watch))
    before = devices()
    dry = own(salt, OWN, test=True)
    assert {name: one["result"] for name, one in dry.items()} == {"bond7": None, "br_bond7": None, "networks": None}, (
        dry
    )
    assert "+    bond-slaves eth2 eth3" in dry["networks"]["changes"]["/etc/network/interfaces.d/mnha"]["diff"]
    assert devices() == before
    made = own(salt, OWN)
    assert all(one["result"] is True and one["changes"] for one in made.values()), made
    assert run("ping", "-c", "1", "-W", "2", "10.7.0.1")
    again = own(salt, OWN)
    assert all(one["result"] is True and not one["changes"] for one in again.values()), again
    assert host.apply()["changes"] == {}, "the cluster's own layer keeps them"
    gone = own(salt, GONE)
    assert all(one["result"] is True and one["changes"] for one in gone.values()), gone
    assert devices() == before
    without = host.pillar(networks=None)
    for text in (OWN, GONE):
        found = own(without, text)
        assert all(one["result"] is True and one["changes"] for one in found.values()), found
        assert before <= devices(), "what was made of the cluster's networks stays, whatever the host's own states do"
        assert ("br_bond7" in devices()) is (text == OWN)
    host.pillar()
    assert "wanted by the pillar" in own(salt, "bond0:\n  bond.absent: []\n")["bond0"]["comment"]
