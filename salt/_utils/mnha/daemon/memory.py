"""What this node's memory has left for one more VM: not what is free at the moment, but what stays free when all that
are here, or on their way, have what is theirs.

A VM takes its memory bit by bit, as its guest touches it: one that has just started has hardly any, and all of it soon.
Pages that the kernel makes huge by itself, as QEMU asks for, count like others. Those that an operator has set aside
(hugetlb) are not free, and no protected VM uses them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core import lease as rules
from ..core.guard import Guard
from ..core.model import Op, Vm
from .adapters.probe import free_memory_mib

PAGES_PER_MIB = (1 << 20) // os.sysconf("SC_PAGE_SIZE")


class Memory:
    """The memory of this node, as its guards share it. May be asked in any thread.

    :param config: what :func:`mnha.daemon.settings.load` returned.
    :param guards: VM -> its guard.
    """

    def __init__(self, config: Mapping[str, Any], guards: Mapping[str, Guard]) -> None:
        self._sizes_mib = {vm["name"]: int(vm["memory_mib"]) for vm in config["vms"]}
        self._reserve_mib = int(config.get("memory_reserve_mib", 0))
        self._guards, self._node = guards, config["node"]

    def free_mib(self) -> int:
        """What is free when the VMs that are alive here have all that is theirs; 0 if they do not even fit."""
        return max(0, free_memory_mib() - sum(self._alive().values()))

    def lack(self, vm: str) -> str:
        """Why a VM that is not alive here would not fit; empty when it would.

        One whose lease is here, or that was ordered to come here, has its place by that. It need not leave the host its
        reserve, and of several such the largest comes first, as in :mod:`mnha.core.placement`.
        """
        coming = [name for name, guard in self._guards.items() if _comes(guard)]
        if comes := vm in coming:
            coming = [name for name in coming if self._rank(name) < self._rank(vm)]
        others = {**self._alive(), **{name: self._sizes_mib[name] for name in coming}}
        free_mib, reserve_mib = free_memory_mib(), 0 if comes else self._reserve_mib
        if free_mib - sum(others.values()) - reserve_mib >= self._sizes_mib[vm]:
            return ""
        more = [f"{mib} MiB of them for {name}" for name, mib in sorted(others.items()) if mib]
        more += [f"{reserve_mib} MiB for the host"] if reserve_mib else []
        free = f"{free_mib} MiB of memory are free"
        return f"{', '.join([free, *more])}; the VM needs {self._sizes_mib[vm]} MiB"

    def objection(self, vm: str) -> str:
        """Why an order to take a VM over is not to be carried out for want of memory; empty when it may be, or when the
        VM is here already.
        """
        guard = self._guards[vm]
        if guard.view.vm is not Vm.OFF or rules.is_mine(guard.view):
            return ""
        lack = self.lack(vm)
        return f"{self._node} can't run the VM: {lack}" if lack else ""

    def _alive(self) -> dict[str, int]:
        """VM -> MiB that it may still take, of those that are alive here."""
        return {
            name: max(0, self._sizes_mib[name] - _resident_mib(guard.vm_pid))
            for name, guard in self._guards.items()
            if guard.view.vm is not Vm.OFF
        }

    def _rank(self, vm: str) -> tuple[int, str]:
        """Who of several comes first."""
        return -self._sizes_mib[vm], vm


def _comes(guard: Guard) -> bool:
    """Whether a VM that is off here has its place here."""
    view = guard.view
    ordered = view.order is not None and view.order.op is Op.TAKEOVER
    return view.vm is Vm.OFF and (rules.is_mine(view) or ordered)


def _resident_mib(pid: int | None) -> int:
    """How much memory a process has touched, in MiB; 0 if it can't be known."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if pid is not None:
            return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) // PAGES_PER_MIB
    return 0
