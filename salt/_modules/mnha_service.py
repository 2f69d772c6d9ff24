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


def would_restart(service: str, files: list[str]) -> bool:
    """Whether the running service would be out of date if these files were changed; one that does not run would not.

    As the script of the master says, which may be newer than the one here. `attributes:FILE`: only owner or mode.

    CLI Example:

    .. code-block:: bash

        salt '*' mnha_service.would_restart consul '[/etc/mnha/consul/server.json]'
    """
    if not __salt__["service.status"](service):
        return False
    script = __salt__["cp.cache_file"]("salt://states/host/files/stamp")
    if not script:
        raise CommandExecutionError("the master has no states/host/files/stamp: nobody can say what would be restarted")
    return _says(["sh", script], service, "--check") or (
        bool(files) and _says(["sh", script], service, "--touched", *files)
    )


def outdated(service: str) -> bool:
    """Whether the running service was started before what it depends on was last changed.

    CLI Example:

    .. code-block:: bash

        salt '*' mnha_service.outdated consul
    """
    return _says([STAMP_SCRIPT], service, "--check")


def _says(script: list[str], service: str, *words: str) -> bool:
    """Whether the script ends with something else than 0."""
    if service not in SERVICES:
        raise CommandExecutionError(f"{service!r} notes nothing at its start; only {', '.join(SERVICES)} do")
    try:
        done = subprocess.run([*script, service, *words], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise CommandExecutionError(f"`{script[-1]} {service}` fails: {error}; apply states.host first") from error
    return done.returncode != 0
