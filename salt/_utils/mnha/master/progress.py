"""How far long work is, for whoever has typed it: on stderr, so that what stdout gets stays what `--out` says."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

FIRST_S = 3.0
"""What is done sooner needs no word."""
EVERY_S = 5.0


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
