"""What the bench of killed VMs makes of its rounds."""

from __future__ import annotations

from tests.bench.kill import KINDS, Found, rates

HUGE, SMALL = KINDS[0], KINDS[2]


def test_the_rate_is_that_of_the_larger_sizes() -> None:
    found = [Found(HUGE, 1, (0.1,), 0.9), Found(HUGE, 2, (0.1,), 1.0), Found(HUGE, 8, (0.08, 0.4), 1.0),
             Found(SMALL, 8, (4.0,), 0.0)]  # fmt: skip
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in rates(found).splitlines()]
    assert lines[0] == ["s per GiB, 2 GiB and more", "min", "median", "max", "n"]
    assert lines[2:] == [
        ["huge pages, cores quiet", "0.010", "0.050", "0.050", "3"],
        ["4 KiB pages, cores quiet", "0.500", "0.500", "0.500", "1"],
    ]


def test_nothing_measured_is_no_error() -> None:
    assert "s per GiB" in rates([])
