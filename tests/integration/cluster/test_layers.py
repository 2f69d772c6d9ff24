"""Safety does not depend on policy, and what keeps it may itself be killed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lab import guards
from tests.support.leader import lead
from tests.support.scene import Scene, eventually

SALT = ("salt-minion", "salt-master")


@pytest.mark.nightly
def test_of_two_takeovers_ordered_at_once_one_wins_and_the_other_is_refused(scene: Scene) -> None:
    lead(scene, scene.others[0])  # else a renewal of the holder's may be committed after the election, and void both
    epoch = scene.status(scene.holder)["lease"]["epoch"]
    scene.witness.mark("power cut", scene.holder, at_ns=scene.cluster.poweroff(scene.holder))
    for name in scene.others:  # only these two orders shall count
        scene.cluster.run(name, ["systemctl", "kill", "--signal=STOP", *SALT])
    eventually(lambda: all(scene.status(name)["lease"]["overdue"] for name in scene.others), 20, "renewals are overdue")
    answers: dict[str, Any] = {}

    def order(name: str) -> None:
        answers[name] = guards.ask(scene.cluster, name, "takeover", timeout_s=40, epoch=epoch, wait_s=30, reason="test")

    threads = [threading.Thread(target=order, args=(name,)) for name in scene.others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in scene.others:
        scene.cluster.run(name, ["systemctl", "kill", "--signal=CONT", *SALT])
    won = [name for name, answer in answers.items() if answer["ok"]]
    lost = [name for name, answer in answers.items() if not answer["ok"]]
    assert len(won) == 1, answers
    assert answers[lost[0]]["error"]["kind"] == "refused", answers
    assert won[0] in answers[lost[0]]["error"]["message"]
    assert guards.runners(scene.cluster) == won
