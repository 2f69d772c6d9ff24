"""What is told of a VM that stands paused, and of a start that finds its lease taken. Pure."""

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


def start_found(name: str, lease: Mapping[str, Any], vm: Mapping[str, Any] | None) -> tuple[bool, str]:
    """What a start has to say whose VM has a holder already: whether all is well, and the sentence.

    :param vm: the status of the holder's guard; None if it could not be asked.
    """
    node, has = lease["holder"], f"{lease['holder']} has the lease (epoch {lease['epoch']})"
    match (vm or {}).get("vm"):
        case "running":
            return True, f"{name} runs on {node}, which {has.removeprefix(f'{node} ')}"
        case "paused":
            text = f"{has}, and {name} is paused there: {why(vm or {}) or 'its guard does not say why'}"
            more = remedy(name, node, vm or {})
            return False, f"{text}; {more}" if more else text
        case None:
            return True, f"{has}; whether {name} runs there could not be asked, see mnha.status"
        case _:
            return True, f"{has} and starts it"
