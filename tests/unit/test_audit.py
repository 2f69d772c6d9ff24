"""Who typed what, and what came of it."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.errors import UnreachableError
from mnha.master import audit
from mnha.master.minions import Reply


@pytest.mark.parametrize(
    ("environment", "who"),
    [
        ({}, "root@m1"),
        ({"SUDO_USER": "alice"}, "alice@m1"),
        ({"SSH_CONNECTION": "10.0.0.5 40000 10.0.0.1 22"}, "root@m1 from 10.0.0.5"),
        ({"SUDO_USER": "alice", "SSH_CONNECTION": "fe80::1%eth0 4 x 22"}, "alice@m1 from fe80::1%eth0"),
        ({"SUDO_USER": "", "SSH_CONNECTION": ""}, "root@m1"),
    ],
)
def test_who_it_was_behind_sudo_and_ssh(environment: dict[str, str], who: str) -> None:
    assert audit.who("root", "m1", environment) == who


def test_what_was_typed_and_what_came_of_it() -> None:
    found = audit.entry(
        "mnha.stop", {"vm": "mnvm", "wait_s": 5}, {"result": True, "comment": "off", "vm": "mnvm"}, "me"
    )
    assert found == {"event": "command", "text": "`mnha.stop vm=mnvm wait_s=5` by me: off", "by": "me", "vm": "mnvm"}
    found = audit.entry("mnha.start", {}, {"result": False, "comment": "no\n candidate " + "x" * 999}, "me")
    assert found["text"].startswith("`mnha.start` by me: FAILED: no candidate xxx")
    assert len(found["text"]) < 340
    assert found["vm"] is None


class Minions:
    def __init__(self, answers: bool = True) -> None:
        self.answers = answers
        self.written: list[Any] = []

    def first(self, nodes: Any, fun: str, timeout_s: float) -> Reply:
        if not self.answers:
            raise UnreachableError("nobody")
        return Reply("n2", True, True)

    def one(self, node: str, fun: str, kwarg: Any, timeout_s: float) -> Reply:
        self.written.append((node, fun, kwarg))
        return Reply(node, "key", True)


def test_it_is_written_through_a_node_that_reaches_consul_and_fails_nothing() -> None:
    minions = Minions()
    assert audit.write(minions, ["n1", "n2"], {"event": "command"})
    assert minions.written == [("n2", "mnvm.record", {"event": "command"})]
    assert not audit.write(Minions(answers=False), ["n1"], {})
