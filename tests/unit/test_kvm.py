"""Whether KVM works is answered by a guest, never by the device file alone."""

from __future__ import annotations

import pytest

from mnha.guest import kvm


def test_no_device_is_no(tmp_path, monkeypatch):
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    assert kvm.works(tmp_path / "answer") is False


@pytest.mark.parametrize("answer", [True, False])
def test_the_guest_is_asked_once_a_boot(tmp_path, monkeypatch, answer):
    asked = []
    monkeypatch.setattr(kvm.Path, "is_char_device", lambda self: True)
    monkeypatch.setattr(kvm, "probe", lambda: asked.append(1) or answer)
    assert [kvm.works(tmp_path / "answer") for _ in range(3)] == [answer] * 3
    assert asked == [1]


def test_a_program_that_is_missing_or_ends_otherwise_is_no():
    assert kvm.probe(program="/none/qemu") is False
    assert kvm.probe(program="false") is False


def test_the_boot_sector_is_one():
    assert len(kvm._SECTOR) == 512
    assert kvm._SECTOR.endswith(b"\x55\xaa")
