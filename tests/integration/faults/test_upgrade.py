"""A guard is upgraded under its running VM, and the new version is broken: that may cost a restart, but never safety.

That a good one takes over unnoticed is tested with the cluster (`test_layers`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import pytest

from mnha.core.timing import PROFILES
from tests.support.scene import Scene, eventually

from .test_network import assert_untouched

TIMINGS = PROFILES["default"]
LIBRARY = "/usr/lib/mnha/mnha/core/guard.py"
FAILOVER_S = 60.0
GUEST_S = 60.0


@contextlib.contextmanager
def broken_library(scene: Scene, node: str, first_line: str) -> Iterator[None]:
    """A version of the guard is installed on a node that does `first_line` when it is loaded."""
    text = scene.cluster.file(node, LIBRARY).read_text()
    scene.cluster.write_file(node, LIBRARY, f"{first_line}\n{text.replace('from __future__ import annotations', '')}")
    try:
        yield
    finally:
        scene.cluster.write_file(node, LIBRARY, text)


def test_an_upgrade_that_can_not_run_is_refused_and_the_old_guard_goes_on(scene: Scene) -> None:
    pid, epoch = scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]
    since_s = scene.guard(scene.holder)["guard"]["since_s"]
    tried_s = scene.witness.mark("reload with a broken library", scene.holder)
    with broken_library(scene, scene.holder, "raise RuntimeError('this version is broken')"):
        done = scene.cluster.run(scene.holder, ["systemctl", "reload", "mnha-guard"])
        assert done.returncode != 0
        words = ["salt-call", "--retcode-passthrough", "state.single", "guard.current", "mnha-guard"]
        applied = scene.cluster.run(scene.holder, words, timeout_s=90)
        assert applied.returncode != 0
        assert "the guard cannot be reloaded" in applied.stdout
        time.sleep(TIMINGS.lease_s)
        assert_untouched(scene, tried_s, pid, epoch)
        assert scene.guard(scene.holder)["guard"]["since_s"] == since_s
    log = scene.cluster.run(scene.holder, ["journalctl", "-u", "mnha-guard", "-n", "50", "--no-pager"]).stdout
    assert "this version is broken" in log


@pytest.mark.nightly  # CI shows a guard that stands still (`test_processes`): the fencer sees no difference
def test_a_guard_whose_successor_hangs_loses_its_vm_before_its_deadline_and_another_node_runs_it(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    boot = scene.cluster.node(scene.holder).init_pid()
    with broken_library(scene, scene.holder, "import time; time.sleep(300)"):
        # Past the check that a reload makes: the process is told to replace itself.
        scene.cluster.run(
            scene.holder, ["systemctl", "kill", "--kill-whom=main", "--signal=HUP", "mnha-guard"], check=True
        )
        told_s = scene.witness.mark("replaced by a guard that hangs", scene.holder)
        ended = scene.witness.wait_for("QEMU ended", TIMINGS.reset_s + 1)
        began = scene.witness.wait_for("QEMU began", FAILOVER_S)
        scene.witness.wait_for("guest up", GUEST_S)
        assert ended.at_s - told_s <= TIMINGS.reset_s, scene.witness.table()
        assert began.node in scene.others
        assert scene.cluster.node(scene.holder).init_pid() == boot, "the fencer needs no reset for that"
    # What hangs would do so for as long as systemd lets a service start.
    scene.cluster.run(scene.holder, ["systemctl", "kill", "--signal=KILL", "mnha-guard"], check=True)
    tell(
        f"guard replaced by one that hangs: VM dead after {ended.at_s - told_s:.2f} s, QEMU began on another node "
        f"after {began.at_s - told_s:.2f} s"
    )


def test_a_guard_that_dies_and_can_not_be_started_again_takes_its_vm_along(
    scene: Scene, tell: Callable[[str], None]
) -> None:
    """The fencer needs no guard for that."""
    with broken_library(scene, scene.holder, "raise RuntimeError('this version is broken')"):
        scene.cluster.run(scene.holder, ["systemctl", "kill", "--signal=KILL", "mnha-guard"], check=True)
        killed_s = scene.witness.mark("SIGKILL to a guard that can't be started again", scene.holder)
        ended = scene.witness.wait_for("QEMU ended", TIMINGS.deadline_s)
        began = scene.witness.wait_for("QEMU began", FAILOVER_S)
        assert began.node in scene.others
        assert ended.at_s < began.at_s
    eventually(lambda: scene.status(scene.holder)["state"] == "standby", 60, "the guard of the node is well again")
    tell(
        f"guard killed, no other can be started: VM dead after {ended.at_s - killed_s:.2f} s, QEMU began elsewhere "
        f"after {began.at_s - killed_s:.2f} s"
    )
