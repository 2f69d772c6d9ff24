"""Asking a master for what is missing in Consul: again and again, never in a dry run, and not for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mnha.consul import roles
from mnha.consul.admin import Changes
from mnha.errors import FailedError, UnreachableError

LEFT: Changes = {"token t": {"old": None, "new": "t 1"}}


class Scene:
    """A clock that only moves when somebody sleeps, and how often a master was asked."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.asked_s: list[float] = []

    def run(self, missing: Callable[[float], Changes], dry_run: bool = False) -> Changes:
        return roles.asked(
            lambda: missing(self.now_s),
            lambda: self.asked_s.append(self.now_s),
            dry_run=dry_run,
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )

    def sleep(self, pause_s: float) -> None:
        self.now_s += pause_s


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_where_nothing_is_missing_nobody_is_asked(scene: Scene) -> None:
    assert scene.run(lambda now_s: {}) == {}
    assert scene.asked_s == []
    assert scene.now_s == 0


def test_what_was_missing_is_told_once_it_is_made(scene: Scene) -> None:
    assert scene.run(lambda now_s: LEFT if now_s < 4 else {}) == LEFT
    assert scene.asked_s == [0.0]


def test_a_master_that_did_not_hear_is_asked_again(scene: Scene) -> None:
    scene.run(lambda now_s: LEFT if now_s < 40 else {})
    assert scene.asked_s == [0.0, 15.5, 31.0]


def test_a_dry_run_tells_and_asks_nobody(scene: Scene) -> None:
    assert scene.run(lambda now_s: LEFT, dry_run=True) == LEFT
    assert scene.asked_s == []


def test_a_consul_that_does_not_answer_is_waited_for(scene: Scene) -> None:
    def missing(now_s: float) -> Changes:
        if now_s < 10:
            raise UnreachableError("no leader")
        return {}

    assert scene.run(missing) == {}
    assert scene.now_s == 10
    assert scene.asked_s == []


@pytest.mark.parametrize(("fault", "words"), [(None, "no master has made token t"), ("no leader", "no leader")])
def test_in_the_end_it_is_told_what_is_wrong(scene: Scene, fault: str | None, words: str) -> None:
    def missing(now_s: float) -> Changes:
        if fault:
            raise UnreachableError(fault)
        return LEFT

    with pytest.raises(FailedError, match=words):
        scene.run(missing)
    assert roles.WAIT_S < scene.now_s < roles.WAIT_S + 2
