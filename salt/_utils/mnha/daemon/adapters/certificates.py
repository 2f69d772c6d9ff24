"""Until when this node's certificates are valid: the files are looked at now and then, in a thread of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...host.certificates import end_of
from ...host.libvirtd import CA_FILE, CERTIFICATE_FILE, PKI_FOLDER
from ..threads import Forever

LOOK_S = 60.0
HANGS_S = 30.0


class Certificates:
    """The certificates of Consul and of libvirt on this node, and their authority's.

    :param ca: Consul's authority; this node's own certificate lies beside it.
    :param libvirt: the folder with libvirt's.
    """

    def __init__(self, ca: Path, libvirt: Path = Path(PKI_FOLDER)) -> None:
        self._files = {
            "authority": ca,
            "consul": ca.with_name("node.pem"),
            "libvirt authority": libvirt / CA_FILE,
            "libvirt": libvirt / CERTIFICATE_FILE,
        }
        self._seen: dict[str, dict[str, Any]] = {}
        self.threads = (Forever("certificates", self._look, limit_s=HANGS_S),)

    def start(self) -> None:
        """Start the thread."""
        for thread in self.threads:
            thread.start()

    def seen(self) -> dict[str, dict[str, Any]]:
        """Each by what it is for: its `file`, and either when it `ends_s` (seconds of the wall clock since 1970) or
        `why` that is not known. Nothing before the first look.
        """
        return self._seen

    def _look(self) -> float:
        self._seen = {name: _looked_at(path) for name, path in self._files.items()}
        return LOOK_S


def _looked_at(path: Path) -> dict[str, Any]:
    try:
        return {"file": str(path), "ends_s": end_of(path).timestamp(), "why": ""}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return {"file": str(path), "ends_s": None, "why": why}
