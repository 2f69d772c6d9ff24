"""The history's newest entries, and one entry for a failure that repeats itself."""

from __future__ import annotations

from typing import Any

import pytest

from mnha.master import history

FAILED = {"at": "2026-01-01T00:00:10.000+00:00", "vm": "mnvm", "event": "failover failed", "epoch": 7,
          "reason": "no candidate", "text": "no node can take it over (node1 is lost)"}  # fmt: skip
AGAIN = {**FAILED, "at": "2026-01-01T00:00:15.000+00:00", "text": "no node can take it over (3 MiB are free)"}


def entry(at: str, **changes: Any) -> dict[str, Any]:
    return {"at": f"2026-01-01T00:00:{at}.000+00:00", "vm": "mnvm", "event": "taken", "epoch": 7, "text": "", **changes}


@pytest.mark.parametrize(
    ("others", "changes", "is_same"),
    [
        ({}, {}, True),
        ({"a": entry("11", vm="other")}, {}, True),
        ({"a": entry("11")}, {}, True),  # something else happened in between
        ({"a": entry("05")}, {}, True),
        ({}, {"epoch": 8}, False),
        ({"l": {**FAILED, "epoch": 6}}, {"epoch": 8}, True),  # the third time, in the third round
        ({"l": {**FAILED, "epoch": 6}}, {"epoch": 8, "at": "2026-01-01T00:10:10.000+00:00"}, False),
        ({"l": {**FAILED, "epoch": 6}}, {"epoch": 8, "at": "?"}, False),
        ({"l": {**FAILED, "epoch": 6, "vm": "other"}}, {"epoch": 8}, False),
        ({}, {"vm": None}, False),
        ({}, {"reason": "node2 refused"}, False),
        ({}, {"event": "failover"}, False),
        ({}, {"vm": "other"}, False),
        ({}, {"reason": ""}, False),
    ],
)
def test_only_the_same_failure_is_a_repetition_at_the_same_epoch_or_for_the_third_time(
    others, changes, is_same
) -> None:
    found = history.find_same({"k": FAILED, **others}, {**AGAIN, **changes})
    assert (found in ("k", "l")) == is_same


def test_an_empty_history_holds_no_repetition() -> None:
    assert history.find_same({}, AGAIN) is None


def test_the_maintenance_of_two_nodes_for_one_reason_is_not_the_same() -> None:
    on = {
        "at": FAILED["at"],
        "event": "maintenance on",
        "vm": None,
        "reason": "kernel",
        "text": "node1 is in maintenance",
    }
    assert history.find_same({"k": on, "l": on}, {**on, "text": "node2 is in maintenance"}) is None


def test_a_repetition_grows_a_count_and_keeps_the_first_time_and_the_newest_words() -> None:
    twice = history.repeated(FAILED, AGAIN)
    assert (twice["at"], twice["last"], twice["count"]) == (FAILED["at"], AGAIN["at"], 2)
    assert twice["text"] == AGAIN["text"]
    third = history.repeated(twice, entry("20", event="failover failed", reason="no candidate"))
    assert (third["at"], third["last"], third["count"]) == (FAILED["at"], "2026-01-01T00:00:20.000+00:00", 3)
    assert history.find_same({"k": third}, AGAIN) == "k"


def test_the_newest_are_those_that_happened_last() -> None:
    entries = {"1": history.repeated(FAILED, entry("30", event="failover failed")), "2": entry("20"), "3": entry("25")}
    assert history.newest(entries, 2) == [entries["3"], entries["1"]]
    assert history.newest(entries, 1) == [entries["1"]]
    assert history.newest(entries, 0) == []
    assert len(history.newest(entries, 9)) == 3
    assert history.newest({}, 5) == []


class Kv:
    """One entry in a store of which others are faster, so many times."""

    def __init__(self, faster: int) -> None:
        self.entries, self.index, self.faster = {"k": dict(FAILED)}, 1, faster

    def get(self, key: str) -> dict[str, Any]:
        found = {"value": self.entries[key], "index": self.index}
        if self.faster:
            self.faster -= 1
            self.entries[key], self.index = history.repeated(self.entries[key], AGAIN), self.index + 1
        return found

    def cas(self, key: str, value: Any, index: int) -> bool:
        if index != self.index:
            return False
        self.entries[key], self.index = value, self.index + 1
        return True


@pytest.mark.parametrize("faster", [0, 1, history.COUNT_TRIES - 1])
def test_each_of_several_that_tell_the_same_at_once_is_counted_in_one_entry(faster: int) -> None:
    kv = Kv(faster)
    assert history.count_again(AGAIN, lambda: kv.entries, kv.get, kv.cas) == "k"
    assert kv.entries["k"]["count"] == 2 + faster
    assert list(kv.entries) == ["k"]


def test_nothing_is_counted_where_nothing_is_repeated_or_others_are_faster_each_time() -> None:
    kv = Kv(0)
    assert history.count_again({**AGAIN, "reason": "another"}, lambda: kv.entries, kv.get, kv.cas) == ""
    assert kv.entries == {"k": FAILED}
    kv = Kv(history.COUNT_TRIES)
    assert history.count_again(AGAIN, lambda: kv.entries, kv.get, kv.cas) == ""
    assert kv.entries["k"]["count"] == 1 + history.COUNT_TRIES


@pytest.mark.parametrize("event", history.WELL)
@pytest.mark.parametrize(
    ("at", "is_same"), [("2026-01-01T00:00:50.000+00:00", True), ("2026-01-01T00:02:00.000+00:00", False)]
)
def test_what_went_well_is_counted_only_where_it_happens_again_and_again(event: str, at: str, is_same: bool) -> None:
    """Each with an epoch of its own: a failover minutes after another one is not the same, though its reason is."""
    before = {"k": {**FAILED, "event": event}, "l": {**FAILED, "event": event, "epoch": 8}}
    found = history.find_same(before, {**FAILED, "event": event, "epoch": 9, "at": at})
    assert (found is not None) == is_same
