"""Wrong names, missing things, closed doors: each gets a message that names the thing and the remedy, and a non-zero
exit code; nothing is half done."""

from __future__ import annotations

import json
import time

from lab import guards
from lab.cluster import Cluster
from lab.provision import CLUSTER_NAME
from tests.support.scene import Scene, eventually

IMAGE = "/srv/shared/mngt/mnvm.img"
LOCKER = "somebody-else"
CHECK = ("env", "PYTHONPATH=/usr/lib/mnha", "/opt/mnha/bin/python", "-m", "mnha.daemon", "--check")


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
    code, _, printed = scene.salt_run(scene.holder, "failover", CLUSTER_NAME, "mnvm", "1", "node9")
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


def test_the_check_names_a_missing_image_and_where_it_should_be(scene: Scene) -> None:
    node = scene.others[0]
    config = json.loads(scene.cluster.file(node, "/etc/mnha/guard.json").read_text())
    config["vms"][0]["image"] = "/srv/shared/mngt/not-there.img"
    scene.cluster.write_file(node, "/root/guard.json", json.dumps(config))
    done = scene.cluster.run(node, [*CHECK, "--config", "/root/guard.json"])
    assert done.returncode == 1
    assert "/srv/shared/mngt/not-there.img is missing" in done.stdout


def test_the_check_names_a_missing_bridge(scene: Scene) -> None:
    node = scene.others[0]
    config = json.loads(scene.cluster.file(node, "/etc/mnha/guard.json").read_text())
    config["vms"][0]["bridges"] = ["br_nowhere"]
    scene.cluster.write_file(node, "/root/guard.json", json.dumps(config))
    done = scene.cluster.run(node, [*CHECK, "--config", "/root/guard.json"])
    assert done.returncode == 1
    assert "br_nowhere" in done.stdout


def test_the_check_tells_a_wrong_token_by_the_file_it_stands_in(scene: Scene) -> None:
    node = scene.others[0]
    config = json.loads(scene.cluster.file(node, "/etc/mnha/guard.json").read_text())
    config["consul"]["token_file"] = "/root/wrong-token"
    scene.cluster.write_file(node, "/root/wrong-token", "11111111-2222-3333-4444-555555555555\n", mode=0o600)
    scene.cluster.write_file(node, "/root/guard.json", json.dumps(config))
    done = scene.cluster.run(node, [*CHECK, "--config", "/root/guard.json"])
    assert done.returncode == 1
    assert "/root/wrong-token" in done.stdout


def test_unsafe_timings_are_refused_with_the_inequality_and_its_numbers(scene: Scene) -> None:
    node = scene.others[0]
    config = json.loads(scene.cluster.file(node, "/etc/mnha/guard.json").read_text())
    config["timings"]["lease_s"] = 6.0
    scene.cluster.write_file(node, "/root/guard.json", json.dumps(config))
    done = scene.cluster.run(node, [*CHECK, "--config", "/root/guard.json"])
    assert done.returncode == 1
    assert "lease_s > (deadline_s + kill_s)" in done.stdout
    assert "6 > (5 + 2)" in done.stdout


def test_all_is_well_says_the_check_on_a_healthy_node(scene: Scene) -> None:
    done = scene.cluster.run(scene.others[0], [*CHECK, "--config", "/etc/mnha/guard.json"])
    assert done.returncode == 0, done.stdout + done.stderr


def test_consul_out_of_reach_is_said_by_the_guard_and_by_the_modules(scene: Scene) -> None:
    node = scene.others[0]
    scene.cluster.cut(node, "storage")
    scene.cluster.run(node, ["systemctl", "stop", "consul"], check=True)
    consul = eventually(
        lambda: next(
            iter([c for c in [guards.ask(scene.cluster, node, "status")["result"]["consul"]] if c["error"]]), {}
        ),
        20,
        "the guard says that it does not reach Consul",
    )
    assert not consul["reachable"]
    assert "Consul at" in consul["error"]
    code, printed = salt_call(scene.cluster, node, "consul_ha.kv_get", "config")
    assert code != 0
    assert "no Consul server" in printed


def test_a_locked_image_gives_the_lease_back_and_the_message_tells_it(scene: Scene) -> None:
    """Somebody else has the image open: the start fails, nothing is forced, the lease goes back."""
    cluster = scene.cluster
    stop, _, printed = scene.salt_run(scene.holder, "stop", timeout_s=120)
    assert stop == 0, printed
    drive = f"file={IMAGE},if=virtio,format=raw"
    words = [
        "qemu-system-x86_64",
        "-name",
        LOCKER,
        "-accel",
        "tcg",
        "-m",
        "64",
        "-display",
        "none",
        "-S",
        "-drive",
        drive,
    ]
    locker = cluster.popen(scene.others[0], words)
    try:
        eventually(
            lambda: cluster.run(scene.others[0], ["pgrep", "-f", LOCKER]).stdout, 20, "the image is open elsewhere"
        )
        time.sleep(2)  # QEMU locks it soon after its start
        epoch = scene.status(scene.holder)["lease"]["epoch"]
        cluster.run(scene.holder, ["salt-call", "mnvm.wish", "started"], check=True)
        answer = guards.ask(cluster, scene.holder, "takeover", epoch=epoch, wait_s=30, timeout_s=40)
        assert not answer["ok"], answer
        assert "lock" in answer["error"]["message"], answer
        assert guards.runners(cluster) == []
    finally:
        locker.kill()
        for name in cluster.names:
            cluster.run(name, ["pkill", "-KILL", "-f", LOCKER])
    eventually(lambda: len(guards.runners(cluster)) == 1, 90, "the MNVM runs again once the image is free")
