"""The other end of the fence agent: a device that cuts a node's power for real, and answers a second later."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lab.cluster import Cluster, boottime_ns
from lab.settings import LabError
from lab.shell import say, write_whole

ANSWER_S = 1.0
"""From the request to the answer. Real management controllers take some seconds."""
POLL_S = 0.01


@dataclass(frozen=True)
class Request:
    """One request for a node's power to be cut: CLOCK_BOOTTIME when it was found and when it was answered."""

    victim: str
    by: str
    asked_s: float
    answered_s: float


class FenceDevice:
    """A thread that serves requests in the folder that all nodes share. Use it as a context manager."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = threading.Event()
        self._requests: list[Request] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="fence-device", daemon=True)

    @property
    def folder(self) -> Path:
        return self._cluster.settings.shared / "fence"

    def __enter__(self) -> FenceDevice:
        self.folder.mkdir(exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def requests(self, after_s: float = 0.0) -> list[Request]:
        """The requests that were answered, by time."""
        with self._lock:
            return [request for request in self._requests if request.asked_s >= after_s]

    def _work(self) -> None:
        while not self._stop.wait(POLL_S):
            for path in sorted(self.folder.glob("*.request")):
                asked_s = boottime_ns() / 1e9
                path.unlink()
                threading.Thread(target=self._serve, args=(path, asked_s), daemon=True).start()

    def _serve(self, path: Path, asked_s: float) -> None:
        """Cut the power; what could not be done is never confirmed."""
        victim, by, _ = path.stem.split(".", 2)
        try:
            if self._cluster.node(victim).is_on():
                self._cluster.poweroff(victim)
        except LabError as error:
            say(f"fence device: {victim}: {error}")
            return
        time.sleep(max(0.0, asked_s + ANSWER_S - boottime_ns() / 1e9))
        with contextlib.suppress(FileNotFoundError):  # the lab has ended
            write_whole(path.with_suffix(".done"), "off\n")
        with self._lock:
            self._requests.append(Request(victim, by, asked_s, boottime_ns() / 1e9))
