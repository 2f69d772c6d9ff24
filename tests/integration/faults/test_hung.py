"""What looks like a guest that hangs, and does not: a slow reboot, an agent that is gone, a libvirtd that is away. And
one that does, where that is only to be told.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.scene import Scene, eventually

GUEST_S = 90.0
REBOOT_S = 60.0
"""A guest that is emulated boots for 10 to 30 s; so long nothing of it answers."""
SILENT_S = 45.0
"""More than three rounds of questions, each with its time limit."""
HUNG_S = 75.0
AWAY_S = 20.0
AGENT_COMMAND_S = 10
nightly = pytest.mark.nightly


def answers(scene: Scene) -> bool:
    """Whether the guest has answered its guard, and does."""
    health = scene.status(scene.holder)["health"]
    return bool(health["answered"]) and health["failures"] == 0


def has_passed(scene: Scene, since_s: float, seconds: float) -> None:
    """Wait until so much time has passed."""
    eventually(lambda: scene.cluster.boottime() > since_s + seconds, seconds + 10, f"{seconds:g} s")


def in_guest(scene: Scene, command: str) -> None:
    """Have the guest's agent run a command of its shell, and do not wait for it."""
    order = {"execute": "guest-exec", "arguments": {"path": "/bin/sh", "arg": ["-c", command]}}
    words = ["virsh", "qemu-agent-command", "mnvm", "--timeout", str(AGENT_COMMAND_S), json.dumps(order)]
    scene.cluster.run(scene.holder, words, check=True)


@nightly
def test_a_guest_that_reboots_slowly_is_left_alone(scene: Scene, tell: Callable[[str], None]) -> None:
    eventually(lambda: answers(scene), GUEST_S, "the guest has answered its guard")
    pid = scene.qemu_pid(scene.holder)
    in_guest(scene, "reboot")
    began_s = scene.witness.mark("the guest reboots", scene.holder)
    up = scene.witness.wait_for("guest up", GUEST_S, after_s=began_s)
    eventually(lambda: answers(scene), REBOOT_S, "its agent answers again")
    assert scene.qemu_pid(scene.holder) == pid, "the same process: it was not reset\n" + scene.witness.table()
    assert scene.witness.first("killed", began_s, scene.holder) is None
    tell(f"guest reboots, up after {up.at_s - began_s:.1f} s: left alone, same process")


@nightly
def test_a_guest_whose_agent_is_gone_is_told_of_and_left_alone(scene: Scene, tell: Callable[[str], None]) -> None:
    """It stops itself; the guest's init would start one that ends."""
    eventually(lambda: answers(scene), GUEST_S, "the guest has answered its guard")
    pid = scene.qemu_pid(scene.holder)
    in_guest(scene, "sleep 1; kill -STOP $PPID")  # not before it has answered
    gone_s = scene.witness.mark("agent stopped", scene.holder)
    has_passed(scene, gone_s, SILENT_S)
    health = scene.status(scene.holder)["health"]
    assert health["failures"] >= 3
    assert not health["hung"]
    assert health["why"].startswith("guest agent: ")
    assert scene.qemu_pid(scene.holder) == pid
    # The next test is to find a guest that answers.
    answer = scene.cluster.run(scene.holder, ["salt-call", "guard.reset", "reason=agent stopped"], timeout_s=90)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    scene.witness.wait_for("guest up", GUEST_S, after_s=gone_s)
    tell(f"agent silent for {SILENT_S:g} s and the guest alive: left alone, same process")


@nightly
def test_a_libvirtd_that_is_away_for_a_while_hangs_no_guest(scene: Scene, tell: Callable[[str], None]) -> None:
    eventually(lambda: answers(scene), GUEST_S, "the guest has answered its guard")
    pid = scene.qemu_pid(scene.holder)
    away_s = scene.send(scene.holder, "STOP", "libvirtd")
    has_passed(scene, away_s, AWAY_S)
    assert scene.status(scene.holder)["health"]["failures"] == 0
    scene.send(scene.holder, "CONT", "libvirtd")
    eventually(lambda: answers(scene), GUEST_S, "the guest answers")
    assert scene.qemu_pid(scene.holder) == pid
    assert scene.witness.first("killed", away_s, scene.holder) is None
    tell(f"libvirtd stopped for {AWAY_S:g} s: no failure counted, same process")


CONFIG = "/etc/mnha/guard.json"


@pytest.fixture
def report_only(scene: Scene) -> Iterator[None]:
    """The holder's guard is only to tell of a guest that hangs."""
    node = scene.holder
    kept = scene.cluster.run(node, ["cat", CONFIG], check=True).stdout
    config = json.loads(kept)
    for vm in config["vms"]:
        vm["health"]["on_hung"] = "report"

    def put(text: str) -> None:
        coded = base64.b64encode(text.encode()).decode()
        words = f"echo {coded} | base64 -d >{CONFIG} && systemctl reload mnha-guard"
        scene.cluster.run(node, ["sh", "-c", words], check=True, timeout_s=60)

    put(json.dumps(config))
    yield
    put(kept)


@nightly
@pytest.mark.usefixtures("report_only")
def test_a_vm_that_hangs_is_only_told_of_where_that_is_wanted(scene: Scene, tell: Callable[[str], None]) -> None:
    node = scene.holder
    # Not the guard before it, which has just been told to go: a guest that has never answered is not found hung.
    eventually(
        lambda: scene.status(node)["health"]["on_hung"] == "report", 10, "the guard with the other setting is there"
    )
    eventually(lambda: answers(scene), GUEST_S, "the guest has answered it")
    pid = scene.qemu_pid(node)
    scene.cluster.run(node, ["kill", "-STOP", str(pid)], check=True)
    stopped_s = scene.witness.mark("SIGSTOP to QEMU", node)
    try:
        eventually(lambda: scene.status(node)["health"]["hung"], HUNG_S, "it is found hung")
        hung_s = scene.cluster.boottime()
        code, data, printed = scene.salt_run(scene.others[0], "status")
        assert code == 1, printed
        assert any("the guest does not answer" in text for text in data["warnings"]), printed
        has_passed(scene, hung_s, 15.0)  # every master has had its chance
        assert scene.qemu_pid(node) == pid
        assert scene.witness.first("killed", stopped_s, node) is None
    finally:
        scene.cluster.run(node, ["kill", "-CONT", str(pid)], check=True)
    eventually(lambda: answers(scene), GUEST_S, "it goes on")
    tell(f"QEMU stands still, on_hung: report: told after {hung_s - stopped_s:.1f} s, left alone")
