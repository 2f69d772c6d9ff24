"""What `mnha-guard --check` makes of what it was told."""

from __future__ import annotations

import pytest

from mnha.daemon.readiness import placed_by
from mnha.errors import FailedError


def test_with_machined_libvirt_can_put_a_vm_into_its_slice() -> None:
    assert "by systemd-machined" in placed_by("loaded")


@pytest.mark.parametrize(
    ("state", "remedy"),
    [
        ("not-found", "apply states.hypervisor"),
        ("masked", "run `systemctl unmask systemd-machined.service`"),
        ("", "does not say"),
    ],
)
def test_without_machined_no_vm_starts_and_the_remedy_is_told(state: str, remedy: str) -> None:
    with pytest.raises(FailedError, match=remedy):
        placed_by(state)
