"""How far long work is, for whoever has typed it: on stderr, so that what stdout gets stays what `--out` says."""

from __future__ import annotations

import sys


def tell(sentence: str) -> None:
    """One line more. A master's own process has no terminal, and is told nothing."""
    if sys.stderr is not None and not sys.stderr.closed:
        print(sentence, file=sys.stderr, flush=True)
