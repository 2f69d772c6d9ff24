"""Records of the MNVM deleted by hand: the status says what that means and what to type, and that works."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from lab import guards
from mnha.core.timing import LONGEST_S
from tests.support.scene import Scene, eventually

DELETE = """
import pathlib, ssl, sys, urllib.request
trust = ssl.create_default_context(cafile="/etc/mnha/tls/ca.pem")
for key in sys.argv[1:]:
    who = "guard" if key == "lease" else "policy"
    token = pathlib.Path(f"/etc/mnha/tokens/{who}").read_text().strip()
    url = f"https://127.0.0.1:8501/v1/kv/mnha/lab/vms/mnvm/{key}"
    asked = urllib.request.Request(url, method="DELETE", headers={"X-Consul-Token": token})
    assert urllib.request.urlopen(asked, timeout=5, context=trust).read() == b"true"
"""
CREATE = ("salt-call", "--retcode-passthrough", "state.single", "guard.lease_created", "mnvm")
MASTERLESS_S = 20.0
START_S = 20.0


@pytest.fixture
def healed(scene: Scene) -> Iterator[Scene]:
    """What was deleted is there again, and the VM runs, whatever became of the test."""
    yield scene
    scene.cluster.run(scene.others[0], CREATE, timeout_s=90)
    if not guards.runners(scene.cluster):
        scene.salt_run(scene.others[0], "start", timeout_s=120)


def delete(scene: Scene, *keys: str) -> None:
    scene.cluster.run(scene.others[0], ["python3", "-c", DELETE, *keys], check=True)
    scene.witness.mark(f"{' and '.join(keys)} deleted", scene.others[0])


def test_a_deleted_desired_state_is_told_and_written_again_under_the_running_vm(healed: Scene) -> None:
    scene = healed
    pid = scene.qemu_pid(scene.holder)
    delete(scene, "desired")
    code, status, printed = scene.salt_run(scene.others[0], "status")
    assert code == 1, printed
    (warning,) = [text for text in status["warnings"] if text.startswith("mnvm")]
    assert "its desired state is missing in Consul" in warning
    done = scene.cluster.run(scene.others[0], CREATE, timeout_s=90)
    assert done.returncode == 0, done.stdout
    scene.await_renewals()
    assert scene.qemu_pid(scene.holder) == pid, "the states have not stopped it"
    code, status, printed = scene.salt_run(scene.others[0], "status")
    assert (code, status["vms"]["mnvm"]["desired"]["run"]) == (0, "started"), printed


@pytest.mark.nightly
@pytest.mark.parametrize("keys", [("lease",), ("lease", "desired")], ids=["the lease", "lease and desired state"])
def test_a_deleted_lease_is_told_with_what_to_type_and_that_brings_the_vm_back(
    healed: Scene, tell: Callable[[str], None], keys: tuple[str, ...]
) -> None:
    scene = healed
    delete(scene, *keys)
    eventually(lambda: guards.runners(scene.cluster) == [], 15, "its guard has killed the VM")
    code, status, printed = scene.salt_run(scene.others[0], "status")
    assert code == 1, printed
    (warning,) = [text for text in status["warnings"] if "its lease is missing" in text]
    assert "state.apply states.guard` creates it again; 60 s later" in warning
    assert status["vms"]["mnvm"]["candidates"] == []
    code, answer, _ = scene.salt_run(scene.others[0], "start")
    assert code == 1
    assert "no lease in Consul" in answer["comment"]
    asked_s = scene.witness.mark("to be created again", scene.others[0])
    done = scene.cluster.run(scene.others[0], CREATE, timeout_s=90)
    assert done.returncode == 0, done.stdout
    code, status, printed = scene.salt_run(scene.others[0], "status")
    if "desired" not in keys:
        assert "its lease was created again, and may be taken 60 s after that" in printed
    else:
        assert (status["comment"], status["vms"]["mnvm"]["desired"]["run"]) == ("mnvm is stopped", "stopped"), printed
        code, answer, _ = scene.salt_run(scene.others[0], "start", timeout_s=180)
        assert code == 0, answer
    began = scene.witness.wait_for("QEMU began", LONGEST_S + MASTERLESS_S + START_S, after_s=asked_s)
    assert began.at_s - asked_s >= LONGEST_S
    tell(f"{' and '.join(keys)} deleted, created again: QEMU began {began.at_s - asked_s:.1f} s later")
