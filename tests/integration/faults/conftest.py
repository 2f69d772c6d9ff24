"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line of figures that shall stand in the output of a run that passes, too."""

    def show(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", flush=True)

    return show
