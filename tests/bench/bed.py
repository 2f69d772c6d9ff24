"""What a benchmark lies on: a lab of its own, with the proof after every round that no two instances overlapped."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeVar

from lab import checker, health, provision
from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME
from lab.provision import MASTER
from lab.settings import LabError
from lab.shell import say
from lab.witness import Witness
from mnha.core.timing import PROFILES, Timings

SETTLE_S = 3.0
"""After all is well again: what a recovery leaves behind (state files, logs, retries) is not to be measured."""
MANAGEMENT_TOKEN = f"/etc/mnha/secrets/{CLUSTER_NAME}/management-token"


class UnsafeError(Exception):
    """Two instances of the VM overlapped, or it is not proven that they did not: no figure counts after that."""


@dataclass
class Round:
    """One repetition: what was the case, the moments (seconds since the fault), and all events for later questions."""

    number: int
    facts: dict[str, Any] = field(default_factory=dict)
    moments: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    events: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        moments = ", ".join(f"{name} {value:.2f}" for name, value in self.moments.items())
        facts = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{moments or 'nothing measured'}  [{facts}]" + (f"  FAULT: {self.fault}" if self.fault else "")


class Ground(Protocol):
    """What rounds are repeated on: the product's cluster or a peer's."""

    cluster: Cluster

    def prepare(self) -> None:
        """What must be so before each round."""

    def heal(self) -> None:
        """Undo the round's fault and wait until all is well again."""

    def facts(self, witness: Witness) -> dict[str, Any]:
        """What is the case before the fault."""


AnyGround = TypeVar("AnyGround", bound=Ground)


class Bed:
    """The product's cluster, up and with a running VM; `profile` names its timings."""

    def __init__(self, cluster: Cluster, profile: str) -> None:
        self.cluster, self.profile = cluster, profile

    @property
    def timings(self) -> Timings:
        return PROFILES[self.profile]

    def heal(self) -> None:
        """All nodes well, all minions connected to all masters.

        :raises LabError: they do not get well.
        """
        health.heal(self.cluster, links=True)

    def consul_info(self) -> dict[str, str]:
        """What a Consul server tells of itself, e.g. `leader_addr`, `applied_index`."""
        words = ["sh", "-c", f'CONSUL_HTTP_TOKEN="$(cat {MANAGEMENT_TOKEN})" exec consul info']
        env = {"CONSUL_HTTP_ADDR": "https://127.0.0.1:8501", "CONSUL_CACERT": "/etc/mnha/tls/ca.pem"}
        text = self.cluster.run(MASTER, words, env=env, check=True, timeout_s=10).stdout
        pairs = (line.partition(" = ") for line in text.splitlines())
        return {name.strip(): value.strip() for name, sign, value in pairs if sign}

    def consul_leader(self) -> str:
        """The node whose Consul server leads; empty while there is none, or the server that is asked is down."""
        try:
            address = self.consul_info().get("leader_addr", "").rsplit(":", 1)[0]
        except LabError:
            return ""
        return next((plan.name for plan in self.cluster.plans if plan.storage == address), "")

    def prepare(self) -> None:
        """What must be so before each round."""
        self.heal()
        time.sleep(SETTLE_S + random.uniform(0, self.timings.renew_s))

    def facts(self, witness: Witness) -> dict[str, Any]:
        """What is the case before a round's fault: it may explain the figures."""
        holder, leader = running_node(witness), self.consul_leader()
        return {
            "holder": holder,
            "consul_leader": leader,
            "holder_was_leader": holder == leader,
            "load1": round(os.getloadavg()[0], 2),
        }


def running_node(witness: Witness) -> str:
    """The node with the VM's process, as the kernel sees it.

    :raises LabError: there is not exactly one.
    """
    living = witness.monitor.living()
    if len(living) != 1:
        raise LabError(f"there are {len(living)} processes of the VM, not one")
    return living[0].node


def prove(cluster: Cluster, witness: Witness) -> None:
    """That no two instances overlapped, by the kernel's processes, the guest's disk and all consoles.

    :raises UnsafeError: they did, or it is not proven.
    """
    if overlaps := witness.monitor.overlaps():
        raise UnsafeError(f"two processes of the VM lived at once: {overlaps}\n{witness.table()}")
    if any(event.kind == "overlap" for event in witness.events()):
        raise UnsafeError(f"the guest met another writer\n{witness.table()}")
    verdict = checker.check(cluster.settings.disk_image, cluster.consoles())
    if not verdict.ok:
        raise UnsafeError(f"{verdict.text()}\n{witness.table()}")


def repeat(
    bed: AnyGround,
    name: str,
    rounds: int,
    measure: Callable[[AnyGround, Witness, Round], None],
    before: Callable[[AnyGround, int], None] | None = None,
) -> Iterator[Round]:
    """Run `measure` in `rounds` rounds, each from a healthy cluster to a healthy cluster, each followed by the proof.

    A round that fails (LabError) is yielded with its fault and without its missing moments.

    :raises LabError: the cluster does not get well again.
    :raises UnsafeError: see :func:`prove`.
    """
    for count in range(1, rounds + 1):
        this = Round(count)
        if before:
            before(bed, count)
        bed.prepare()
        with Witness(bed.cluster) as witness:
            this.facts = bed.facts(witness)
            try:
                measure(bed, witness, this)
            except LabError as error:
                this.fault = str(error)
            this.events = witness.table().splitlines()
            say(f"{name} {count}/{rounds}: {this.line()}")
            trouble: LabError | None = None
            try:
                bed.heal()
            except LabError as error:
                trouble = error
                this.fault = "; ".join(filter(None, (this.fault, f"afterwards {error}")))
            prove(bed.cluster, witness)
        yield this
        if trouble:
            raise trouble


@contextmanager
def product_lab(profile: str) -> Iterator[Bed]:
    """A lab of its own with the product and a running VM; removed at the end, whatever happens.

    :raises LabError: there is a lab already (it may be somebody's), or this one does not come up.
    """
    with fresh_lab(lambda cluster: provision.up(cluster, timings=profile)) as cluster:
        words = ["salt-run", "mnha.start", f"cluster={CLUSTER_NAME}"]
        done = cluster.run(MASTER, words, timeout_s=120)
        if done.returncode:
            raise LabError(f"`{' '.join(words)}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        bed = Bed(cluster, profile)
        bed.heal()
        yield bed


@contextmanager
def fresh_lab(up: Callable[[Cluster], None]) -> Iterator[Cluster]:
    """A lab made by `up` and removed at the end."""
    cluster = Cluster()
    if cluster.is_up():
        raise LabError("there is a lab already: remove it with `make lab-down` if nobody needs it")
    try:
        up(cluster)
        yield cluster
    finally:
        say("cleaning up")
        cluster.down()
