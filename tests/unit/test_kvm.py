"""Whether KVM works is answered by a guest, never by the device file alone."""

from __future__ import annotations

import pytest

from mnha.errors import FailedError
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


def test_a_program_that_ends_otherwise_is_no():
    assert kvm.probe(program="false") is False


def test_a_program_that_can_not_be_started_says_nothing_and_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(kvm.Path, "is_char_device", lambda self: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FailedError, match="can't be found out"):
        kvm.works(tmp_path / "answer")
    assert not (tmp_path / "answer").exists()


@pytest.mark.parametrize("rubbish", ["", "ye", "\xff"])
def test_an_answer_that_can_not_be_read_is_asked_for_again(tmp_path, monkeypatch, rubbish):
    monkeypatch.setattr(kvm.Path, "is_char_device", lambda self: True)
    monkeypatch.setattr(kvm, "probe", lambda: True)
    (tmp_path / "answer").write_text(rubbish, encoding="latin-1")
    assert kvm.works(tmp_path / "answer") is True
    assert (tmp_path / "answer").read_text() == "yes\n"


def test_a_guest_that_hangs_once_is_given_more_time(tmp_path, monkeypatch):
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n[ -e {tmp_path}/again ] && exit 33\ntouch {tmp_path}/again\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(kvm, "TIMEOUTS_S", (0.5, 10.0))
    assert kvm.probe(program=str(program)) is True


def test_the_boot_sector_is_one():
    assert len(kvm._SECTOR) == 512
    assert kvm._SECTOR.endswith(b"\x55\xaa")
