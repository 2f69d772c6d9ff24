"""A server of Consul whose data are lost: until it votes again, the status says how near the loss of the quorum is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab.settings import LabError
from tests.support.scene import Scene, eventually

DATA = "/var/lib/mnha/consul"
VOTE_S = 60.0
TOLD_S = 8.0
"""Consul's autopilot looks at its servers every two seconds, and lets a new one vote after ten."""
APPLY_S = 180.0


def wipe(scene: Scene, node: str) -> None:
    """As when the node's disk was replaced."""
    scene.cluster.run(node, ["systemctl", "stop", "consul"], check=True)
    scene.cluster.run(node, ["sh", "-c", f"rm -rf {DATA}/*"], check=True)
    scene.witness.mark("Consul's data are wiped", node)


def margin(scene: Scene) -> dict[str, object]:
    _, status, _ = scene.salt_run(scene.holder, "status")
    return dict(status.get("consul") or {})


def warned(scene: Scene) -> tuple[int, str] | None:
    """The exit code of the status and what it warns of; None: it does not."""
    code, status, _ = scene.salt_run(scene.holder, "status")
    told = [text for text in status["warnings"] if text.startswith("Consul: of 3 servers 2 vote and are well")]
    return (code, told[0]) if told else None


@pytest.fixture
def voting(scene: Scene) -> Iterator[Scene]:
    """All servers vote in the end."""
    eventually(lambda: margin(scene).get("may_fail") == 1, VOTE_S, "all servers vote")
    yield scene
    for node in scene.others:
        scene.cluster.run(node, ["systemctl", "start", "consul"])
    eventually(lambda: margin(scene).get("may_fail") == 1, VOTE_S, "all servers vote")


@pytest.mark.nightly
def test_a_wiped_server_is_told_until_it_votes(voting: Scene, tell: Callable[[str], None]) -> None:
    scene, node = voting, voting.others[0]
    wipe(scene, node)
    scene.cluster.run(node, ["systemctl", "start", "consul"], check=True)
    began_s = scene.cluster.boottime()
    code, warning = eventually(lambda: warned(scene), TOLD_S, "the status tells that it does not vote")
    assert code == 1
    assert "no other may fail" in warning
    eventually(lambda: margin(scene).get("may_fail") == 1, VOTE_S, "it votes")
    tell(f"a wiped server of Consul: told; it voted within {scene.cluster.boottime() - began_s:.1f} s")
    scene.await_renewals()


@pytest.mark.nightly
def test_the_states_on_one_wiped_server_after_the_other_never_leave_one_voter(
    voting: Scene, tell: Callable[[str], None]
) -> None:
    """The second one is applied at once when the first run has ended, and must find all others voting."""
    scene = voting
    pid = scene.qemu_pid(scene.holder)
    for node in scene.others:
        wipe(scene, node)
        began_s = scene.cluster.boottime()
        words = ["salt-call", "--retcode-passthrough", "state.apply", "states.consul"]
        done = scene.cluster.run(node, words, timeout_s=APPLY_S)
        if done.returncode != 0:
            raise LabError(done.stdout + done.stderr)
        found = margin(scene)
        assert (found["may_fail"], found["voters"]) == (1, sorted(scene.cluster.names)), found
        tell(f"states.consul on the wiped {node} took {scene.cluster.boottime() - began_s:.1f} s: all vote then")
    scene.await_renewals()
    assert scene.qemu_pid(scene.holder) == pid
