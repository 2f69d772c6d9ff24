"""A fencer that lets no migration bring a VM to a node that must not have it, by what is so at that very moment."""

from __future__ import annotations

from collections.abc import Callable

from ..core.ports import Confirmed, Event, Fencer


class Reluctant:
    """A :class:`mnha.core.ports.Fencer` in front of another one.

    A VM that arrives writes to the image that its target sees. So before its slice is opened for that, and with each
    renewal of the offer, it is asked whether the target sees the right one. What arrives unexpected is killed by the
    fencer, and the VM goes on at its source.

    :param objection: why this node must not receive the VM now; empty: it may. It must not wait.
    """

    def __init__(self, fencer: Fencer, objection: Callable[[], str], post: Callable[[Event], None]) -> None:
        self._fencer, self._objection, self._post = fencer, objection, post
        self.prepare, self.grant, self.forbid = fencer.prepare, fencer.grant, fencer.forbid

    def expect(self, until_s: float, ticket: int) -> None:
        """See :class:`mnha.core.ports.Fencer`."""
        if why := self._objection():
            self._post(Confirmed(ticket, error=f"a migration may not bring the VM: {why}"))
        else:
            self._fencer.expect(until_s, ticket)
