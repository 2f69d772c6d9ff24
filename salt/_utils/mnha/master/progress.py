"""How far long work is, for whoever has typed it: on stderr, so that what stdout gets stays what `--out` says."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

FIRST_S = 3.0
"""What is done sooner needs no word."""
EVERY_S = 5.0
STEP = 10
"""Where there is no terminal a migration is told of at each so many per cent."""


def tell(sentence: str) -> None:
    """One line more. A master's own process has no terminal, and is told nothing."""
    if sys.stderr is not None and not sys.stderr.closed:
        print(sentence, file=sys.stderr, flush=True)


@contextlib.contextmanager
def waiting(
    what: str, first_s: float = FIRST_S, every_s: float = EVERY_S, say: Callable[[str], None] = tell
) -> Iterator[None]:
    """Tell now and then, while something is waited for, what that is and how long it has taken.

    :param what: `until the VM is off`.
    """
    over, began_s = threading.Event(), time.monotonic()

    def go_on() -> None:
        wait_s = first_s
        while not over.wait(wait_s):
            say(f"waiting {what}: {time.monotonic() - began_s:.0f} s so far")
            wait_s = every_s

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Migration:
    """How far a live migration is, in the old suite's words: `Migration: [ 42 %]`. On a terminal the line is replaced.

    :param stream: where to; left out: stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._shown = -STEP

    def begin(self, source: str, target: str) -> None:
        """It begins."""
        self._print(f"Migrate from {source} to {target}\n")

    def show(self, told: Any) -> None:
        """It goes on.

        :param told: what `guard.migration` returns.
        """
        found = told.get("migration") if isinstance(told, Mapping) else None
        if isinstance(found, Mapping) and not found.get("outcome") and isinstance(found.get("percent"), int):
            self._at(found["percent"], last=False)

    def end(self, *, arrived: bool) -> None:
        """It has ended."""
        if arrived:
            self._at(100, last=True)
        elif self._shown >= 0 and self._is_terminal():
            self._print("\n")

    def _at(self, percent: int, *, last: bool) -> None:
        text = f"Migration: [{percent:3d} %]"
        if self._is_terminal():
            self._print(f"\r{text}" + ("\n" if last else ""))
        elif last or abs(percent - self._shown) >= STEP:
            self._print(f"{text}\n")
        else:
            return
        self._shown = percent

    def _is_terminal(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def _print(self, text: str) -> None:
        """A master's own process has no terminal, and is told nothing."""
        if self._stream is not None and not self._stream.closed:
            print(text, end="", file=self._stream, flush=True)
