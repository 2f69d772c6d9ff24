"""What an operator types to the modules of a host's networks, and what they make of it: never a stack trace."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from mnha.host.network import ifupdown2, live, owners, transaction
from mnha.host.network.live import Interface, Team
from tests.support.example import example_pillar, example_with
from tests.support.local_salt import LocalSalt
from tests.unit.test_host_networks import NETWORKS

LINKS = ("p5p1", "p5p2", "eth0", "eth1", "em1", "em2", "eth6")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> LocalSalt:
    salt = LocalSalt(tmp_path_factory.mktemp("salt"), example_pillar())
    minion = salt.etc / "minion"
    minion.write_text(
        json.dumps(json.loads(minion.read_text()) | {"mnha_networks_file": str(salt.folder / "own.json")})
    )
    salt.here("saltutil.sync_all")
    return salt


@pytest.fixture
def salt(made: LocalSalt, monkeypatch: pytest.MonkeyPatch) -> LocalSalt:
    """On a host with some interfaces, whose files say nothing yet."""
    (made.folder / "own.json").unlink(missing_ok=True)
    pillar(made)
    there = {name: Interface(name, carrier=True, up=True) for name in LINKS}
    monkeypatch.setattr(live, "look", lambda: there)
    monkeypatch.setattr(owners, "others", list)
    monkeypatch.setattr(transaction, "files", lambda: {ifupdown2.MAIN: ifupdown2.EMPTY})
    monkeypatch.setattr(transaction, "missing", list)
    monkeypatch.setattr(transaction, "unlike", list)
    monkeypatch.setattr(transaction, "unconfirmed", list)
    monkeypatch.setattr(transaction, "apply", lambda *words: pytest.fail("nothing was to be changed"))
    return made


def pillar(salt: LocalSalt, networks: dict[str, Any] | None = None) -> None:
    salt.write_pillar(example_with({} if networks is None else {"networks": networks}))
    salt._caller = None  # it has read the pillar before


@pytest.mark.parametrize(
    ("function", "words", "named", "said"),
    [
        ("hostnet.unwant", ("foo", "bar"), {}, "kind is 'foo': give bonds or bridges, and then the name"),
        ("hostnet.unwant", (["bonds"], "bar"), {}, "kind is ['bonds']: give bonds or bridges"),
        ("hostnet.unwant", ("bonds", "bond7", "bond8"), {}, "test is 'bond8': give True or False"),
        ("hostnet.want", ("bond", "bond7"), {}, "kind is 'bond': give bonds or bridges"),
        ("hostnet.want", ("bonds", "bond7", "eth6"), {}, "test is 'eth6': give True or False"),
        ("hostnet.want", ("bonds", 7), {"links": ["eth6"]}, "bonds:7: 7 is not the name of a network interface"),
        ("hostnet.want", ("bonds", ["x"]), {"links": ["eth6"]}, "name is ['x']: give a device's name"),
        ("hostnet.want", ("bonds", "bond7"), {"links": "eth6"}, "'eth6' is not a list"),
        ("hostnet.want", ("bonds", "bond7"), {"links": ["eth6"], "mode": [4]}, "mode: [4] is none of"),
        ("hostnet.want", ("bonds", "bond7"), {"links": ["eth6"], "mtu": "9000"}, "without quotes"),
        ("hostnet.want", ("bonds", "bond7"), {"link": ["eth6"]}, "is no known key; did you mean links"),
        ("hostnet.apply", ("yes",), {"force": "no"}, "test is 'yes': give True or False; force is 'no': give True or"),
        ("hostnet.apply", (), {"limit_s": "abc"}, "limit_s is 'abc': give a number of seconds from 10 to 3600"),
        ("hostnet.apply", (), {"limit_s": 0}, "limit_s is 0: give a number"),
        ("hostnet.apply", (), {"limit_s": float("nan")}, "limit_s is nan: give a number"),
        ("bond.status", ("bond9",), {}, "there is no bond 'bond9' here: there are none"),
        ("bond.status", (["bond9"],), {}, "there is no bond ['bond9'] here"),
    ],
)
def test_what_is_typed_wrong_is_told(
    salt: LocalSalt, function: str, words: tuple[Any, ...], named: dict[str, Any], said: str
) -> None:
    with pytest.raises(CommandExecutionError) as caught:
        salt.here(function, *words, **named)
    assert said in str(caught.value)


def test_it_fails_with_exit_code_1_and_no_stack_trace(salt: LocalSalt) -> None:
    code, _, printed = salt.call("hostnet.unwant", "foo", "bar")
    assert code == 1
    assert "Traceback" not in printed
    assert "give bonds or bridges" in printed


def test_notes_that_can_not_be_read_are_told_with_what_to_do(salt: LocalSalt) -> None:
    for text in (
        "[]",
        "{",
        '{"v": 9}',
        '{"v": 1, "bonds": [1], "bridges": {}}',
        '{"v": 1, "bonds": {"x": 5}, "bridges": {}}',
    ):
        (salt.folder / "own.json").write_text(text)
        for function in ("hostnet.names", "hostnet.apply", "hostnet.problems"):
            with pytest.raises(CommandExecutionError):
                salt.here(function)


def test_a_name_that_is_a_number_is_a_name(salt: LocalSalt) -> None:
    assert salt.here("netbridge.exists", 7) is False
    assert salt.here("hostnet.unwant", "bonds", 7) == {}


def test_the_bonds_as_a_table(salt: LocalSalt, monkeypatch: pytest.MonkeyPatch) -> None:
    team = Team("active-backup", ("eth0", "eth1"), {"miimon": "100", "primary": "eth1", "updelay": "0"})
    monkeypatch.setattr(live, "look", lambda: {"bond0": Interface("bond0", "bond", team=team)})
    assert (
        salt.here("bond.list").splitlines()
        == [
            "Bond Name | SLAVE(s)  | BONDING_OPTS",
            "----------+-----------+---------------------------------------------",
            "bond0     | eth0 eth1 | mode=active-backup miimon=100 primary=eth1",
        ]
        or salt.here("bond.list").splitlines()[2]
        == "bond0     | eth0 eth1 | mode=active-backup miimon=100 primary=eth1"
    )


def test_where_nobody_says_anything_of_the_networks_nothing_is_touched(
    salt: LocalSalt, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied = {
        ifupdown2.MAIN: ifupdown2.EMPTY,
        ifupdown2.OWN: "auto eth0\niface eth0 inet static\n  address 10.0.0.3/24\n",
    }
    monkeypatch.setattr(transaction, "files", lambda: applied)
    monkeypatch.setattr(transaction, "unlike", lambda: ["eth0: something was done by hand"])
    for networks in (None, {}):
        pillar(salt, networks)
        for test in (False, True):
            found = salt.here("hostnet.apply", test=test)
            assert (found["changes"], found["faults"]) == ({}, [])
            assert "the pillar has no mnha:cluster:networks" in found["comment"]
            assert "nothing is touched" in found["comment"]
        (state,) = salt.here("state.single", "hostnet.applied", "networks").values()
        assert (state["result"], state["changes"]) == (True, {})
        assert "nothing is touched" in state["comment"]


def test_an_address_that_would_be_lost_is_refused_in_a_dry_run_too(
    salt: LocalSalt, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {name: Interface(name) for name in LINKS} | {"bond1": Interface("bond1", "bond")}
    there["br_bond1"] = Interface("br_bond1", "bridge", addresses=("172.20.198.3/24",))
    monkeypatch.setattr(live, "look", lambda: there)
    pillar(salt, NETWORKS)
    wanted = {"eth0", "eth1", "bond1", "br_bond1"}
    assert wanted <= set(salt.here("hostnet.names"))
    made = ifupdown2.HEADER + "".join(f"\nauto {name}\niface {name} inet manual\n" for name in sorted(wanted))
    monkeypatch.setattr(transaction, "files", lambda: {ifupdown2.MAIN: ifupdown2.EMPTY, ifupdown2.OWN: made})
    left = copy.deepcopy(NETWORKS)
    del left["management"], left["bonds"]["bond1"]
    pillar(salt, left)
    for test in (False, True):
        with pytest.raises(CommandExecutionError, match=r"br_bond1 has this node's address 172\.20\.198\.3"):
            salt.here("hostnet.apply", test=test)


def test_all_reasons_are_told_at_once(salt: LocalSalt, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = copy.deepcopy(NETWORKS)
    networks["bonds"]["bond2"].update(links=["em1", "eth9"])
    pillar(salt, networks)
    monkeypatch.setattr(owners, "others", lambda: ["systemd-networkd makes the network of this host"])
    monkeypatch.setattr(transaction, "missing", lambda: ["ifreload is missing here"])
    monkeypatch.setattr(transaction, "unconfirmed", lambda: ["another change is not confirmed yet"])
    fencer = salt.folder / "fencer.json"
    fencer.write_text("{")
    minion = salt.etc / "minion"
    before = minion.read_text()
    minion.write_text(json.dumps(json.loads(before) | {"mnha_fencer_file": str(fencer)}))
    salt._caller = None
    try:
        with pytest.raises(CommandExecutionError) as caught:
            salt.here("hostnet.apply")
    finally:
        minion.write_text(before)
        salt._caller = None
    for words in (
        "the network is not changed: ", "systemd-networkd makes", "no interface eth9",
        "which VMs run on node1 is not known", "ifreload is missing", "another change is not confirmed",
    ):  # fmt: skip
        assert words in str(caught.value)


def test_a_network_that_is_as_wanted_until_it_is_taken_back_is_not_called_well(
    salt: LocalSalt, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillar(salt, NETWORKS)
    after = salt.here("hostnet.apply", test=True)["changes"]
    assert after
    monkeypatch.setattr(transaction, "plan", lambda wish: transaction.Plan({}, {}))
    assert salt.here("hostnet.apply", test=True)["changes"] == {}
    monkeypatch.setattr(transaction, "unconfirmed", lambda: ["another change is not confirmed yet"])
    with pytest.raises(CommandExecutionError, match="another change is not confirmed yet"):
        salt.here("hostnet.apply", test=True)


def test_in_a_dry_run_tools_that_the_states_would_install_are_not_missed(
    salt: LocalSalt, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillar(salt, NETWORKS)
    monkeypatch.setattr(transaction, "missing", lambda: ["ifreload is missing here"])
    assert ifupdown2.OWN in salt.here("hostnet.apply", test=True)["changes"]
