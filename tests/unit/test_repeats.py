"""What a guard notes again and again becomes one entry that counts; a story keeps its entries."""

from __future__ import annotations

from typing import Any

from mnha.daemon.repeats import MOST, PLAIN, QUIET_S, Repeats


def record(number: int, event: str = "start failed", text: str = "node1 could not start the VM") -> dict[str, Any]:
    return {"at": f"t{number}", "event": event, "text": text, "epoch": number}


def test_what_goes_on_and_on_is_counted_in_the_last_entry_that_it_had_of_its_own() -> None:
    repeats = Repeats()
    for number in range(1, PLAIN + 1):
        assert repeats.counted(record(number), f"e{number}", number) == (f"e{number}", record(number), True)
    for number in range(PLAIN + 1, PLAIN + 4):
        counted = {**record(number), "at": f"t{PLAIN}", "last": f"t{number}", "count": number - PLAIN + 1}
        assert repeats.counted(record(number), "x", number) == (f"e{PLAIN}", counted, False)


def test_rounds_without_end_make_few_entries() -> None:
    repeats, names = Repeats(), set()
    for number in range(3000):
        for event in ("taken", "start failed", "released"):
            names.add(repeats.counted(record(number, event, f"{event} at {number}"), f"{number}-{event}", number)[0])
    assert len(names) == 3 * PLAIN


def test_another_event_another_node_or_a_long_quiet_begins_anew_and_figures_do_not() -> None:
    repeats = Repeats()
    for number in range(PLAIN):
        repeats.counted(record(number, text=f"no renewal of node1 for {number} s, 0.{number} MiB"), str(number), number)
    assert repeats.counted(record(5, text="no renewal of node1 for 5 s, 0.5 MiB"), "x", 5.0)[2] is False
    assert repeats.counted(record(5, text="no renewal of node2 for 5 s, 0.5 MiB"), "x", 5.0)[2]
    assert repeats.counted(record(5, "died", "no renewal of node1 for 5 s, 0.5 MiB"), "x", 5.0)[2]
    late = record(9, text="no renewal of node1 for 9 s, 0.5 MiB")
    assert repeats.counted(late, "y", 5.1 + QUIET_S) == ("y", late, True)


def test_no_more_is_remembered_than_is_of_use() -> None:
    repeats = Repeats()
    for number in range(PLAIN + 1):
        repeats.counted(record(number), str(number), number)
    for number in range(MOST):
        repeats.counted(record(number, f"event {number} of many"), "x", 3.0)
    assert repeats.counted(record(4), "new", 4.0)[2]
