"""What a guard writes into the history: an event that counts is one entry."""

from __future__ import annotations

from typing import Any

from mnha.daemon.answers import Answers
from mnha.daemon.journal import GuardJournal
from mnha.daemon.server import Subscribers


class Written:
    """The history, as a publisher would write it: key -> record, in the order of the first writing."""

    def __init__(self) -> None:
        self.history: dict[str, dict[str, Any]] = {}

    def append(self, folder: str, name: str, value: dict[str, Any]) -> None:
        self.history[folder + name] = value

    def put(self, key: str, value: dict[str, Any]) -> None:
        pass


def journal(written: Written) -> GuardJournal:
    return GuardJournal("c", "node1", "mnvm", written, Subscribers(), Answers())  # type: ignore[arg-type]


def test_an_event_that_counts_is_one_entry_with_its_first_and_its_last_time() -> None:
    written = Written()
    made = journal(written)
    for count in (1, 2, 3):
        made.note("resumed", f"try {count}", count=count)
        made.note("other", "in between")
    entries = [entry for entry in written.history.values() if entry["event"] == "resumed"]
    assert len(entries) == 1
    assert (entries[0]["count"], entries[0]["text"]) == (3, "try 3")
    assert entries[0]["at"] <= entries[0]["last"]
    assert len(written.history) == 4


def test_a_count_that_begins_anew_is_another_entry_as_is_one_whose_beginning_nobody_knows() -> None:
    written = Written()
    made = journal(written)
    for count in (1, 2, 1, 2):
        made.note("paused", "by its disk", count=count)
    journal(written).note("paused", "by its disk", count=5)  # the next guard
    assert sorted(entry["count"] for entry in written.history.values()) == [2, 2, 5]
