"""The threads of the guard that do one thing for ever, whatever comes of it.

Each call into the world may end in a way that nobody expected, hang, or bring nonsense. What an adapter knows of, it
handles and tells itself. What it does not know of ends here: as a fault for the status, a line in the log, and a pause,
for these threads have real-time priority and must not run hot. Never as the end of the thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from ..errors import MnhaError
from ..host.clock import boottime_s

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 4.0
"""How long is waited after the first failure, and at the most after many in a row."""
TOLD_S = 60.0
"""How long a fault is told if nothing shows that it is over."""
LOG_AGAIN_S = 60.0
"""How often the same fault is logged."""


class KnownFailure(Exception):
    """Raised by a turn that can't do its work for a reason that it knows: told, without a trace in the log.

    :param why: the reason, for people.
    :param pause_s: how long to wait now, in seconds.
    """

    def __init__(self, why: str, pause_s: float) -> None:
        super().__init__(why)
        self.why, self.pause_s = why, pause_s


class Fault:
    """What nobody expected at one place: logged, and told until it is over.

    :param name: of the place, as the status and the log have it.
    :param told_s: how long a failure is told if nothing is said of its end.
    """

    def __init__(self, name: str, told_s: float = TOLD_S) -> None:
        self.name, self._told_s = name, told_s
        self._why, self._at_s, self._count = "", float("-inf"), 0
        self._logged, self._logged_s = "", float("-inf")

    @property
    def why(self) -> str:
        """What has gone wrong lately; empty: nothing."""
        return self._why if boottime_s() - self._at_s < self._told_s else ""

    def tell(self, why: str) -> None:
        """It has failed for a reason that is known."""
        if not self._why:
            log.warning("%s: %s", self.name, why)
        self._why, self._at_s = why, boottime_s()

    def note(self, error: Exception) -> float:
        """It has failed, in the way of `error`; to be called while that is handled. Returns how long to wait now, in
        seconds.
        """
        now_s = boottime_s()
        why = (error.message if isinstance(error, MnhaError) else repr(error))[:500]
        self._count = self._count + 1 if self.why else 1
        self._why, self._at_s = why, now_s
        if why != self._logged or now_s - self._logged_s > LOG_AGAIN_S:
            self._logged, self._logged_s = why, now_s
            log.error("%s: %s", self.name, why, exc_info=not isinstance(error, MnhaError))
        return float(min(FIRST_PAUSE_S * 2 ** min(self._count - 1, 10), LONGEST_PAUSE_S))

    def over(self) -> None:
        """It has succeeded."""
        if self._why:
            log.warning("%s: well again", self.name)
        self._why, self._logged = "", ""


class Forever:
    """One or more threads that go round for ever.

    :param name: of the threads, and of their faults.
    :param turn: one round. It returns how long to wait before the next one, in seconds.
    :param limit_s: a round that takes longer is told to hang.
    :param threads: how many go round.
    :param longest_pause_s: how long is waited at the most after failures in a row; 0 for who waits for work first.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], float],
        *,
        limit_s: float = float("inf"),
        threads: int = 1,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        self.name, self._turn, self._limit_s, self._threads = name, turn, limit_s, threads
        self._fault, self._longest_pause_s = Fault(name), longest_pause_s
        self._began: dict[int, tuple[float, float]] = {}

    def start(self) -> None:
        """Start the threads."""
        for _ in range(self._threads):
            threading.Thread(target=self.run, name=self.name, daemon=True).start()

    @property
    def why(self) -> str:
        """Why it does not do its work now; empty if it does."""
        return self.hangs or self._fault.why

    @property
    def hangs(self) -> str:
        """For how long a round has not ended that should have; empty if none has."""
        now_s = boottime_s()
        longest_s = max((now_s - began_s for began_s, limit_s in self._all() if now_s - began_s > limit_s), default=0.0)
        return f"it has hung for {longest_s:.0f} s" if longest_s else ""

    def _all(self) -> list[tuple[float, float]]:
        """When each round under way began, and how long it may take."""
        return list(self._began.copy().values())

    def expect(self, limit_s: float) -> None:
        """From within a round: what begins now, after a wait for work, takes `limit_s` at the most."""
        self._began[threading.get_ident()] = boottime_s(), limit_s

    def well(self) -> None:
        """From within a round that is long: what it is for succeeds."""
        self._fault.over()

    def run(self) -> None:
        """Go round for ever, in this thread."""
        while True:
            self.expect(self._limit_s)
            try:
                pause_s = self._turn()
            except KnownFailure as failure:
                self._fault.tell(failure.why)
                pause_s = failure.pause_s
            except Exception as error:
                pause_s = min(self._fault.note(error), self._longest_pause_s)
            else:
                self._fault.over()
            self._began.pop(threading.get_ident(), None)
            time.sleep(pause_s)


def faults(places: Iterable[Forever | Fault]) -> dict[str, str]:
    """What does not do its work now, by name, and why."""
    found = [(place.name, place.why) for place in places]
    return {name: why for name, why in found if why}
