"""A fencer as a guard sees it: asked through a port, answering by events, as unkind as a test wants it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from mnha.core.ports import Confirmed


class FakeFencer:
    """It confirms each request as the next event, unless it is silent.

    :param note: writes down what is asked.
    """

    def __init__(self, note: Callable[[str, Any], None]) -> None:
        self._note = note
        self._owed: deque[tuple[str, float | None, int]] = deque()
        self.silent = False
        self.protects = True
        self.as_required = True
        self.refuses: dict[str, str] = {}
        """Why it does not do what is asked by that name."""
        self.until_s: float | None = None
        """To which moment it lets the VM run, as it has confirmed."""
        self.barred = False
        """Whether it has confirmed that nothing comes to life, and was asked nothing else since."""

    def prepare(self, until_s: float, kill_s: float, ticket: int) -> None:
        self._ask("prepare", (until_s, kill_s), until_s, ticket)

    def grant(self, until_s: float, kill_s: float, ticket: int) -> None:
        self._ask("grant", (until_s, kill_s), until_s, ticket)

    def expect(self, until_s: float, ticket: int) -> None:
        self._ask("expect", until_s, self.until_s, ticket)

    def forbid(self, ticket: int) -> None:
        self.until_s = None  # from here on it may have done it
        self._ask("forbid", None, None, ticket)

    def _ask(self, name: str, noted: Any, until_s: float | None, ticket: int) -> None:
        self.barred = False
        self._owed.append((name, until_s, ticket))
        self._note(name, noted)

    def answer(self) -> Confirmed:
        """Its answer to the oldest request."""
        name, until_s, ticket = self._owed.popleft()
        if name in self.refuses:
            return Confirmed(ticket, self.protects, error=self.refuses[name])
        self.until_s, self.barred = until_s, name == "forbid" and not self._owed
        return Confirmed(ticket, self.protects, self.as_required)

    @property
    def owes(self) -> bool:
        """Whether it has something to answer."""
        return bool(self._owed)
