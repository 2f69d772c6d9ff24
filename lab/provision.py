"""Installs the product on bare nodes, doing what the README tells an operator to do, and nothing else.

The steps are a table. What is not a plain command there is waiting: for the minions' keys, for their connections.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME, lab_pillar_files
from lab.settings import LabError, NodePlan
from lab.shell import say, wait_until, write_whole

MASTER = "node1"
TREE = "/srv/mnha"
PROGRESS_S = 10


@dataclass(frozen=True)
class Step:
    """One command of the installation on one node (`*`: on every node, at the same time)."""

    title: str
    node: str
    argv: tuple[str, ...]
    timeout_s: float = 120


BEFORE_KEYS = (
    Step("first master", MASTER, ("salt-call", "--local", "--retcode-passthrough", f"--file-root={TREE}/salt",
                                  "state.apply", "states.salt.first_master")),
    Step("minions: start", "*", ("systemctl", "enable", "--now", "salt-minion")),
)  # fmt: skip

AFTER_KEYS = (
    Step("secrets of the cluster", MASTER, ("salt-run", "mnha.bootstrap", CLUSTER_NAME)),
    Step("what the modules need", MASTER, ("salt", "--timeout=300", "*", "state.apply", "states.salt.packages"), 300),
    Step("every node as the pillar says", MASTER, ("salt", "--timeout=900", "*", "state.apply"), 900),
)
"""What the README tells an operator to type once the keys are accepted."""


def up(cluster: Cluster, nodes: int = 3, *, bare: bool = False, timings: str = "default") -> None:
    """A fresh cluster with the product on it: see :meth:`lab.cluster.Cluster.up` and :func:`provision`."""
    cluster.up(nodes, bare=bare)
    provision(cluster, timings=timings)


def provision(cluster: Cluster, *, timings: str = "default") -> None:
    """Runs all steps; LabError with the output of the first that fails.

    :param timings: the profile of the lease's timings in the pillar.
    """
    begin = time.monotonic()
    put_tree(cluster, timings)
    for plan in cluster.plans:
        cluster.write_file(plan.name, "/etc/salt/minion.d/master.conf", minion_config(plan))
    for step in BEFORE_KEYS:
        run_step(cluster, step)
    accept_keys(cluster)
    for step in AFTER_KEYS:
        run_step(cluster, step)
    await_links(cluster)
    say(f"provisioned in {time.monotonic() - begin:.1f} s")


def minion_config(plan: NodePlan) -> str:
    """What an operator writes on a node by hand; the product's states write the rest."""
    return f"master: {MASTER}\nid: {plan.name}\nacceptance_wait_time: 1\n"


