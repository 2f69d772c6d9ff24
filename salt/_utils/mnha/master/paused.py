"""What is told of a VM that stands paused, and of a start that finds it so. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.model import Pause


def why(vm: Mapping[str, Any]) -> str:
    """Why a VM stands paused, by its guard's status; empty where that does not say."""
    return str((vm.get("paused") or {}).get("why") or "")


def remedy(name: str, node: str, vm: Mapping[str, Any]) -> str:
    """What becomes of a VM that stands paused, and who has to act; empty where its guard does not say why it does."""
    paused = vm.get("paused") or {}
    match paused.get("why"):
        case None | "":
            return ""
        case Pause.IO_ERROR.value | Pause.NO_SPACE.value:
            tried = f", {paused['resumes']} times so far" if paused.get("resumes") else ""
            return f"its guard resumes it when its storage is well again{tried}; see to the storage"
        case _:
            return f"nobody resumes it but `virsh resume {name}` on {node}"


def started(name: str, node: str, epoch: int, vm: Mapping[str, Any]) -> str:
    """What a start has to say whose VM stands paused on the node that has its lease.

    :param vm: what the holder's guard tells of it.
    """
    text = (
        f"{node} has the lease (epoch {epoch}), and {name} is paused there: {why(vm) or 'its guard does not say why'}"
    )
    more = remedy(name, node, vm)
    return f"{text}; {more}" if more else text
