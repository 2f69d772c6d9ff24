"""The beacons, loaded by Salt's own loader: their configuration as a table, and each event at its transition."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest
import salt.config
import salt.loader
from salt.exceptions import CommandExecutionError

from tests.support.fake_guard import FakeCluster

ROOT = Path(__file__).resolve().parents[2]
OK = [{"interval": 1}, {"cluster": "example"}]


@pytest.fixture
def world(tmp_path):
    return FakeCluster(tmp_path, ["node1", "node2"])


@pytest.fixture
def beacons(tmp_path, world):
    """The loaded beacons over the status that `world` gives for node2; `down` makes the guard unreachable."""
    opts = salt.config.minion_config(None)
    opts.update(root_dir=str(tmp_path), cachedir=str(tmp_path), extension_modules=str(tmp_path / "none"), id="node2",
                beacons_dirs=[str(ROOT / "salt/_beacons")], grains={})  # fmt: skip
    state = {"down": ""}

    def status(timeout_s):
        assert timeout_s <= 0.3
        if state["down"]:
            raise CommandExecutionError(state["down"])
        return copy.deepcopy(world.guards["node2"].status())

    loaded = salt.loader.beacons(opts, {"guard.status": status})
    return loaded, state


def tick(beacons, name="mnvm_health", config=()):
    events = beacons[0][f"{name}.beacon"]([*OK, *config])
    return {event["tag"].removeprefix("example/"): event for event in events}


@pytest.mark.parametrize("name", ["mnvm_health", "node_liveness"])
@pytest.mark.parametrize(
    ("config", "words"),
    [
        (OK, ""),
        ([*OK, {"timeout_s": 0.2}], ""),
        ([*OK, {"enabled": True}], ""),
        ({"cluster": "example"}, "must be a list"),
        (["cluster"], "must be a list"),
        ([{"interval": 1}], "`cluster` is missing"),
        ([{"cluster": ""}], "`cluster` is missing"),
        ([{"cluster": 5}], "`cluster` is missing"),
        ([*OK, {"timeout_s": 5}], "timeout_s is 5"),
        ([*OK, {"timeout_s": True}], "timeout_s is True"),
        ([*OK, {"timeout": 0.2}], "unknown key 'timeout'"),
        ([*OK, {"interval": "often"}], "interval is 'often'"),
    ],
)
def test_validate(beacons, name, config, words):
    valid, text = beacons[0][f"{name}.validate"](config)
    assert valid is (not words)
    assert words in text


@pytest.mark.parametrize("key", ["announce_s", "repeat_s", "settle_s"])
def test_validate_the_numbers_of_mnvm_health(beacons, key):
    assert beacons[0]["mnvm_health.validate"]([*OK, {key: 2}])[0]
    assert not beacons[0]["mnvm_health.validate"]([*OK, {key: -1}])[0]
    assert not beacons[0]["mnvm_health.validate"]([*OK, {key: "2"}])[0]


def test_a_healthy_lease_is_no_event(beacons, world):
    world.hold("node1")
    assert [tick(beacons) for _ in range(3)] == [{}] * 3


def test_expiring_then_expired_with_attempts_then_held(beacons, world):
    world.hold("node1")
    assert tick(beacons) == {}
    world.age(3)
    assert tick(beacons) == {}
    world.age(6)
    (event,) = tick(beacons).values()
    assert (event["attempt"], event["epoch"], event["holder"], event["node"]) == (0, 1, "node1", "node2")
    assert event["tag"] == "example/mnvm/lease_expiring"
    assert tick(beacons) == {}
    world.age(9)
    assert tick(beacons)["mnvm/lease_expired"]["attempt"] == 1
    assert tick(beacons) == {}
    world.age(14)
    assert tick(beacons)["mnvm/lease_expired"]["attempt"] == 2
    world.hold("node3")
    assert list(tick(beacons)) == ["mnvm/lease_held"]
    assert tick(beacons) == {}


def test_a_restarted_minion_gives_the_same_attempt(beacons, world):
    world.hold("node1")
    world.age(24)
    assert tick(beacons)["mnvm/lease_expired"]["attempt"] == 3


def test_a_lease_that_nobody_takes_is_told_of_less_and_less_often(beacons, world):
    world.hold("node1")
    told, expired_s = [], 8  # the default profile's lease_s
    for waited_s in range(400):
        world.age(expired_s + waited_s)
        told += [(waited_s, event["attempt"]) for event in tick(beacons).values() if "lease_expired" in event["tag"]]
    assert told == [(0, 1), (5, 2), (15, 3), (35, 4), (75, 5), (135, 6), (195, 7), (255, 8), (315, 9), (375, 10)]


def test_a_free_lease_that_was_taken_and_given_back_between_two_looks_is_told_of_anew(beacons, world):
    often = [{"settle_s": 0, "repeat_s": 1}]
    world.hold("node1")
    world.release()
    assert tick(beacons, config=often)["mnvm/lease_released"]["attempt"] == 1
    time.sleep(1.1)
    world.hold("node3")
    world.release()
    assert tick(beacons, config=often)["mnvm/lease_released"]["attempt"] == 1


def test_a_renewal_after_the_announcement_ends_it_and_the_next_loss_is_news(beacons, world):
    world.hold("node1")
    world.age(6)
    assert "mnvm/lease_expiring" in tick(beacons)
    world.renew()
    assert tick(beacons) == {}
    world.age(6)
    assert "mnvm/lease_expiring" in tick(beacons)


def test_announce_s_zero_announces_nothing(beacons, world):
    world.hold("node1")
    world.age(6)
    assert tick(beacons, config=[{"announce_s": 0}]) == {}


def test_the_holder_does_not_report_its_own_lease(beacons, world):
    world.hold("node2")
    tick(beacons)
    world.age(9)
    assert tick(beacons) == {}


def test_a_node_that_does_not_see_consul_reports_no_lease(beacons, world):
    world.hold("node1")
    world.age(9)
    world.guards["node2"].consul_reachable = False
    assert tick(beacons) == {}
    world.guards["node2"].consul_reachable = True
    assert "mnvm/lease_expired" in tick(beacons)


def test_a_free_lease_is_reported_when_wanted_and_settled(beacons, world):
    world.desired = "stopped"
    assert tick(beacons, config=[{"settle_s": 0}]) == {}
    world.desired = "started"
    assert tick(beacons, config=[{"settle_s": 60}]) == {}
    assert tick(beacons, config=[{"settle_s": 0}])["mnvm/lease_released"]["attempt"] == 1
    assert tick(beacons, config=[{"settle_s": 0}]) == {}


def test_the_vm_on_this_node(beacons, world):
    world.hold("node2")
    guard = world.guards["node2"]
    tick(beacons)
    for state in ("running", "paused", "running", "off"):
        guard.vm = state
        assert list(tick(beacons)) == [f"mnvm/vm_{state}"]
    guard.vm, guard.paused = "paused", {"why": "its disk has no space left"}
    assert tick(beacons)["mnvm/vm_paused"]["text"] == "its disk has no space left"
    guard.vm, guard.paused = "off", None
    tick(beacons)
    guard.starts_failed = 1
    assert list(tick(beacons)) == ["mnvm/vm_failed"]
    guard.last_fence = {"at_s": 5.0, "reason": "no renewal was confirmed for 5 s"}
    assert tick(beacons)["mnvm/fenced"]["text"] == "no renewal was confirmed for 5 s"
    assert tick(beacons) == {}


def test_a_vm_that_runs_without_its_watchdog_is_told_of_once(beacons, world):
    world.hold("node2")
    guard = world.guards["node2"]
    tick(beacons)
    guard.watchdog = {"mode": "automatic", "armed": False, "failing": True, "why": "it does not work"}
    assert tick(beacons) == {}, "there is no VM that it could cover"
    guard.vm = "running"
    assert set(events := tick(beacons)) == {"mnvm/vm_unprotected", "mnvm/vm_running"}
    assert events["mnvm/vm_unprotected"]["text"] == "it does not work"
    assert tick(beacons) == {}
    guard.watchdog = {**guard.watchdog, "armed": True, "failing": False, "why": ""}
    assert list(tick(beacons)) == ["mnvm/vm_protected"]
    guard.watchdog["failing"], guard.vm = True, "off"
    assert list(tick(beacons)) == ["mnvm/vm_off"]


def test_a_guest_that_hangs_is_told_of_with_its_process_again_and_again(beacons, world):
    world.hold("node2")
    guard, often = world.guards["node2"], [{"repeat_s": 1}]
    tick(beacons)
    guard.health = {"hung": True, "why": "port 80: refused"}
    (event,) = tick(beacons, config=often).values()
    assert (event["tag"], event["attempt"], event["vm_pid"]) == ("example/mnvm/vm_hung", 1, 123)
    assert event["text"] == "port 80: refused"
    assert tick(beacons, config=often) == {}
    time.sleep(1.1)
    assert tick(beacons, config=often)["mnvm/vm_hung"]["attempt"] == 2
    guard.health = {"hung": False, "why": ""}
    assert tick(beacons, config=often) == {}
    guard.health = {"hung": True, "why": ""}
    assert tick(beacons, config=often)["mnvm/vm_hung"]["attempt"] == 1


def test_a_guest_that_hangs_and_is_only_to_be_told_of_is_told_of_less_often(beacons, world):
    world.hold("node2")
    guard, often = world.guards["node2"], [{"repeat_s": 1}]
    tick(beacons)
    guard.health = {"hung": True, "why": "", "on_hung": "report"}
    assert list(tick(beacons, config=often)) == ["mnvm/vm_hung"]
    time.sleep(1.1)
    assert tick(beacons, config=often) == {}


def test_an_unreachable_guard_is_said_once_and_its_return(beacons):
    tick(beacons)
    beacons[1]["down"] = "the guard's socket is not there"
    assert tick(beacons)["guard_unreachable"]["text"] == "the guard's socket is not there"
    assert tick(beacons) == {}
    beacons[1]["down"] = ""
    assert list(tick(beacons)) == ["guard_back"]


def test_peers_lost_back_and_unknown(beacons, world):
    guard = world.guards["node2"]
    guard.peers = {"node1": {"alive": True}, "node3": {"alive": True}}
    assert tick(beacons, "node_liveness") == {}
    guard.peers["node1"]["alive"] = False
    assert list(tick(beacons, "node_liveness")) == ["node1/lost"]
    assert tick(beacons, "node_liveness") == {}
    guard.peers["node3"]["alive"] = None
    assert list(tick(beacons, "node_liveness")) == ["node3/unknown"]
    guard.peers["node1"]["alive"] = True
    assert list(tick(beacons, "node_liveness")) == ["node1/back"]
    beacons[1]["down"] = "gone"
    assert list(tick(beacons, "node_liveness")) == ["node1/unknown"]
    assert tick(beacons, "node_liveness") == {}


def test_own_checks(beacons, world):
    guard = world.guards["node2"]
    assert tick(beacons, "node_liveness") == {}
    guard.checks = {"storage": {"ok": False, "why": "the storage does not answer"}}
    assert tick(beacons, "node_liveness")["node2/storage_lost"]["text"] == "the storage does not answer"
    guard.checks = {"storage": {"ok": True}}
    assert list(tick(beacons, "node_liveness")) == ["node2/storage_back"]
    guard.vm_checks = {"image": {"ok": False, "why": "no image"}}
    event = tick(beacons, "node_liveness")["node2/mnvm/image_lost"]
    assert (event["vm"], event["text"]) == ("mnvm", "no image")
    guard.vm_checks = {"image": {"ok": True, "why": ""}}
    assert list(tick(beacons, "node_liveness")) == ["node2/mnvm/image_back"]


def test_a_network_is_degraded_lost_and_back(beacons, world):
    guard = world.guards["node2"]

    def told(ok, why=""):
        guard.network_checks = {"management": {"ok": ok, "why": why}}
        return {tag: event["text"] for tag, event in tick(beacons, "node_liveness").items()}

    assert told(True) == {}
    assert told(True, "eth1 of bond1 passes no frames") == {
        "node2/management_degraded": "eth1 of bond1 passes no frames"
    }
    assert told(True, "eth1 of bond1 passes no frames") == {}
    assert told(False, "nobody answers") == {"node2/management_lost": "nobody answers"}
    assert told(True) == {"node2/management_back": "management is right again"}
