"""All tests, in lanes at once: the lab waits most of its time, and the simulation computes meanwhile.

    python -m tests.lanes            what `make test` and CI run

===========  =========================================================================================================
``lab``      what needs the lab, and unit tests; shown as it goes
``loopback`` what needs this machine's kernel, Consul, libvirt or Salt; shown when it has ended
``idle``     lint, types, the simulation; shown when it has ended
===========  =========================================================================================================

The lane ``idle`` gets what the others leave, and their timing does not notice. Of the lane ``loopback`` the kernel
tests come first, whose timing is the strictest, while the lab's image is made, which no timing depends on. What follows
them keeps to one core; the masters and minions come next, before the lab is put under load.

All logs are judged by the same rule: a lane fails if a command of it fails or leaves a process running, if a test was
skipped, or if none was passed. What failed, in any, is named last. What hangs is told as well: a test that takes long
shows where its threads are, and lanes that have not ended within LIMIT_S are stopped and shown like all others.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PYTEST = (sys.executable, "-m", "pytest", "--durations=0", "--durations-min=5", "-o", "faulthandler_timeout=600")
"""A test that takes 10 minutes hangs: the longest thing that one waits for, a lab of five nodes, takes 5 under load."""
IDLE = ("sh", "-c", '[ ! -e /proc/self/autogroup ] || echo 19 >/proc/self/autogroup; exec chrt --idle 0 "$@"', "idle")
"""Each lane is a session, and to the scheduler a group that counts as much as any other, however idle what is in it:
the group itself has to step back as well (sched(7), "The autogroup feature").
"""
IN_THE_LAB = tuple(f"tests/integration/{name}" for name in ("cluster", "security", "faults", "load", "several"))
BESIDE_THE_LAB = ("tests/integration/salt", "tests/integration/lab")
"""Real masters and minions on loopback, and labs that are made and removed."""
FIRST_CORE = ("taskset", "--cpu-list", "0")
"""The lab, which is one group to the scheduler, has the other one."""

CLOSING = re.compile(r"(?:=+ )?(no tests ran|(?:\d+ [a-z]+, )*\d+ [a-z]+) in [\d.]+s(?: \([\d:]+\))?(?: =+)?")
"""pytest's last line, such as "12 passed, 1 skipped in 0.34s", with or without a frame."""
NAMED = re.compile(r"(?:FAILED|ERROR) tests/.*")
NAME_LENGTH = 300
TAIL = 1000
POLL_S = 0.2
STOP_S = 30.0
LIMIT_S = 75 * 60.0
"""Less than the 90 minutes that CI gives: who is killed by it tells nothing."""


@dataclass(frozen=True)
class Lane:
    """Commands that run one after the other, all of them, also when one has failed.

    :param live: whether its output is shown as it comes; else when it has ended.
    :param idle: whether it gets only what nobody else wants.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    live: bool = False
    idle: bool = False


LANES = (
    Lane("lab", ((*PYTEST, "-vv", *IN_THE_LAB), (*PYTEST, "tests/unit")), live=True),
    Lane(
        "loopback",
        (
            (*PYTEST, "tests/kernel"),
            (*FIRST_CORE, *PYTEST, *BESIDE_THE_LAB),
            (*FIRST_CORE, *PYTEST, "tests/functional"),
        ),
    ),
    Lane(
        "idle",
        (
            (str(BIN / "ruff"), "check", "."),
            (str(BIN / "ruff"), "format", "--check", "."),
            (str(BIN / "mypy"),),
            (*PYTEST, "tests/simulation"),
        ),
        idle=True,
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What a lane's log says.

    :param faults: why it failed, a sentence each; empty if all is well.
    :param closing: the closing lines of its test runs.
    :param named: the lines that name failed tests.
    """

    faults: tuple[str, ...]
    closing: tuple[str, ...]
    named: tuple[str, ...]


def judge(text: str, failed: Sequence[str]) -> Verdict:
    """Judge a lane by its log and those of its commands that failed. Pure."""
    lines = text.splitlines()
    closing = [line for line in lines if CLOSING.fullmatch(line)]
    faults = [f"failed: {command}" for command in failed]
    if not any(re.search(r"\b[1-9]\d* passed", line) for line in closing):
        faults.append("no test was passed")
    if any(re.search(r"\d+ skipped", line) for line in closing):
        faults.append("a test was skipped: what can't run here must be made to run, or not be collected")
    named = [line[:NAME_LENGTH] for line in lines if NAMED.fullmatch(line)]
    return Verdict(tuple(faults), tuple(closing), tuple(named))


