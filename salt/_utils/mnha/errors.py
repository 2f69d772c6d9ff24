"""Every error of this project, in one tree, by who must act.

=====================  ===========  ==============================================================================
class                  kind         who must act
=====================  ===========  ==============================================================================
InputError             invalid      the operator: a name or value given on the command line or in a request
ConfigurationError     invalid      whoever wrote the pillar; ``faults`` lists everything that is wrong at once
RefusedError           refused      nobody, as a rule: the lease or a rule says no, and names who may instead
UnreachableError       unreachable  the environment: something did not answer; nothing is known to have happened
DeadlineError          timeout      the environment: an answer did not come in time; the outcome is *not known*
FailedError            failed       the environment: something answered, tried, and could not do it
BugError               failed       us: an invariant of this code does not hold
=====================  ===========  ==============================================================================

*Refused* and *unreachable* are never mixed up: a refusal is knowledge, silence is not. Callers tell errors apart by
class or by ``kind``, never by text. ``kind`` is also the word in the guard's socket protocol (docs/architecture.md),
so an error crosses the socket and comes out as one of the same kind: ``to_wire`` and ``from_wire``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Kind = Literal["refused", "invalid", "unreachable", "failed", "timeout"]

__all__ = [
    "BugError",
    "ConfigurationError",
    "DeadlineError",
    "FailedError",
    "Fault",
    "InputError",
    "Kind",
    "MnhaError",
    "RefusedError",
    "UnreachableError",
    "from_wire",
]


class MnhaError(Exception):
    """Base of all errors that this project raises on purpose.

    ``message`` names the thing and the remedy, in one sentence for the operator.
    """

    kind: ClassVar[Kind] = "failed"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def to_wire(self) -> dict[str, str]:
        """The ``error`` object of the guard's socket protocol."""
        return {"kind": self.kind, "message": self.message}


class InputError(MnhaError):
    """The operator gave a name or value that does not exist or makes no sense (unknown VM, unknown node)."""

    kind = "invalid"


@dataclass(frozen=True)
class Fault:
    """One thing wrong in a configuration.

    ``path`` is where (``mnha:cluster:vms:mnvm:cpus``, colons as in Salt's pillar lookups), ``value`` what stands there
    (``None`` if nothing does), ``problem`` why that is wrong and ``remedy`` what to write instead.
    """

    path: str
    value: Any
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}; {self.remedy}" if self.remedy else f"{self.path}: {self.problem}"


class ConfigurationError(MnhaError):
    """The configuration is wrong. Nothing has been changed.

    Raised either with a message (one relation is violated) or with ``faults`` (everything that is wrong with a whole
    configuration, at once); the message is then made from them.
    """

    kind = "invalid"

    def __init__(self, message: str = "", faults: Iterable[Fault] = ()) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__(message or self._sentence())

    def _sentence(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        lines = [f"{len(self.faults)} faults in the configuration:"]
        lines.extend(f"  {fault}" for fault in self.faults)
        return "\n".join(lines)


class RefusedError(MnhaError):
    """Somebody who knows said no: the lease has another holder, the epoch is another, maintenance is on."""

    kind = "refused"


class UnreachableError(MnhaError):
    """Something did not answer (Consul, libvirt, the guard's socket, the storage); the message names it and where."""

    kind = "unreachable"


class DeadlineError(MnhaError):
    """The time allowed is over. What was asked for may still happen: read the status before asking again."""

    kind = "timeout"


class FailedError(MnhaError):
    """It was tried and did not work (QEMU did not start, an image is locked); the message says what is left behind."""

    kind = "failed"


class BugError(MnhaError):
    """An invariant of this code does not hold. Report it with the journal of the moment; no input should cause it."""

    kind = "failed"


_BY_KIND: dict[str, type[MnhaError]] = {
    "refused": RefusedError,
    "invalid": InputError,
    "unreachable": UnreachableError,
    "failed": FailedError,
    "timeout": DeadlineError,
}


def from_wire(error: Mapping[str, Any]) -> MnhaError:
    """Turn the ``error`` object of a socket answer back into an exception (returned, not raised).

    An object that does not follow the protocol is a :class:`BugError`: the two ends differ in version.
    """
    kind, message = error.get("kind"), error.get("message")
    if not isinstance(kind, str) or kind not in _BY_KIND or not isinstance(message, str):
        return BugError(f"the guard answered with an error that the protocol does not know: {dict(error)!r}")
    return _BY_KIND[kind](message)
