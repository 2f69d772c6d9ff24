"""The process that is a node's watchdog device: `python3 -m lab.device NODE`; see :mod:`lab.watchdog`."""

from __future__ import annotations

import json
import sys
import time

import mfusepy

from lab import cgroups, watchdog
from lab.cluster import Cluster


def serve(name: str) -> None:
    """Be the device of node `name` until it is unmounted."""
    cgroups.enter(cgroups.DEVICES)
    cluster = Cluster()
    settings = cluster.settings
    node = cluster.node(name)

    def note(event: str, state: watchdog.Countdown) -> None:
        line = {"at_s": watchdog.now_s(), "event": event, "timeout_s": state.timeout_s, "zero_s": state.zero_s}
        with watchdog.log_file(settings, name).open("a") as log:
            log.write(json.dumps(line) + "\n")

    def reset() -> None:
        # Dead first, without waiting for anybody; what a power cycle is besides takes its turn.
        node.power_off()
        cluster.poweroff(name)
        time.sleep(watchdog.SELF_TEST_S)
        cluster.poweron(name, wait=False)

    device = watchdog.Device(node.init_pid, reset, note, watchdog.broken_mark(settings, name).exists)
    mfusepy.FUSE(
        device,
        str(watchdog.device_file(settings, name)),
        foreground=True,
        direct_io=True,
        fsname="lab-watchdog",
        allow_other=True,
    )


if __name__ == "__main__":
    serve(sys.argv[1])
