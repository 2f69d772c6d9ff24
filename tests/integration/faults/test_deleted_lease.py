"""Somebody deletes the lease by hand under a running VM; applying the states creates it again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mnha.core.timing import LONGEST_S, PROFILES
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]
MASTERLESS_S = 2.0
"""After so long nobody's order is waited for any more: the default of `masterless_takeover_after_s`."""
START_S = 20.0
DELETE = """
import pathlib, ssl, urllib.request
trust = ssl.create_default_context(cafile="/etc/mnha/tls/ca.pem")
token = pathlib.Path("/etc/mnha/tokens/guard").read_text().strip()
url = "https://127.0.0.1:8501/v1/kv/mnha/lab/vms/mnvm/lease"
asked = urllib.request.Request(url, method="DELETE", headers={"X-Consul-Token": token})
assert urllib.request.urlopen(asked, timeout=5, context=trust).read() == b"true"
"""
CREATE = ("salt-call", "--retcode-passthrough", "state.single", "guard.lease_created", "mnvm")


@pytest.mark.nightly
def test_a_lease_that_somebody_deleted_is_created_for_the_longest_time(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    node, last = scene.others[0], scene.status(scene.holder)["lease"]["epoch"]
    scene.cluster.run(node, ["python3", "-c", DELETE], check=True)
    deleted_s = scene.witness.mark("the lease is deleted", node)
    try:
        ended = scene.witness.wait_for("QEMU ended", TIMINGS.deadline_s + TIMINGS.kill_s)
        eventually(
            lambda: scene.status(scene.holder)["state"] == "uninitialised", 10, "its guard sees that there is none"
        )
    finally:
        created_s = scene.witness.mark("the lease is created again", node)
        done = scene.cluster.run(node, CREATE, timeout_s=90)
    assert done.returncode == 0, done.stdout
    eventually(lambda: scene.status(node)["lease"]["reason"] == "created again", 10, "the guards see the new lease")
    assert scene.status(node)["lease"]["epoch"] > last
    began = scene.witness.wait_for("QEMU began", LONGEST_S + MASTERLESS_S + START_S)
    assert began.at_s - created_s >= LONGEST_S
    tell(
        f"lease deleted: VM dead after {ended.at_s - deleted_s:.2f} s; created again, it was taken, and QEMU began, "
        f"{began.at_s - created_s:.1f} s later"
    )
