"""Whether the next guard and the next fencer could run with what is installed by now.

An upgrade may bring another Python, or another library, under a guard that runs on: it is found out when the next one
fails to start, which costs the VM. So it is tried now and then, and told.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from .threads import Fault, Forever

FIRST_S, EVERY_S = 60.0, 300.0
"""Not at once: a guard that has just begun, and its VM, need the cores."""
LIMIT_S = 60.0
"""A program that has not come to its end by then does not come to it."""
FENCER_PYTHON = "/usr/bin/python3"
"""The one that its unit names."""


def trials(config: Path) -> dict[str, list[str]]:
    """What is tried, by whose next process it stands for; `config` is the guard's configuration file."""
    return {
        "guard": [sys.executable, "-m", "mnha.daemon", "--config", str(config), "--try"],
        "fencer": [FENCER_PYTHON, "-c", "import mnha.fencer.main"],
    }


class Successor:
    """Tries them for ever, in a thread of its own.

    :param tried: as :func:`trials` returns it.
    """

    def __init__(self, tried: dict[str, list[str]]) -> None:
        self._tried = tried
        self._faults = {name: Fault(f"next-{name}", 2 * EVERY_S) for name in tried}
        self._thread = Forever("successor", self._turn, limit_s=2 * LIMIT_S)
        self._has_begun = False

    @property
    def threads(self) -> Iterator[Forever | Fault]:
        """The thread, and what it has found."""
        yield self._thread
        yield from self._faults.values()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def _turn(self) -> float:
        """Try them once, without real-time priority, which the programs do not have then either."""
        if not self._has_begun:
            self._has_begun = True
            return FIRST_S
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for name, words in self._tried.items():
            if why := attempt(words):
                self._faults[name].tell(f"the next one could not run: {why}; apply states.{name}")
            else:
                self._faults[name].over()
        return EVERY_S


def attempt(words: Sequence[str]) -> str:
    """Run a program to its end; why that failed, empty if it did not."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return str(error)
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return said[-1][:300] if done.returncode else ""
