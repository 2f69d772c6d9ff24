"""One lab for all integration tests of a run that want one: real Salt, Consul, libvirt, QEMU and guards on three nodes.

Needs root; takes a minute or two to come up, once, and some seconds a test. Every test with a `scene` begins with three
healthy nodes and a running MNVM, and ends with the same and with the proof that no two instances ever overlapped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import checker, health, provision
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.settings import LabError
from lab.witness import Witness
from tests.support.scene import Scene, eventually

GUEST_S = 90.0
SHOWN = {"guard": 6000, "fencer": 1000, "Consul": 600, "minion": 300, "master": 300, "console": 300}
"""So many characters of the end of each log are shown."""
LOGS = {
    "guard": "journalctl -u mnha-guard -o short-monotonic --no-pager -n 2000 | grep -Ev 'Sen(t|ding) signal SIGCONT'",
    "fencer": "journalctl -u mnha-fencer -o short-monotonic --no-pager -n 500 | grep -v 'Sent signal SIGCONT'",
    "Consul": "journalctl -u consul -o short-monotonic --no-pager -n 2000",
    "minion": "tail -n 300 /var/log/salt/minion",
    "master": "tail -n 300 /var/log/salt/master",
}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failed test shows what the nodes say of it: the ends here, the whole in files."""
    report = yield
    scene = item.funcargs.get("scene") if isinstance(item, pytest.Function) else None
    if report.failed and scene is not None:
        report.sections.append(("events", scene.witness.table()))
        for (node, name), text in logs(scene.cluster).items():
            (scene.folder / f"{report.when}-{node}-{name}.log").write_text(text)
            report.sections.append((f"{node}: {name}", ending(text, SHOWN[name])))
        report.sections.append(("whole logs", str(scene.folder)))
    return report


def logs(cluster: Cluster) -> dict[tuple[str, str], str]:
    """What each node's daemons and guest have logged, by node and log, as far as there is somebody to be asked."""
    found = {}
    with contextlib.suppress(LabError):  # there may be no cluster any more
        for node in cluster.names:
            for name, command in LOGS.items():
                with contextlib.suppress(LabError):  # it may be off
                    found[node, name] = cluster.run(node, ["sh", "-c", command], timeout_s=20).stdout
        for node, path in cluster.consoles().items():
            found[node, "console"] = path.read_text(errors="replace")
    return found


def ending(text: str, most: int) -> str:
    """The last whole lines of a log, at most so many characters."""
    return text if len(text) <= most else text[-most:].partition("\n")[2]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Three provisioned nodes, the MNVM started by the operator's verb."""
    made = Cluster()
    try:
        begin(made)
        yield made
    finally:
        made.down()


def begin(cluster: Cluster) -> None:
    """Make the lab and start its VM."""
    provision.up(cluster)
    done = cluster.run(cluster.names[0], ["salt-run", "mnha.start", f"cluster={CLUSTER_NAME}"], timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    # A first test that is quick would otherwise end before the guest has written anything to prove it by.
    eventually(
        lambda: checker.check(cluster.settings.disk_image, cluster.consoles()).ok, GUEST_S, "the guest's heartbeat"
    )


WELL = pytest.StashKey[bool]()
"""Whether the scene before was healed at its end: nothing has to be undone then."""
MADE_AGAIN = pytest.StashKey[bool]()
BEYOND_REPAIR = pytest.StashKey[str]()


@pytest.fixture
def scene(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Iterator[Scene]:
    """See the module's docstring."""
    stash = request.session.stash
    if why := stash.get(BEYOND_REPAIR, ""):
        pytest.fail(f"the lab is beyond repair, though it was made again: {why}")
    try:
        if not stash.get(WELL, False):
            health.undo(cluster)
            health.accept_disk(cluster)
        stash[WELL] = False
        health.wait_healthy(cluster, links=True)
    except LabError as error:
        make_again(stash, cluster, error)
    with Witness(cluster) as witness:
        made = Scene(cluster, witness, tmp_path)
        yield made
        health.heal(cluster)
    stash[WELL] = True
    made.prove_no_overlap()


def make_again(stash: pytest.Stash, cluster: Cluster, error: LabError) -> None:
    """Replace a lab that a test has left beyond repair, once: else each later one would wait in vain, for minutes."""
    if stash.get(MADE_AGAIN, False):
        stash[BEYOND_REPAIR] = str(error)
        raise error
    stash[MADE_AGAIN] = True
    cluster.down()
    begin(cluster)
    health.wait_healthy(cluster, links=True)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line of figures that shall stand in the output of a run that passes, too."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return show
