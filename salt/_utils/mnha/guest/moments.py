"""When a running guest is asked for its addresses, and when they are set. Pure: the time comes in.

A guest that boots configures itself by its seed and must not be disturbed: an address that is there already makes many
a guest's own start of its network fail. So after a boot its agent must have answered for a while before anything is
set: a moment if all addresses are right, longer if not. A guest that a migration has brought, or that this guard finds
running, is set at once. When all is right it is asked now and then only.
"""

from __future__ import annotations

import enum

SETTLE_S = 5.0
"""So long a difference must last before it is set right, and a guest that boots have all it should."""
BOOT_S = 20.0
"""So long a guest that boots may take to its addresses after its agent has answered first."""
CALM_S = 60.0
"""How often a guest is asked in which nothing is to be done; also after many failures."""
HURRY_S, IN_A_HURRY_S = 1.0, 15.0
"""How often a guest is asked that has just arrived and whose agent is silent, and for how long."""
PATIENCE_S = 300.0
"""So long the agent of a guest is awaited before it is asked less often."""


class Begin(enum.Enum):
    """How it came that a guest is looked at anew."""

    BOOT = "it boots"
    RUNNING = "it runs, and has not booted"


class Moments:
    """The moments for one guest.

    :param how: how it began.
    :param now_s: when, seconds of whichever clock.
    :ivar next_s: when it is to be asked next.
    :ivar is_right: whether all was set since it began.
    """

    def __init__(self, how: Begin, now_s: float) -> None:
        self._how, self._began_s = how, now_s
        self._heard_s: float | None = None
        self._differs_s: float | None = None
        self._failures = 0
        self.next_s = now_s
        self.is_right = False

    def answered(self, now_s: float, differs: bool) -> bool:
        """The agent has told the addresses; whether they are to be set now. If not, `next_s` has moved on.

        :param differs: whether they are not as wanted.
        """
        if self._heard_s is None:
            self._heard_s = now_s
        if not differs:
            self._differs_s = None
        elif self._differs_s is None:
            self._differs_s = now_s
        if self._is_ripe(now_s, self._heard_s):
            return True
        self.next_s = now_s + (CALM_S if self.is_right and not differs else SETTLE_S)
        return False

    def silent(self, now_s: float) -> None:
        """The agent was asked, and has not answered."""
        waits_s = now_s - self._began_s
        if self.is_right or waits_s > PATIENCE_S:
            self.next_s = now_s + CALM_S
        else:
            hurries = self._how is Begin.RUNNING and waits_s < IN_A_HURRY_S
            self.next_s = now_s + (HURRY_S if hurries else SETTLE_S)

    def was_set(self, now_s: float, well: bool) -> None:
        """They were set; whether they are as wanted by then."""
        if well:
            self.is_right, self._failures, self._differs_s = True, 0, None
            self.next_s = now_s + CALM_S
        else:
            self._failures += 1
            self.next_s = now_s + min(CALM_S, SETTLE_S * 2 ** min(self._failures - 1, 10))

    def is_overdue(self, now_s: float, patience_s: float) -> bool:
        """Whether the agent should have been heard by now.

        :param patience_s: how long a guest may take to boot.
        """
        limit_s = patience_s if self._how is Begin.BOOT else CALM_S
        return not self.is_right and now_s - self._began_s > limit_s

    def _is_ripe(self, now_s: float, heard_s: float) -> bool:
        """Whether the addresses are to be set."""
        if self.is_right:
            return self._differs_s is not None and now_s - self._differs_s >= SETTLE_S
        if self._how is Begin.RUNNING or self._failures:
            return True
        return now_s - heard_s >= (SETTLE_S if self._differs_s is None else BOOT_S)
