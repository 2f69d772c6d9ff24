"""The old suite's command, typed on a node: its shapes, and that it answers without Salt and with every disk full."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from lab.cluster import Cluster
from lab.provision import MASTER, TREE
from mnha.master import build
from tests.support.scene import Scene

SALT = ("salt-master", "salt-minion")


def zsha(cluster: Cluster, node: str, *words: str, timeout_s: float = 60) -> tuple[int, str]:
    done = cluster.run(node, ["zsha", *words], timeout_s=timeout_s)
    return done.returncode, done.stdout + done.stderr


def test_it_tells_how_it_is_without_any_salt(scene: Scene, tell: Callable[[str], None]) -> None:
    cluster, node = scene.cluster, scene.others[0]
    address = {plan.name: plan.mgmt for plan in cluster.plans}
    for one in cluster.names:
        cluster.run(one, ["systemctl", "kill", "--signal=STOP", *SALT], check=True)
    try:
        began_s = time.monotonic()
        code, printed = zsha(cluster, node, "status")
        tell(f"zsha status with every Salt process stopped took {time.monotonic() - began_s:.2f} s")
        assert code == 0, printed
        lines = printed.splitlines()
        assert lines[:2] == [">>>MN-VM Running On", f"{address[scene.holder]} : running"]
        assert [f"{address[one]} {one}" for one in cluster.names] == lines[5:8], printed
        assert lines[-1] == "done."
        code, printed = zsha(cluster, node, "status-conf")
        assert code == 0
        shown = json.loads(printed.split(">>>Configuration\n")[1])
        assert shown["CPU"] == 1
        assert zsha(cluster, node, "export-config") == (0, "output config json file to /tmp/current.config.json\n")
        code, printed = zsha(cluster, node, "-v")
        told = dict(line.split(": ", 1) for line in printed.splitlines())
        found = json.loads(cluster.file(MASTER, f"{TREE}/salt/{build.FILE}").read_text())
        assert (code, told["Commit ID"]) == (0, found.get("commit", "not known"))
        assert (told["Build Date"], told["Branch Name"]) == tuple(found.get(n, "not known") for n in ("date", "branch"))
        assert told["Guard"] == told["App Version"]
        code, printed = zsha(cluster, node, "history")
        assert code == 0
        assert "mnvm: started:" in printed
        code, printed = zsha(cluster, node, "check-config", "/tmp/current.config.json")
        assert (code, printed) == (0, "config file check pass\n")
    finally:
        for one in cluster.names:
            cluster.run(one, ["systemctl", "kill", "--signal=CONT", *SALT], check=True)
    code, printed = zsha(cluster, node, "migrate", "10.9.9.9")
    assert code == 1
    assert "10.9.9.9 is no node of cluster" in printed


def test_it_migrates_by_an_address(scene: Scene) -> None:
    target = scene.others[0]
    address = next(plan.mgmt for plan in scene.cluster.plans if plan.name == target)
    code, printed = zsha(scene.cluster, scene.holder, "migrate", address, timeout_s=120)
    assert code == 0, printed
    assert target in printed
    scene.await_renewals(3, holder=target)
