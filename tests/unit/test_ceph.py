"""What a node is told of Ceph, and the keys of its clients: read, checked, kept, never shown."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest

from mnha.errors import FailedError, InputError
from mnha.host import ceph as texts
from mnha.secrets import ceph as keys

KEY = base64.b64encode(b"\1\0" + b"t" * 8 + b"\x10\0" + b"s" * 16).decode()
OTHER = base64.b64encode(b"\1\0" + b"t" * 8 + b"\x10\0" + b"o" * 16).decode()
KEYRING = f'[client.admin]\n\tkey = {OTHER}\n[client.libvirt]\n\tkey = {KEY}\n\tcaps mon = "profile rbd"\n'


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "c1").mkdir()
    return tmp_path / "c1"


def given(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "given"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_the_configuration_names_monitors_and_key_and_lets_no_question_wait_for_ever() -> None:
    text = texts.configuration(["10.0.0.1", "mon-b:6789"], "/etc/x")
    assert "mon host = 10.0.0.1,mon-b:6789\nkeyring = /etc/x\n" in text
    assert text.count(f"timeout = {texts.ANSWER_S}") == 3


@pytest.mark.parametrize("text", [KEYRING, f"{KEY}\n", texts.keyring("libvirt", KEY)])
def test_a_key_is_read_of_a_keyring_and_alone(tmp_path: Path, text: str) -> None:
    assert keys.of_file(given(tmp_path, text), "libvirt") == KEY


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        (KEYRING, 0o644, "can be read by others .mode 0644.: `chmod 600"),
        (KEYRING.replace("libvirt", "other"), 0o600, "no key of client.libvirt: write `ceph auth get client.libvirt`"),
        ("[client.libvirt]\n", 0o600, "no key of client.libvirt"),
        ("secret", 0o600, "holds no cephx key: write what `ceph auth get-key"),
        (KEY[:-8], 0o600, "holds no cephx key"),
        ("", 0o600, "holds no cephx key"),
    ],
)
def test_a_file_without_the_key_is_refused_and_its_text_not_shown(
    tmp_path: Path, text: str, mode: int, words: str
) -> None:
    with pytest.raises(InputError, match=words) as error:
        keys.of_file(given(tmp_path, text, mode), "libvirt")
    assert "secret" not in str(error.value)
    assert KEY not in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nosuch can't be read"):
        keys.of_file(str(tmp_path / "nosuch"), "libvirt")


def test_a_key_is_kept_for_root_alone_and_a_newer_one_takes_its_place(store: Path) -> None:
    assert keys.keep(store, "mnvm", KEY, test=True) is True
    assert keys.keys(store) == {}, "a rehearsal writes nothing"
    assert keys.keep(store, "mnvm", KEY) is True
    assert keys.keep(store, "mnvm", KEY) is False
    assert keys.keep(store, "mnvm", OTHER) is True
    assert keys.keep(store, "other", KEY) is True
    assert keys.keys(store) == {"mnvm": OTHER, "other": KEY}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (store / "ceph", *(store / "ceph").iterdir())}
    assert modes == {"ceph": 0o700, "mnvm.key": 0o600, "other.key": 0o600}


def test_what_is_no_key_in_the_store_is_given_to_nobody(store: Path) -> None:
    assert keys.keys(store) == {}
    (store / "ceph").mkdir()
    (store / "ceph/mnvm.key").write_text("x")
    assert keys.keys(store) == {}


def test_before_the_secrets_of_a_cluster_are_made_no_key_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="salt-run mnha.bootstrap c2"):
        keys.keep(tmp_path / "c2", "mnvm", KEY)
