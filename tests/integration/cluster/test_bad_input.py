"""Wrong names, missing things, closed doors: each gets a message that names the thing and the remedy, and a non-zero
exit code; nothing is half done."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab import guards, health
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.witness import Witness
from tests.support.scene import Scene, eventually

IMAGE = "/srv/shared/mngt/mnvm.img"
LOCKER = "somebody-else"
GUEST_S = 60.0
NO_BRIDGE = "br_nowhere"
GUARD_FILE, WRONG_FILE = "/etc/mnha/guard.json", "/root/guard.json"
LEASE_KEYS = ("holder", "epoch", "phase", "index")
CHECK = ("env", "PYTHONPATH=/usr/lib/mnha", "/opt/mnha/bin/python", "-m", "mnha.daemon", "--check")

CheckWith = Callable[[Callable[[dict[str, Any]], object]], tuple[int, str]]


@pytest.fixture
def check_with(scene: Scene) -> Iterator[CheckWith]:
    """`mnha-guard --check` on a candidate, with a changed copy of its configuration: exit code, all it printed."""
    node = scene.others[0]

    def check(change: Callable[[dict[str, Any]], object]) -> tuple[int, str]:
        config = json.loads(scene.cluster.file(node, GUARD_FILE).read_text())
        change(config)
        scene.cluster.write_file(node, WRONG_FILE, json.dumps(config), mode=0o600)
        done = scene.cluster.run(node, [*CHECK, "--config", WRONG_FILE])
        return done.returncode, done.stdout + done.stderr

    yield check
    scene.cluster.run(node, ["rm", "-f", WRONG_FILE])


def salt_call(cluster: Cluster, node: str, *words: str) -> tuple[int, str]:
    """`salt-call` on a node: exit code, everything it printed."""
    done = cluster.run(node, ["salt-call", "--retcode-passthrough", *words], timeout_s=60)
    return done.returncode, done.stdout + done.stderr


def test_an_unknown_cluster_is_named_with_what_there_is(scene: Scene) -> None:
    code, _, printed = scene.salt_run(scene.holder, "status", "cluster=nowhere")
    assert code != 0
    assert "nowhere" in printed
    assert CLUSTER_NAME in printed


def test_an_unknown_reporter_is_refused_with_the_names_of_the_nodes(scene: Scene) -> None:
    code, _, printed = scene.salt_run(scene.holder, "mnha_policy.failover", CLUSTER_NAME, "mnvm", "1", "node9")
    assert code != 0
    assert "node9" in printed
    assert scene.holder in printed


def test_an_unknown_vm_is_named_with_those_under_guard(scene: Scene) -> None:
    answer = guards.ask(scene.cluster, scene.holder, "takeover", vm="nothing", epoch=1)
    assert answer["error"]["kind"] == "invalid"
    assert "'nothing'" in answer["error"]["message"]
    assert "mnvm" in answer["error"]["message"]


def test_a_takeover_of_a_healthy_lease_is_refused_with_its_holder(scene: Scene) -> None:
    lease = scene.status(scene.holder)["lease"]
    pid = scene.qemu_pid(scene.holder)
    code, printed = salt_call(scene.cluster, scene.others[0], "guard.takeover", str(lease["epoch"]), "wait_s=5")
    assert code != 0
    assert f"{scene.holder} holds the lease" in printed
    assert scene.qemu_pid(scene.holder) == pid


def test_without_its_socket_the_guard_is_named_with_the_service_to_look_at(scene: Scene) -> None:
    node = scene.others[0]
    scene.cluster.run(node, ["systemctl", "stop", "mnha-guard"], check=True)
    code, printed = salt_call(scene.cluster, node, "guard.status")
    assert code != 0
    assert "/run/mnha/guard.sock" in printed
    assert "mnha-guard" in printed


def test_the_check_names_a_missing_image_and_where_it_should_be(check_with: CheckWith) -> None:
    code, printed = check_with(lambda config: config["vms"][0].update(image="/srv/shared/mngt/not-there.img"))
    assert code == 1
    assert "/srv/shared/mngt/not-there.img is missing" in printed


def test_the_check_names_a_missing_bridge(check_with: CheckWith) -> None:
    code, printed = check_with(lambda config: config["vms"][0].update(bridges=[NO_BRIDGE]))
    assert code == 1
    assert NO_BRIDGE in printed


def test_the_check_tells_a_wrong_token_by_the_file_it_stands_in(scene: Scene, check_with: CheckWith) -> None:
    scene.cluster.write_file(scene.others[0], "/root/wrong-token", f"{uuid.uuid4()}\n", mode=0o600)
    code, printed = check_with(lambda config: config["consul"].update(token_file="/root/wrong-token"))
    assert code == 1
    assert "/root/wrong-token" in printed


def test_unsafe_timings_are_refused_with_the_inequality_and_its_numbers(check_with: CheckWith) -> None:
    code, printed = check_with(lambda config: config["timings"].update(lease_s=6.0))
    assert code == 1
    assert "lease_s > (deadline_s + kill_s)" in printed
    assert "6 > (5 + 2)" in printed


def test_all_is_well_says_the_check_on_a_healthy_node(check_with: CheckWith) -> None:
    code, printed = check_with(lambda config: None)
    assert code == 0, printed


def test_consul_out_of_reach_is_said_by_the_guard_and_by_the_modules(scene: Scene) -> None:
    node = scene.others[0]
    scene.cluster.cut(node, "storage")
    scene.cluster.run(node, ["systemctl", "stop", "consul"], check=True)
    eventually(lambda: not scene.guard(node)["consul"]["reachable"], 20, "the guard says that it does not reach Consul")
    assert "Consul at" in scene.guard(node)["consul"]["error"]
    code, printed = salt_call(scene.cluster, node, "consul_ha.kv_get", "config")
    assert code != 0
    assert "no Consul server" in printed


@pytest.fixture(scope="module")
def stopped(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One for the last tests of this module: the VM is off and desired stopped when each begins, and when it ends."""
    health.wait_healthy(cluster, links=True)
    with Witness(cluster) as witness:
        scene = Scene(cluster, witness, tmp_path_factory.mktemp("stopped"))
        # A guest that still boots does not hear the order, and is asked again only after a while.
        eventually(lambda: scene.status(scene.holder)["health"]["answered"], GUEST_S, "the guest can shut down")
        try:
            code, told, printed = scene.salt_run(scene.holder, "stop", timeout_s=120)
            assert code == 0, printed
            assert "the guest shut down by itself after " in told["comment"], printed
            assert told["comment"].endswith(" s, asked through its agent"), printed
            yield scene
        finally:
            desire(scene, "started")
        health.heal(cluster)
    scene.prove_no_overlap()