class Running:
    """A lane on its way: a thread, and the process of the command that runs now, which writes into the log itself."""

    def __init__(self, lane: Lane, log: Path) -> None:
        self.lane, self.log = lane, log
        self.failed: list[str] = []
        self.took_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = ""
        self._starting = threading.Lock()
        self._output = log.open("wb")
        self._thread = threading.Thread(target=self._work, name=lane.name)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._thread.is_alive()

    def stop(self, why: str) -> None:
        """End it: the command as by Ctrl-C, so that tests tidy up, then, after a while, by force."""
        with self._starting:
            self._stopped = why
            process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def text(self) -> str:
        """All that it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join()

    def _work(self) -> None:
        began_s = time.monotonic()
        with self._output:
            for command in self.lane.commands:
                if self._stopped:
                    break
                told = " ".join(word.removeprefix(f"{BIN}/") for word in command)
                self._tell(f"--- {self.lane.name}: {told}\n")
                if fault := self._run(command):
                    self.failed.append(f"{told} {fault}")
        if self._stopped:
            self.failed.append(self._stopped)
        self.took_s = time.monotonic() - began_s

    def _run(self, command: Sequence[str]) -> str:
        """Run a command, its output into the log; returns what is wrong with how it ended, or nothing."""
        before = IDLE if self.lane.idle else ()
        with self._starting:
            if self._stopped:
                return "was not begun"
            try:
                self._process = process = subprocess.Popen(
                    (*before, *command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._output,
                    stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                return f"can not be run: {error}"
        code = process.wait()
        left = end_group(process.pid)
        return "; ".join([f"ended with {code}"] * bool(code) + ["left processes running"] * left)

    def _tell(self, text: str) -> None:
        self._output.write(text.encode())
        self._output.flush()


def end_group(group: int) -> bool:
    """Kill what does not end by itself of a process group whose leader has; returns whether anything was left."""
    end_s = time.monotonic() + STOP_S
    while time.monotonic() < end_s:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(POLL_S)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return True


@contextmanager
def started(lanes: Sequence[Lane], folder: Path) -> Iterator[list[Running]]:
    """The lanes, all running; none is left running at the end, whatever ends it."""
    # Who has started all may ignore Ctrl-C, as a shell's background does: then so would the commands, from their birth.
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = [Running(lane, folder / f"{lane.name}.log") for lane in lanes]
    try:
        yield running
    finally:
        stop(running, "was stopped")
        signal.signal(signal.SIGINT, ctrl_c)


def stop(running: Sequence[Running], why: str) -> None:
    """End the lanes that run, and wait for all."""
    for one in running:
        if one.alive:
            one.stop(why)
    for one in running:
        one.join()


def follow(running: Sequence[Running], limit_s: float, show: Callable[[str], None]) -> None:
    """Show what live lanes print until all have ended, or until the time is over, and they are stopped."""
    end_s = time.monotonic() + limit_s
    with ExitStack() as files:
        live = [
            files.enter_context(one.log.open(encoding="utf-8", errors="replace")) for one in running if one.lane.live
        ]
        alive = True
        while alive:
            alive = any(one.alive for one in running)
            if alive and time.monotonic() > end_s:
                stop(running, f"did not end within {limit_s / 60:g} min")
            for log in live:
                show(log.read())
            time.sleep(POLL_S * alive)


def run(lanes: Sequence[Lane], folder: Path, show: Callable[[str], None], limit_s: float = LIMIT_S) -> bool:
    """Run all lanes at once and judge them; returns whether all is well.

    :param folder: where their logs go.
    :param show: takes what a person sees.
    :param limit_s: when lanes that still run are stopped.
    """
    with started(lanes, folder) as running:
        try:
            follow(running, limit_s, show)
        except KeyboardInterrupt:
            for one in running:
                show(f"\n--- lane {one.lane.name} was here:\n{one.text()[-TAIL:]}\n")
            raise
    for one in running:
        if not one.lane.live:
            show(one.text())
    verdicts = {one: judge(one.text(), one.failed) for one in running}
    show("\n")
    for one, verdict in verdicts.items():
        show(f"--- lane {one.lane.name}, {one.took_s / 60:.1f} min: {'; '.join(verdict.faults) or 'well'}\n")
        show("".join(f"{line}\n" for line in verdict.closing))
    show("".join(f"{line}\n" for verdict in verdicts.values() for line in verdict.named))
    return not any(verdict.faults for verdict in verdicts.values())


def main() -> int:
    """Run everything; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def show(text: str) -> None:
        print(text, end="", flush=True)

    with tempfile.TemporaryDirectory(prefix="mnha-lanes-") as folder:
        try:
            return 0 if run(LANES, Path(folder), show) else 1
        except KeyboardInterrupt:
            show("\nended by a signal: nothing was judged\n")
            return 130


if __name__ == "__main__":
    sys.exit(main())
