"""The overlap checker against disks written by hand: what must pass, and every way in which it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.checker import check, judge, parse_console
from lab.records import BEAT, BOOT, OVERLAP, SLOT_BYTES, Record, decode, encode, read_ring

A, B, C = "a" * 32, "b" * 32, "c" * 32
SLOTS = 64


def life(boot_id: str, epoch: int, first_seq: int, count: int) -> list[Record]:
    """The records of one orderly boot."""
    return [
        Record(BEAT if number else BOOT, first_seq + number, boot_id, epoch, number, boottime_ns=number * 200_000_000)
        for number in range(count)
    ]


def disk(records: list[Record], slots: int = SLOTS) -> bytes:
    """A disk on which the records were written in the given order."""
    data = bytearray(slots * SLOT_BYTES)
    for record in records:
        at = record.seq % slots * SLOT_BYTES
        data[at : at + SLOT_BYTES] = encode(record)
    return bytes(data)


def faults(records: list[Record], lines: str = "", slots: int = SLOTS) -> str:
    return "\n".join(judge(read_ring(disk(records, slots)), parse_console("node1", lines)).faults)


def line(word: str, record: Record) -> str:
    return (
        f"mnha-heartbeat {word} boot={record.boot_id} epoch={record.epoch} counter={record.counter} seq={record.seq}\n"
    )


def test_a_record_survives_the_disk():
    record = Record(OVERLAP, 7, A, 3, 5, 11, 12, B)
    assert decode(encode(record)) == record


def test_a_torn_record_is_refused():
    slot = bytearray(encode(life(A, 1, 0, 1)[0]))
    slot[30] ^= 1
    with pytest.raises(ValueError, match="torn"):
        decode(bytes(slot))


def test_an_empty_slot_is_no_record():
    assert decode(bytes(SLOT_BYTES)) is None


def test_instances_one_after_the_other_are_proven():
    records = life(A, 1, 0, 10) + life(B, 2, 10, 5) + life(C, 2, 15, 1)
    verdict = judge(read_ring(disk(records)), parse_console("node2", line("BOOT", records[10])))
    assert verdict.ok
    assert [(item.boot_id, item.epoch, item.last_counter) for item in verdict.instances] == [
        (A, 1, 9),
        (B, 2, 4),
        (C, 2, 0),
    ]
    assert verdict.instances[1].nodes == ("node2",)
    assert "no overlap" in verdict.text()


def test_no_record_at_all_proves_nothing():
    verdict = judge(read_ring(disk([])), [])
    assert not verdict.ok
    assert "no record at all" in verdict.faults[0]


def test_a_missing_disk_proves_nothing(tmp_path: Path):
    assert not check(tmp_path / "mnvm.img", {}).ok


def test_a_ring_that_has_wrapped_may_begin_in_the_middle_of_a_boot():
    assert faults(life(A, 1, 0, 100) + life(B, 2, 100, 20)) == ""


def test_only_the_oldest_boot_may_have_lost_its_beginning():
    records = life(A, 1, 0, 100) + life(B, 2, 100, 20)[1:]
    assert "earlier ones are lost" in faults(records)


def test_an_old_instance_that_writes_again_is_an_overlap():
    records = life(A, 1, 0, 10) + life(B, 2, 10, 5) + [Record(BEAT, 15, A, 1, 10)]
    assert "after another instance had written" in faults(records)


def test_an_old_instance_that_overwrites_the_new_ones_first_record_is_an_overlap():
    records = life(A, 1, 0, 10) + life(B, 2, 10, 5) + [Record(BEAT, 10, A, 1, 10)]
    assert f"boot {B[:8]} begins with counter 1" in faults(records)


def test_two_writers_in_turn_are_an_overlap():
    first, second = life(A, 1, 0, 20), life(B, 2, 10, 10)
    mixed = first[:10] + [record for pair in zip(second, first[10:], strict=True) for record in pair]
    assert "the console of node1" in faults(mixed, line("beat", second[3]))
    for split in range(1, 9):
        assert faults(mixed[: 10 + 2 * split] + second[split:]) != "", "whoever stops first, the disk shows the other"


def test_a_writer_that_covers_the_others_records_wholly_is_betrayed_by_the_console():
    first, second = life(A, 1, 0, 20), life(B, 2, 10, 10)
    mixed = first[:10] + [record for pair in zip(first[10:], second, strict=True) for record in pair]
    assert faults(mixed) == "", "the disk alone cannot tell; the guests, which read back, can"
    assert "overwritten" in faults(mixed, line("beat", first[12]))


def test_an_overlap_record_is_a_fault():
    records = [*life(A, 1, 0, 3), Record(OVERLAP, 3, A, 1, 3, other=B)]
    assert "OVERLAP on the disk" in faults(records)


def test_an_overlap_on_a_console_is_a_fault():
    text = f"mnha-heartbeat OVERLAP boot={A} epoch=1 other={B} seq=3\n"
    assert "OVERLAP on the console of node1" in faults(life(A, 1, 0, 3), text)


def test_an_epoch_that_falls_is_a_fault():
    assert "epoch fell from 2 to 1" in faults(life(A, 2, 0, 3) + life(B, 1, 3, 3))


def test_an_epoch_that_changes_within_a_boot_is_a_fault():
    records = life(A, 1, 0, 3)
    records[2] = Record(BEAT, 2, A, 2, 2)
    assert "without a boot" in faults(records)


def test_a_lost_record_in_the_middle_is_a_fault():
    records = life(A, 1, 0, 6)
    del records[3]
    assert "is followed by" in faults(records)


def test_records_missing_between_boots_are_a_fault():
    assert "are missing" in faults(life(A, 1, 0, 3) + life(B, 2, 5, 3))


def test_a_record_that_a_console_saw_and_the_disk_lost_is_a_fault():
    records = life(A, 1, 0, 6)
    assert "the disk has lost it" in faults(records[:4], line("beat", records[5]))


def test_a_record_that_was_overwritten_after_a_console_saw_it_is_a_fault():
    seen = life(A, 1, 0, 6)[5]
    assert "overwritten" in faults(life(A, 1, 0, 5) + life(B, 2, 5, 5), line("beat", seen))


def test_console_lines_older_than_the_ring_are_no_fault():
    records = life(A, 1, 0, 100)
    assert faults(records, line("beat", records[3])) == ""


def test_foreign_bytes_on_the_disk_are_a_fault():
    data = bytearray(disk(life(A, 1, 0, 3)))
    data[5 * SLOT_BYTES : 5 * SLOT_BYTES + 4] = b"ext4"
    assert "not a heartbeat record" in "\n".join(judge(read_ring(bytes(data)), []).faults)


def test_a_record_in_a_foreign_slot_is_a_fault():
    data = bytearray(disk(life(A, 1, 0, 3)))
    data[9 * SLOT_BYTES : 10 * SLOT_BYTES] = encode(Record(BEAT, 3, A, 1, 3))
    assert "whose slot is 3" in "\n".join(judge(read_ring(bytes(data)), []).faults)


def test_the_verdict_names_the_node_of_each_instance(tmp_path: Path):
    records = life(A, 1, 0, 3) + life(B, 2, 3, 3)
    image, one, two = tmp_path / "mnvm.img", tmp_path / "one", tmp_path / "two"
    image.write_bytes(disk(records))
    one.write_text("noise\r\n" + line("BOOT", records[0]))
    two.write_text("[ 0.1] kernel\n" + line("BOOT", records[3]))
    verdict = check(image, {"node1": one, "node3": two})
    assert verdict.ok
    assert [item.nodes for item in verdict.instances] == [("node1",), ("node3",)]
    assert verdict.as_dict()["ok"] is True
