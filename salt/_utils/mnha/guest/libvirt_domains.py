"""libvirt's domains on this node, for Salt's side: looked at, defined, undefined. Never started or killed: the
guard does.

libvirt's errors come out as this project's: not reachable (with the state that installs it) or failed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from ..errors import FailedError, RefusedError, UnreachableError
from . import cpu, domain

URI = "qemu:///system"
AGENT_TIMEOUT_S = 3
PASSWORD_S = 10
STATES = ("no state", "running", "blocked", "paused", "shutting down", "off", "crashed", "suspended")
UNDEFINED = "undefined"


@contextlib.contextmanager
def connection() -> Iterator[tuple[Any, Any]]:
    """A connection to this node's libvirt, and its Python module.

    :raises UnreachableError: the module is missing or libvirtd does not answer.
    :raises FailedError: libvirt fails within the block.
    """
    try:
        import libvirt
    except ImportError as error:
        raise UnreachableError(f"python3-libvirt is missing ({error}); state.apply states.hypervisor") from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        opened = libvirt.open(URI)
    except libvirt.libvirtError as error:
        raise UnreachableError(f"libvirtd does not answer at {URI}: {error}; state.apply states.hypervisor") from error
    try:
        yield opened, libvirt
    except libvirt.libvirtError as error:
        raise FailedError(f"libvirt fails: {error}") from error
    finally:
        opened.close()


def _lookup(opened: Any, name: str) -> Any:
    """The domain of that name; None if it is not defined."""
    return next((one for one in opened.listAllDomains() if one.name() == name), None)


def state(name: str) -> str:
    """The domain's state in libvirt's words, or `undefined`."""
    with connection() as (opened, _):
        found = _lookup(opened, name)
        return UNDEFINED if found is None else STATES[found.state()[0]]


def defined_xml(name: str) -> str | None:
    """The persistent definition; None if there is none."""
    with connection() as (opened, libvirt):
        found = _lookup(opened, name)
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        return None if found is None else str(found.XMLDesc(flags))


def wanted_cpu(name: str) -> cpu.Wanted | None:
    """What another host must be able to do so that the VM, which runs here, can go on there; None: any can.

    :raises FailedError: it does not run here.
    """
    with connection() as (opened, _):
        found = _lookup(opened, name)
        if found is None or not found.isActive():
            raise FailedError(f"{name} does not run on this node")
        return cpu.wanted(str(found.XMLDesc()))


def cpu_objection(wanted: cpu.Wanted) -> str:
    """Why this host can't do what a guest's CPU does elsewhere; empty: it can, or libvirt does not say."""
    with connection() as (opened, libvirt):
        try:
            opened.compareHypervisorCPU(
                None, wanted["arch"], None, wanted["kind"], wanted["cpu"],
                libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
            )  # fmt: skip
        except libvirt.libvirtError as error:
            return str(error) if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE else ""
        return ""


def display(name: str) -> str:
    """Where the VM's VNC display is while it runs here; empty otherwise."""
    with connection() as (opened, _):
        found = _lookup(opened, name)
        return "" if found is None or not found.isActive() else domain.display(str(found.XMLDesc()))


def define(xml: str) -> None:
    """Make `xml` the persistent definition; a VM that runs keeps its present form."""
    with connection() as (opened, _):
        opened.defineXML(xml)


def undefine(name: str) -> bool:
    """Take the definition away; False if there was none.

    :raises RefusedError: the VM runs here.
    """
    with connection() as (opened, _):
        found = _lookup(opened, name)
        if found is None:
            return False
        if found.isActive():
            raise RefusedError(f"{name} runs on this node: stop it first with `salt-run mnha.stop`")
        found.undefine()
    return True


def set_password(name: str, user: str, password: str) -> str:
    """Have the guest agent set a user's password in a running guest; the domain's UUID.

    :raises FailedError: the domain does not run here, or its agent can't do it.
    """
    with connection() as (opened, libvirt):
        found = _lookup(opened, name)
        if found is None or found.state()[0] != libvirt.VIR_DOMAIN_RUNNING:
            raise FailedError(f"{name} does not run on this node")
        found.agentSetResponseTimeout(PASSWORD_S, 0)
        try:
            found.setUserPassword(user, password, 0)
        except libvirt.libvirtError as error:
            remedy = f"is qemu-guest-agent running in it, and is there a user {user}?"
            raise FailedError(f"the guest did not change the password of {user}: {error}; {remedy}") from error
        return str(found.UUIDString())


def ping_agent(name: str) -> None:
    """Ping the QEMU guest agent.

    :raises FailedError: it does not answer.
    """
    with connection() as (opened, _):
        import libvirt_qemu

        found = _lookup(opened, name)
        if found is None:
            raise FailedError(f"{name} is not defined on this node")
        libvirt_qemu.qemuAgentCommand(found, json.dumps({"execute": "guest-ping"}), AGENT_TIMEOUT_S, 0)
