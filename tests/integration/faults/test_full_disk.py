"""The disk of the holder's Consul server is full, and that server leads: it can't write its log, and steps down."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab import consul, guards
from mnha.core.timing import PROFILES
from tests.support.leader import lead
from tests.support.renewals import line
from tests.support.scene import Scene, eventually

TIMINGS = PROFILES["default"]

pytestmark = pytest.mark.nightly  # who leads after each election is a matter of luck, and may cost minutes

DATA = "/var/lib/mnha/consul"
KEPT = "/var/lib/mnha/consul-before"
ROOM_KIB = 48 * 1024
"""Above the 16 MiB below which a guard calls a disk full: the test fills it."""
LASTS_S = 30.0
AGAIN_S = 60.0
RECORDS, MOST_BATCHES = 8, 40
"""3.2 MB a batch, 128 MB at most."""
WRITE = f"""
import http.client, json, pathlib, ssl, sys, urllib.request
trust = ssl.create_default_context(cafile="/etc/mnha/tls/ca.pem")
token = pathlib.Path("/etc/mnha/tokens/policy").read_text().strip()
done = 0
for number in range({RECORDS}):
    url = f"https://127.0.0.1:8501/v1/kv/mnha/lab/actions/ballast-{{number}}"
    record = {{"by": "test", "done": True, "ballast": "x" * 400_000}} if sys.argv[1] == "PUT" else {{}}
    body = json.dumps(record).encode()
    asked = urllib.request.Request(url, data=body, method=sys.argv[1], headers={{"X-Consul-Token": token}})
    try:
        urllib.request.urlopen(asked, timeout=5, context=trust).read()
        done += 1
    except (OSError, http.client.HTTPException):
        pass
print(done)
"""
"""Some large records, the same ones each time; Consul's log has all that was ever written of them."""


def shell(scene: Scene, text: str, *, check: bool = True) -> None:
    """A line of shell on the holder."""
    scene.cluster.run(scene.holder, ["sh", "-ec", text], check=check, timeout_s=60)


def records(scene: Scene, method: str) -> int:
    """Write or delete the large records, through the server of a node with a healthy disk; returns how many it did."""
    return int(scene.cluster.run(scene.others[0], ["python3", "-c", WRITE, method], timeout_s=120, check=True).stdout)


def write_until_another_leads(scene: Scene) -> int:
    """Write records until the holder's server does not lead any more; returns how many were written.

    A server goes on in the room that its log has already, and may win elections with it: how much that is depends on
    all that was written before.
    """
    written = 0
    for _ in range(MOST_BATCHES):
        written += records(scene, "PUT")
        if consul.leader(scene.cluster, but=scene.holder) in scene.others:
            return written
    raise AssertionError(f"{scene.holder} still leads Consul with a full disk and after {written} large records")


@pytest.fixture
def small_disk(scene: Scene) -> Iterator[None]:
    """The data of the holder's Consul server lie on a small disk of their own."""
    shell(
        scene,
        f"systemctl stop consul; mv {DATA} {KEPT}; mkdir {DATA}; used=$(du -sk --apparent-size {KEPT} | cut -f1);"
        f" mount -t tmpfs -o size=$((used + {ROOM_KIB}))k consul {DATA};"
        f" cp -a {KEPT}/. {DATA}; chown --reference={KEPT} {DATA}; chmod --reference={KEPT} {DATA};"
        " systemctl start consul",
    )
    yield
    records(scene, "DELETE")
    shell(
        scene,
        f"rm -f {DATA}/ballast; systemctl stop consul; rm -rf {KEPT}/*; cp -a {DATA}/. {KEPT};"
        f" umount {DATA}; rmdir {DATA}; mv {KEPT} {DATA}; systemctl start consul",
    )


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_under_consuls_leader_costs_the_vm_at_most_a_restart_and_is_told(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    lead(scene, scene.holder)
    pid = scene.qemu_pid(scene.holder)
    full_s = scene.witness.mark("disk full", scene.holder)
    shell(scene, f"dd if=/dev/zero of={DATA}/ballast bs=1M status=none", check=False)
    why = eventually(
        lambda: scene.guard(scene.holder)["checks"]["disk"]["why"],
        10,
        "the guard of the node tells that its disk is full",
    )
    assert f"{DATA} is full" in why
    written = write_until_another_leads(scene)
    eventually(lambda: scene.cluster.boottime() > full_s + LASTS_S, LASTS_S + 10, "some time")
    (runner,) = eventually(lambda: guards.runners(scene.cluster), AGAIN_S, "the VM runs")
    _, _, printed = scene.salt_run(scene.others[0], "status")
    assert f"{DATA} is full" in printed
    untouched = runner == scene.holder and scene.qemu_pid(runner) == pid
    figures = line(scene.status(scene.holder)["renewals"]) if untouched else f"it runs on {runner}"
    tell(
        f"disk of Consul's leader full for {scene.cluster.boottime() - full_s:.0f} s, {written} large records written "
        f"all the same: VM {'untouched' if untouched else 'restarted'}; {figures}"
    )
