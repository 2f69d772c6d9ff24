"""How the cluster is, as this node sees it: by its guard's socket and by Consul, and by nobody else."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ..consul.client import POLICY_TOKEN_FILE
from ..daemon import client
from ..errors import FailedError, MnhaError
from ..master import history as recorded
from ..master import records, report
from ..master.replies import Reply

GUARD_FILE = Path("/etc/mnha/guard.json")
GUARD_S = 2.0
RECORDS_S = 2.0


def look(guard_file: Path = GUARD_FILE, token_file: Path = POLICY_TOKEN_FILE) -> tuple[dict[str, Any], dict[str, Any]]:
    """How it is (:func:`mnha.master.report.status`), and the configuration in force; empty: that is not known.

    :raises FailedError: this machine is no node, or its guard's configuration can't be read.
    """
    conf = configuration(guard_file)
    own = str(conf["node"])
    found = records.of_this_node(str(conf["cluster"]), guard_file, token_file)
    reading = records.Reading(found) if found else None
    try:
        said: dict[str, Any] = {"node": own, "errors": {}, "guard": client.request("status", path=conf["socket"],
                                timeout_s=GUARD_S)}  # fmt: skip
    except MnhaError as error:
        said = {"node": own, "errors": {"guard": error.message}}
    view, renewed_s = reading.result(RECORDS_S, with_renewals="guard" not in said) if reading else (None, {})
    told = report.status(
        list(conf["nodes"]), {own: Reply(own, said, True)}, now_s=time.time(), waited_s=0.0, records=view,
        renewed_s=renewed_s, own=own, asks=False,
    )  # fmt: skip
    applied = told.pop("applied") or {}
    return told, dict(applied.get("cluster") or {})


def history(limit: int = 20, guard_file: Path = GUARD_FILE, token_file: Path = POLICY_TOKEN_FILE) -> list[Any]:
    """The cluster's newest events, the newest last.

    :raises FailedError: this machine is no node.
    :raises UnreachableError: no server of Consul answers.
    """
    cluster = str(configuration(guard_file)["cluster"])
    if (found := records.of_this_node(cluster, guard_file, token_file)) is None:
        raise FailedError(f"{token_file} or {guard_file} can't be used: state.apply writes them anew")
    return recorded.newest(found.history(), limit)


def configuration(guard_file: Path = GUARD_FILE) -> dict[str, Any]:
    """The guard's configuration.

    :raises FailedError: it can't be read.
    """
    try:
        found = json.loads(guard_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FailedError("this machine is no node of a cluster: state.apply makes it one") from None
    except PermissionError:
        raise FailedError("only root may ask: sudo zsha …") from None
    except (OSError, ValueError) as error:
        raise FailedError(f"{guard_file} can't be read: {error}; state.apply states.guard writes it anew") from None
    return dict(found)
