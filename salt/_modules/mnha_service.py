"""Whether a service runs with what is on disk, and whether Salt here can load this project's modules at all.

The services of this project note at their start what they depend on (program, libraries, unit, and for Consul its
configuration and certificates). States compare, so that a change is never forgotten and never restarts anything twice.
"""

from __future__ import annotations

import importlib
import subprocess

from salt.exceptions import CommandExecutionError

__virtualname__ = "mnha_service"

STAMP_SCRIPT = "/usr/lib/mnha/stamp"
NEEDED = ("consul", "cryptography", "pydantic", "pyroute2", "requests", "ruamel.yaml")
"""What the other modules import besides Salt. This one needs nothing, so that it is there to tell of them."""
MODULES = ("consul_ha.status", "guard.status", "mnha_config.get", "mnha_storage.own", "mnvm.report")
SERVICES = ("consul", "mnha-fencer", "mnha-guard", "salt-minion", "salt-master")


def __virtual__():
    return __virtualname__


def lost() -> list[str]:
    """What of this project Salt can't load here, a sentence each, with a non-zero return code; empty if all is there.

    A module that can't be imported vanishes without a word, as after an upgrade of Salt that brings another Python.

    CLI Example:

    .. code-block:: bash

        salt '*' mnha_service.lost
    """
    missing, why = [], ""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a package that is there by half may raise
            missing.append(name)
            why = why or f"{error}"
    gone = [function.partition(".")[0] for function in MODULES if function not in __salt__]
    told = [f"Salt's own Python misses {', '.join(missing)} ({why})"] if missing else []
    told += [f"Salt can't load {', '.join(gone)}"] if gone else []
    if told:
        __context__["retcode"] = 1
        told[-1] += f": `salt {__opts__['id']} state.apply states.salt.packages` repairs it"
    return told


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
