"""Bench only: the runner's way: one call on the reporting minion, one on another."""

import time

import salt.client


def _note(path, run, hop):
    with open(path, "a", encoding="utf-8") as out:
        out.write(f"{run} {hop} {time.monotonic()}\n")


def two_calls(marks, run, first, second):
    """Call `lat.mark` on `first`, then on `second`, and note each moment.

    CLI Example:

    .. code-block:: bash

        salt-run lat.two_calls /tmp/marks r1 node1 node2
    """
    _note(marks, run, "runner")
    with salt.client.get_local_client(__opts__["conf_file"]) as client:
        client.cmd(first, "lat.mark", [marks, run, "exec_first"], timeout=5)
        _note(marks, run, "first_back")
        client.cmd(second, "lat.mark", [marks, run, "exec_second"], timeout=5)
        _note(marks, run, "second_back")
    return True
