"""Whether a service runs with what is on disk.

The services of this project note at their start what they depend on (program, libraries, unit, and for Consul its
configuration and certificates). States compare, so that a change is never forgotten and never restarts anything twice.
"""

from __future__ import annotations

import subprocess

from salt.exceptions import CommandExecutionError

__virtualname__ = "mnha_service"

STAMP_SCRIPT = "/usr/lib/mnha/stamp"
SERVICES = ("consul", "mnha-fencer", "mnha-guard", "salt-minion", "salt-master")


def __virtual__():
    return __virtualname__


def outdated(service: str) -> bool:
    """Whether the running service was started before what it depends on was last changed.

    CLI Example:

    .. code-block:: bash

        salt '*' mnha_service.outdated consul
    """
    if service not in SERVICES:
        raise CommandExecutionError(f"{service!r} notes nothing at its start; only {', '.join(SERVICES)} do")
    try:
        done = subprocess.run(
            [STAMP_SCRIPT, service, "--check"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandExecutionError(f"`{STAMP_SCRIPT} {service}` fails: {error}; apply states.host first") from error
    return done.returncode != 0
