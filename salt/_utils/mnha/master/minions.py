"""Asking minions from a master: bounded waiting, and never for a node that is known to be dead.

`LocalClient.cmd` waits for every minion that it targets and then asks which of them still work on it, so that
one dead node costs seconds. Here the caller says when it has heard enough.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import salt.client
from salt.exceptions import SaltClientError

from ..errors import DeadlineError, FailedError, UnreachableError
from .replies import Reply as Reply

POLL_S = 0.1
ALIVE_S = 1.5
"""After so long without an answer to an order a ping finds out whether the minion lives at all …"""
PING_S = 6.0
"""… and after so long without its answer the minion counts as dead."""
PING_AGAIN_S = 5.0
"""A minion that was heard is asked by a ping whether it still lives, so long after it was heard last …"""
GONE_S = 20.0
"""… and after so long without any answer it is not waited for any more: its node is down by then, or cut off."""
PATIENCE_S = 0.6
"""So long at least the others are waited for after the first good answer, where several are asked."""
LOOK_LOST_S = 5.0
"""A look that was not answered for so long does not keep the next one back."""


@dataclass(frozen=True)
class Watch:
    """A question that is put to a node again and again while an order to it is being carried out.

    :param every_s: how long after the last answer.
    :param tell: takes each good answer.
    """

    fun: str
    kwarg: Mapping[str, Any]
    tell: Callable[[Any], None]
    every_s: float = 1.0


class Minions:
    """Minions as one master sees them.

    :param conf_file: the master's configuration file; `__opts__` of an orchestration is that of the master's
        minion and would not find the master's key.
    """

    def __init__(self, conf_file: str) -> None:
        self._conf_file = conf_file

    def each(
        self,
        nodes: Sequence[str],
        fun: str,
        kwarg: Mapping[str, Any] | None = None,
        timeout_s: float = 5.0,
        enough: Callable[[Mapping[str, Reply], float], bool] = lambda replies, waited_s: False,
        gone_s: float = float("inf"),
    ) -> dict[str, Reply]:
        """The answers of `nodes` that came within `timeout_s`, or until `enough` says so, or until nobody is left whose
        minion lives.

        :param enough: of the answers so far, and the seconds since the question; asked now and then.
        :param gone_s: a minion that answers neither this nor a ping for so long is not waited for any more.
        """
        replies: dict[str, Reply] = {}
        asides: set[str] = set()
        with self.client() as client:
            jid = self._publish(client, nodes, fun, kwarg)
            began_s = time.monotonic()
            signs = {node: _Signs(began_s) for node in nodes}
            for reply in _replies(client, jid, began_s + timeout_s, asides):
                now_s = time.monotonic()
                if reply is not None and reply.node in signs:
                    signs[reply.node].heard_s = now_s
                if reply is not None and not isinstance(reply.value, _Aside):
                    replies[reply.node] = replace(reply, after_s=now_s - began_s)
                left = [node for node in signs if node not in replies and now_s - signs[node].heard_s <= gone_s]
                if enough(replies, now_s - began_s) or not left:
                    break
                if gone_s < float("inf") and (due := [node for node in left if signs[node].is_ping_due(now_s)]):
                    asides.add(self._publish(client, due, "test.ping", None))
        return replies

    def one(self, node: str, fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 5.0) -> Reply:
        """The answer of one node.

        :raises UnreachableError: its minion does not answer a ping either, or not any more.
        :raises DeadlineError: its minion lives but the function did not end within `timeout_s`.
        """
        return self.watched(node, fun, kwarg, timeout_s, None)

    def watched(
        self, node: str, fun: str, kwarg: Mapping[str, Any] | None, timeout_s: float, watch: Watch | None
    ) -> Reply:
        """As :meth:`one`, with a look at how far it is now and then; one that gets no answer is no trouble."""
        began_s = time.monotonic()
        asides: set[str] = set()
        signs, look_s = _Signs(began_s), began_s + (watch.every_s if watch else float("inf"))
        with self.client() as client:
            jid = self._publish(client, [node], fun, kwarg)
            for reply in _replies(client, jid, began_s + timeout_s, asides):
                if reply is not None and isinstance(reply.value, _Aside):
                    signs.heard_s = time.monotonic()
                    if watch and reply.ok and reply.value.fun == watch.fun:
                        look_s = time.monotonic() + watch.every_s
                        watch.tell(reply.value.value)
                elif reply is not None:
                    return reply
                now_s = time.monotonic()
                if watch and now_s > look_s:
                    look_s = now_s + LOOK_LOST_S
                    asides.add(self._publish(client, [node], watch.fun, watch.kwarg))
                if signs.is_ping_due(now_s):
                    asides.add(self._publish(client, [node], "test.ping", None))
                if signs.heard_s > began_s and now_s - signs.heard_s > GONE_S:
                    raise UnreachableError(
                        f"the minion of {node} does not answer any more, for {GONE_S:g} s: is the node down? See the "
                        "status before repeating it"
                    )
                if signs.heard_s == began_s and now_s - began_s > ALIVE_S + PING_S:
                    break
        if signs.heard_s > began_s:
            raise DeadlineError(
                f"{fun} did not end on {node} within {timeout_s:g} s; see the status before repeating it"
            )
        raise UnreachableError(
            f"the minion of {node} does not answer: is the node up, and salt-minion running there? If it is only late, "
            "it may still do what it was asked: see the status before repeating it"
        )

    def first(
        self, nodes: Sequence[str], fun: str, kwarg: Mapping[str, Any] | None = None, timeout_s: float = 5.0
    ) -> Reply:
        """The first good answer of any of `nodes`. For questions only: all of them are asked.

        :raises UnreachableError: nobody answers.
        :raises FailedError: those who answer all fail; with what the first of them says.
        """
        replies = self.each(nodes, fun, kwarg, timeout_s, lambda found, _: any(reply.ok for reply in found.values()))
        for reply in replies.values():
            if reply.ok:
                return reply
        if replies:
            raise FailedError("; ".join(f"{reply.node}: {reply.said}" for reply in replies.values()))
        raise _nobody(nodes, timeout_s)

    def heard(
        self,
        nodes: Sequence[str],
        fun: str,
        kwarg: Mapping[str, Any] | None = None,
        timeout_s: float = 5.0,
        good: Callable[[Reply], bool] = lambda reply: reply.ok,
        patience_s: float = PATIENCE_S,
    ) -> dict[str, Reply]:
        """The answers of those of `nodes` whose minions are there: after the first good one the others are waited for
        as long again as that took, `patience_s` at least. For questions only: all of them are asked.

        :raises UnreachableError: nobody answers.
        :raises FailedError: those who answer all fail; with what each says.
        """

        def enough(replies: Mapping[str, Reply], waited_s: float) -> bool:
            first_s = min((reply.after_s for reply in replies.values() if good(reply)), default=waited_s)
            return waited_s - first_s >= max(patience_s, first_s)

        replies = self.each(nodes, fun, kwarg, timeout_s, enough)
        if not replies:
            raise _nobody(nodes, timeout_s)
        if not any(reply.ok for reply in replies.values()):
            raise FailedError("; ".join(f"{reply.node}: {reply.said}" for reply in replies.values()))
        return replies

    def client(self) -> Any:
        """A client of the master, a context manager."""
        return salt.client.get_local_client(self._conf_file)

    @staticmethod
    def _publish(client: Any, nodes: Sequence[str], fun: str, kwarg: Mapping[str, Any] | None) -> str:
        """Send the job; its id."""
        _require_master(client.opts)
        try:
            job = client.run_job(list(nodes), fun, [], tgt_type="list", kwarg=dict(kwarg or {}), listen=True, timeout=5)
        except SaltClientError as error:
            raise UnreachableError(
                f"this master does not take the job: {error}; is salt-master running here?"
            ) from error
        if not job or not job.get("jid"):
            raise UnreachableError(
                f"this master knows no minion of the names {', '.join(nodes)}: accept their keys with `salt-key -a`"
            )
        return str(job["jid"])


def _nobody(nodes: Sequence[str], timeout_s: float) -> UnreachableError:
    """That none of `nodes` answers."""
    return UnreachableError(f"none of {', '.join(nodes)} answers within {timeout_s:g} s: is salt-minion running there?")


def _require_master(opts: Mapping[str, Any]) -> None:
    """That a master listens on this machine: Salt itself would find out within 15 s, with errors of its own.

    :raises UnreachableError: none does.
    """
    if opts.get("ipc_mode") == "tcp":
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(Path(opts["sock_dir"]) / "publish_pull.ipc"))
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise UnreachableError("no salt-master runs here: `systemctl start salt-master`") from error
        except OSError:
            return  # busy, or whatever: Salt will say


@dataclass
class _Signs:
    """When a minion was heard last, and when a ping was sent to it last."""

    heard_s: float
    pinged_s: float = float("-inf")

    def __post_init__(self) -> None:
        self._began_s = self.heard_s

    def is_ping_due(self, now_s: float) -> bool:
        """Whether it is to be asked whether it lives; then it counts as asked."""
        wait_s = ALIVE_S if self.pinged_s < self._began_s else PING_AGAIN_S
        is_due = now_s - max(self.heard_s, self.pinged_s) > wait_s
        if is_due:
            self.pinged_s = now_s
        return is_due


@dataclass(frozen=True)
class _Aside:
    """What a node has answered to something else than what is waited for."""

    fun: str
    value: Any


def _replies(client: Any, jid: str, until_s: float, asides: Set[str] = frozenset()) -> Iterator[Reply | None]:
    """The answers to job `jid` as they come, an :class:`_Aside` for one to a job of `asides`, and None now and then."""
    while (left_s := until_s - time.monotonic()) > 0:
        event = client.event.get_event(
            wait=min(POLL_S, left_s),
            tag="salt/job/",
            match_type="startswith",
            full=True,
            no_block=False,
            auto_reconnect=True,
        )
        if not event or "/ret/" not in event["tag"]:
            yield None
            continue
        _, _, found, _, node = event["tag"].split("/", 4)
        data = event["data"]
        good = data.get("success", True) is not False and not data.get("retcode")
        if found == jid:
            yield Reply(node, data.get("return"), good)
        elif found in asides:
            yield Reply(node, _Aside(str(data.get("fun")), data.get("return")), good)