def desire(scene: Scene, run: str) -> None:
    """Write the desired state, order nothing, and wait until every guard knows it."""
    cluster = scene.cluster
    cluster.run(scene.holder, ["salt-call", "mnvm.set_desired", run], check=True)
    eventually(lambda: {scene.status(name)["desired"] for name in cluster.names} == {run}, 10, f"desired: {run}")


def test_without_the_image_every_takeover_is_refused_by_its_name_and_nothing_is_half_done(stopped: Scene) -> None:
    scene, cluster, away = stopped, stopped.cluster, f"{IMAGE}.away"
    before = scene.status(scene.holder)["lease"]
    cluster.run(scene.holder, ["mv", IMAGE, away], check=True)
    try:
        for node in cluster.names:
            eventually(
                lambda node=node: not scene.status(node)["checks"]["image"]["ok"], 20, f"{node} misses the image"
            )
        code, told, printed = scene.salt_run(scene.holder, "start", timeout_s=120)
        assert (code, told["done"], told["tried"]) == (1, False, {}), printed
        assert {node: f"{IMAGE} is missing" in why for node, why in told["rejected"].items()} == dict.fromkeys(
            cluster.names, True
        ), printed
        for node in cluster.names:
            answer = guards.ask(cluster, node, "takeover", epoch=before["epoch"], wait_s=5)
            assert answer["error"]["kind"] == "refused", answer
            assert f"{node} can't run the VM: the image {IMAGE} is missing" in answer["error"]["message"]
        nothing_done(scene, before)
        desire(scene, "stopped")
    finally:
        cluster.run(scene.holder, ["mv", away, IMAGE], check=True)
    for node in cluster.names:
        eventually(lambda node=node: scene.status(node)["checks"]["image"]["ok"], 20, f"{node} sees the image again")


