"""Run in a machine with two cables to a neighbour (`cables.sh`), by `tests/bench/network.py`: changes of a bond's
option, ``python -m tests.kernel.change_network COUNT``.

Prints a line ``changed SECONDS`` for each, and ``gap SECONDS``: the longest time without an answer of the neighbour,
which is asked every 20 ms.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .on_network import NEIGHBOUR, Host, begin

EVERY_S = 0.02
POLICIES = ("layer3+4", "layer2+3")


def gap_s(said: str) -> float:
    """The longest time between two answers, by what `ping -D` printed."""
    times = [float(found) for found in re.findall(r"^\[([\d.]+)\] \d+ bytes", said, re.MULTILINE)]
    return max((after - before for before, after in itertools.pairwise(times)), default=float("inf"))


def main(count: int) -> None:
    """Change, and print."""
    begin()
    host = Host(Path(tempfile.mkdtemp()))
    assert host.apply()["result"] is True
    for number in range(count):

        def other(networks: dict[str, Any], policy: str = POLICIES[number % 2]) -> None:
            networks["bonds"]["bond0"].update(xmit_hash_policy=policy)

        words = ["ping", "-n", "-D", "-i", str(EVERY_S), NEIGHBOUR]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as ping:
            time.sleep(1.0)
            found = host.apply(other)
            time.sleep(1.0)
            ping.terminate()
            said, _ = ping.communicate()
        assert (found["result"], bool(found["changes"])) == (True, True), found
        print(f"changed {found['duration'] / 1000:.2f}\ngap {gap_s(said):.3f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
