"""When a running guest is asked for its addresses, and when they are set. Pure: the time comes in.

A guest that boots configures itself by its seed and must not be disturbed: an address that is there already makes many
a guest's own start of its network fail. So after a boot nothing is set at once. A guest whose devices all have some
address has configured itself: if these are not the wanted ones twice in a row, they are set. One with a device that has
none may be about to: it gets a while longer. A guest that a migration has brought, or that this guard finds running, is
set at once. When all is right it is asked now and then only.
"""

from __future__ import annotations

import enum

SETTLE_S = 3.0
"""So long a difference must last before it is set right, and a guest that boots have all it should."""
BOOT_S = 20.0
"""So long a guest that boots may take to an address on each device after its agent has answered first. Debian's agent
begins before the network does; that takes some seconds, or longer where it waits for a link."""
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


class Found(enum.Enum):
    """What the agent tells of the guest's addresses."""

    RIGHT = "they are as wanted"
    OTHER = "each device has some, but not those that are wanted"
    MISSING = "a device has none, or is not there"


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

    def answered(self, now_s: float, found: Found) -> bool:
        """The agent has told the addresses; whether they are to be set now. If not, `next_s` has moved on."""
        if self._heard_s is None:
            self._heard_s = now_s
        if found is Found.RIGHT:
            self._differs_s = None
        elif self._differs_s is None:
            self._differs_s = now_s
        if self._is_ripe(now_s, self._heard_s, found):
            return True
        self.next_s = now_s + (CALM_S if self.is_right and found is Found.RIGHT else SETTLE_S)
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

    def _is_ripe(self, now_s: float, heard_s: float, found: Found) -> bool:
        """Whether the addresses are to be set. When all is right the guest is still told once where it runs."""
        differs_for_s = None if self._differs_s is None else now_s - self._differs_s
        if self._failures or (self._how is Begin.RUNNING and not self.is_right):
            return True
        if found is Found.RIGHT:
            return not self.is_right and now_s - heard_s >= SETTLE_S
        if found is Found.MISSING and not self.is_right:
            return now_s - heard_s >= BOOT_S
        return differs_for_s is not None and differs_for_s >= SETTLE_S