def test_a_locked_image_gives_the_lease_back_and_the_message_tells_it(stopped: Scene) -> None:
    """Somebody else has the image open: the start fails, nothing is forced, the lease goes back."""
    scene, cluster = stopped, stopped.cluster
    drive = f"file={IMAGE},if=virtio,format=raw"
    options = ("-name", LOCKER, "-accel", "tcg", "-m", "64", "-display", "none", "-S", "-drive", drive)
    locker = cluster.popen(scene.others[0], ["qemu-system-x86_64", *options])
    try:
        eventually(
            lambda: cluster.run(scene.others[0], ["pgrep", "-f", LOCKER]).stdout, 20, "the image is open elsewhere"
        )
        question = ["qemu-img", "info", IMAGE]
        eventually(lambda: cluster.run(scene.others[0], question).returncode, 20, "QEMU has locked it")
        epoch = scene.status(scene.holder)["lease"]["epoch"]
        desire(scene, "started")
        answer = guards.ask(cluster, scene.holder, "takeover", epoch=epoch, wait_s=30, timeout_s=40)
        assert not answer["ok"], answer
        assert "lock" in answer["error"]["message"], answer
        assert guards.runners(cluster) == []
        desire(scene, "stopped")
    finally:
        locker.kill()
        for name in cluster.names:
            cluster.run(name, ["pkill", "-KILL", "-f", LOCKER])


def test_a_node_without_the_bridge_refuses_by_its_name_and_another_one_takes_over(stopped: Scene) -> None:
    """As when the pillar names a bridge that this node does not have. The last one: the VM runs at its end."""
    scene, cluster, node = stopped, stopped.cluster, stopped.others[0]
    text = cluster.file(node, GUARD_FILE).read_text()
    config = json.loads(text)
    config["vms"][0]["bridges"] = [NO_BRIDGE]
    before = scene.status(scene.holder)["lease"]
    try:
        reload_with(cluster, node, json.dumps(config))
        eventually(lambda: NO_BRIDGE in scene.status(node)["unable"], 30, f"{node} misses the bridge")
        desire(scene, "started")
        answer = guards.ask(cluster, node, "takeover", epoch=before["epoch"], wait_s=5)
        assert answer["error"]["kind"] == "refused", answer
        assert f"{node} can't run the VM: no bridge {NO_BRIDGE} on this node" in answer["error"]["message"]
        nothing_done(scene, before, node)
        code, _, printed = scene.salt_run(scene.holder, "start", timeout_s=120)
        assert code == 0, printed
        assert guards.wait_until_running(cluster) != node
    finally:
        reload_with(cluster, node, text)


def nothing_done(scene: Scene, before: dict[str, Any], *nodes: str) -> None:
    """No QEMU, and no lease, of these nodes (all); with all of them the lease is as it was."""
    for node in nodes or scene.cluster.names:
        assert scene.status(node)["vm"] == "off"
        assert scene.cluster.run(node, ["pgrep", "-f", "qemu-system.*guest=mnvm"]).stdout == ""
    if not nodes:
        after = scene.status(scene.holder)["lease"]
        assert {key: after[key] for key in LEASE_KEYS} == {key: before[key] for key in LEASE_KEYS}


def reload_with(cluster: Cluster, node: str, config: str) -> None:
    """Let a guard go on with another configuration."""
    cluster.write_file(node, GUARD_FILE, config, mode=0o600)
    cluster.run(node, ["systemctl", "reload", "mnha-guard"], check=True)
