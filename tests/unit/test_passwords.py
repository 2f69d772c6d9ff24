"""A new password of the guest: made up, or from a file that nobody else can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnha.errors import InputError
from mnha.master import passwords


def test_one_that_is_made_up_is_long_and_another_each_time() -> None:
    found = {passwords.made_up() for _ in range(50)}
    assert len(found) == 50
    assert {len(one) for one in found} == {16}
    assert not set("".join(found)) & set("lIO01")


@pytest.mark.parametrize("text", ["correct horse", "correct horse\n", "correct horse\r\n"])
def test_one_of_a_file_is_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text, newline="")
    path.chmod(0o600)
    assert passwords.of_file(str(path)) == "correct horse"


@pytest.mark.parametrize("text", ["", "short\n", "two good\nlines here\n", "x" * 129, "with\x00nothing"])
def test_what_holds_no_password_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match="holds no password"):
        passwords.of_file(str(path))


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("correct horse")
    path.chmod(0o640)
    with pytest.raises(InputError, match="mode 0640"):
        passwords.of_file(str(path))
    with pytest.raises(InputError, match="can't be read"):
        passwords.of_file(str(tmp_path / "no"))