def put_tree(cluster: Cluster, timings: str) -> None:
    """The repository's salt/ and pillar/ on the master, with the lab's own cluster in the pillar, and which commit that
    is.
    """
    repository = cluster.settings.repository
    target = cluster.file(MASTER, TREE)
    for name in ("salt", "pillar"):
        place = target / name
        if place.exists():
            shutil.rmtree(place)
        shutil.copytree(repository / name, place, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for path, text in lab_pillar_files(cluster.plans, timings).items():
        write_whole(target / "pillar" / path, text)
    words = [sys.executable, "-m", "mnha.master.build", "salt"]
    found = {**os.environ, "PYTHONPATH": "salt/_utils"}
    which = subprocess.run(words, cwd=repository, env=found, stdout=subprocess.PIPE, text=True, check=True)
    write_whole(target / "salt/build.json", which.stdout)


def run_step(cluster: Cluster, step: Step) -> None:
    """Runs one step with progress lines; LabError with the command and its last lines when it fails."""
    nodes = cluster.names if step.node == "*" else [step.node]
    say(f"{step.title}: {' '.join(step.argv)}   [{', '.join(nodes)}]")
    begin = time.monotonic()
    faults: list[str] = []
    threads = [threading.Thread(target=_run_on, args=(cluster, node, step, faults)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise LabError(f"{step.title} failed:\n" + "\n".join(faults))
    say(f"{step.title}: done in {time.monotonic() - begin:.1f} s")


def _run_on(cluster: Cluster, node: str, step: Step, faults: list[str]) -> None:
    begin = said = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        try:
            process = cluster.popen(
                node,
                ["timeout", f"{step.timeout_s:g}", *step.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except LabError as error:
            faults.append(str(error))
            return
        shown = 0
        while process.poll() is None:
            time.sleep(0.05)
            now = time.monotonic()
            if now - said >= PROGRESS_S:
                said = now
                output.seek(0)
                lines = summary(output.read().splitlines())
                for line in lines[shown:]:
                    say(f"  {line}")
                shown = len(lines)
                say(f"  {step.title}: {now - begin:.0f} s so far")
        output.seek(0)
        text = output.read()
    for line in summary(text.splitlines())[shown:]:
        say(f"  {line}")
    if process.returncode != 0:
        tail = "\n".join(f"  {line}" for line in failure_lines(text.splitlines()))
        faults.append(f"{node}: `{' '.join(step.argv)}` ended with code {process.returncode}\n{tail}")


def summary(lines: Iterable[str]) -> list[str]:
    """What a person wants of `salt '*' state.apply`: one line a minion, made from Salt's closing lines."""
    result: list[str] = []
    minion, counts = "", ""
    for line in lines:
        if re.fullmatch(r"node\d+:", line):
            minion, counts = line.rstrip(":"), ""
        elif line.startswith(("Succeeded:", "Failed:")):
            counts += f"{' '.join(line.split())}, "
        elif line.startswith("Total run time:") and minion:
            result.append(f"{minion}: {counts}{' '.join(line.split()[3:])}")
    return result


def failure_lines(lines: Sequence[str], at_most: int = 60) -> list[str]:
    """The blocks of failed states in Salt's output, or else its last lines."""
    blocks: list[str] = []
    block: list[str] = []
    for line in lines:
        if line.strip() == "----------" or re.fullmatch(r"node\d+:", line):
            blocks += block if any("Result: False" in item for item in block) else []
            block = [line] if line.endswith(":") else []
        else:
            block.append(line)
    blocks += block if any("Result: False" in item for item in block) else []
    return (blocks or list(lines)[-25:])[:at_most]


def accept_keys(cluster: Cluster) -> None:
    """`salt-key -A` once all minions have asked, then waits for their connections to the publisher."""
    names = set(cluster.names)
    pending = cluster.file(MASTER, "/etc/salt/pki/master/minions_pre")

    def have_asked() -> bool:
        return pending.is_dir() and names <= {path.name for path in pending.iterdir()}

    def are_connected() -> bool:
        done = cluster.run(MASTER, ["ss", "-Htn", "state", "established", "sport", "=", ":4505"])
        return len(done.stdout.splitlines()) >= len(names)

    say(f"keys: waiting for {len(names)} minions")
    wait_until(have_asked, 60, f"the master has not got the keys of {', '.join(sorted(names))}", every_s=0.1)
    cluster.run(MASTER, ["salt-key", "--accept-all", "--yes"], check=True, timeout_s=60)
    wait_until(are_connected, 60, "not all minions are connected to the master", every_s=0.1)
    time.sleep(0.5)
    say("keys: accepted, minions connected")


def await_links(cluster: Cluster) -> None:
    """Waits until every minion is connected to the master on every node; the states restart minions at their end."""
    masters = cluster.names

    def linked(node: str) -> int:
        done = cluster.run(node, ["ss", "-Htn", "state", "established", "sport", "=", ":4505"])
        peers = {line.split()[-1].rsplit(":", 1)[0] for line in done.stdout.splitlines()}
        return len(peers)

    def is_settled(node: str) -> bool:
        """No restart of Salt's daemons is pending."""
        units = cluster.run(node, ["systemctl", "list-units", "--no-legend", "--plain", "mnha-restart*"])
        return not units.stdout.strip()

    say(f"masters: waiting for {len(masters)} minions on each")
    fault = "not all minions reach all masters"
    wait_until(lambda: all(is_settled(node) for node in masters), 90, "Salt's daemons do not restart", every_s=0.5)
    wait_until(lambda: all(linked(node) >= len(masters) for node in masters), 90, fault, every_s=0.5)
    say("masters: every minion is connected to each")
