"""How long `zsha status` takes on a node: with all up, and with every Salt process of all nodes stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator

from lab.settings import LabError
from lab.witness import Witness
from tests.bench.bed import Bed, Round, repeat
from tests.bench.stats import Measure, Target

NAME = "zsha"
LIMIT_S = 0.5
TIMEOUT_S = 30.0
STATUS = ("zsha", "status")
SALT = ("salt-master", "salt-minion")
ALL_UP, NO_SALT = "all_up", "no_salt"
TITLES = {ALL_UP: "zsha status, all nodes up", NO_SALT: "zsha status, every Salt process stopped"}


def rounds(bed: Bed, count: int) -> Iterator[Round]:
    """Ask on a node that does not hold the VM, `count` times."""
    return repeat(bed, NAME, count, _measure)


def _measure(bed: Bed, witness: Witness, this: Round) -> None:
    """One round."""
    node = next(name for name in bed.cluster.names if name != this.facts["holder"])
    this.facts["asked_on"] = node
    _ask(bed, this, ALL_UP, node)
    try:
        for name in bed.cluster.names:
            bed.cluster.run(name, ["systemctl", "kill", "--signal=STOP", *SALT], check=True)
        _ask(bed, this, NO_SALT, node)
    finally:
        for name in bed.cluster.names:
            bed.cluster.run(name, ["systemctl", "kill", "--signal=CONT", *SALT], check=True)


def _ask(bed: Bed, this: Round, moment: str, node: str) -> None:
    """Note the wall time of the command, entering the node (some ms) included."""
    begin_s = time.monotonic()
    try:
        done = bed.cluster.run(node, STATUS, timeout_s=TIMEOUT_S)
    except LabError as error:
        this.fault = str(error)
        return
    seconds = time.monotonic() - begin_s
    if done.returncode == 0 and done.stdout.rstrip().splitlines()[-1:] == ["done."]:
        this.moments[moment] = seconds
    else:
        this.fault = f"`{' '.join(STATUS)}` ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"


def measures(found: list[Round], name: str = NAME) -> list[Measure]:
    """The rounds as figures."""
    return [
        Measure(name, title, "s", values, (Target("max", LIMIT_S),), len(found) - len(values))
        for key, title in TITLES.items()
        for values in [tuple(this.moments[key] for this in found if key in this.moments)]
    ]
