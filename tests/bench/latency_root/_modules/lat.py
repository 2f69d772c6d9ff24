"""Bench only: note the moment at which an execution function runs on a minion."""

import time


def mark(path, run, hop):
    """Append `run hop CLOCK_MONOTONIC` to a file.

    CLI Example:

    .. code-block:: bash

        salt node1 lat.mark /tmp/marks r1 exec
    """
    with open(path, "a", encoding="utf-8") as out:
        out.write(f"{run} {hop} {time.monotonic()}\n")
    return True


def noop():
    """Return at once.

    CLI Example:

    .. code-block:: bash

        salt node1 lat.noop
    """
    return True
