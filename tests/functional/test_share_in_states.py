"""States and the folder with the images, on a real file system that can be made to hang: they fail, and in seconds."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from mnha.host import share
from tests.support.example import example_with
from tests.support.local_salt import LocalSalt

from .test_probe import Storage, storage  # noqa: F401

LIMIT_S = 0.5
SALT_S = 15.0
"""What `salt-call` may take for itself on a busy machine."""


def test_a_healthy_folder_and_its_image_are_seen(storage: Storage) -> None:  # noqa: F811
    found = share.look(str(storage.folder), str(storage.folder / "vm.img"))
    seen = os.stat(storage.folder / "vm.img")
    owner = [seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)]
    assert found == {"folder": "", "image": "", "owner": owner, "real": os.path.realpath(storage.folder)}


def test_a_folder_that_hangs_is_given_up_in_time_and_named_with_what_is_mounted_there(
    storage: Storage,  # noqa: F811
) -> None:
    storage.hang()
    began_s = time.monotonic()
    with pytest.raises(TimeoutError, match=rf"{storage.folder} does not answer within 0.5 s \(fuse.* at .*folder\)"):
        share.look(str(storage.folder), limit_s=LIMIT_S)
    assert time.monotonic() - began_s < LIMIT_S + 2
    storage.go_on()
    assert share.look(str(storage.folder))["folder"] == ""


def test_an_image_is_given_to_its_user(tmp_path: Path) -> None:
    image = tmp_path / "vm.img"
    image.write_bytes(b"")
    assert share.look(str(tmp_path), str(image), (1234, 4321, 0o660))["owner"] == [1234, 4321, 0o660]
    seen = image.stat()
    assert (seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode)) == (1234, 4321, 0o660)


@pytest.mark.parametrize(
    ("folder", "image", "found"),
    [
        ("none", "", {"folder": "is missing", "image": "", "owner": None}),
        ("file", "", {"folder": "is no folder", "image": "", "owner": None}),
        (".", "none", {"folder": "", "image": "is missing", "owner": None}),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, folder: str, image: str, found: dict[str, object]) -> None:
    (tmp_path / "file").touch()
    seen = share.look(str(tmp_path / folder), image and str(tmp_path / image))
    assert seen == {**found, "real": str((tmp_path / folder).resolve())}


def test_an_image_that_is_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "vm.img").mkdir()
    assert share.look(str(tmp_path), str(tmp_path / "vm.img"))["image"] == "is no file"


def test_where_nothing_is_mounted_that_is_said(tmp_path: Path) -> None:
    assert share.mounted("/no/such/folder") == "nothing is mounted there"
    assert share.mounted("/proc/self").endswith(" at /proc")


def test_the_states_fail_in_seconds_while_the_folder_hangs_and_say_why(
    storage: Storage,  # noqa: F811
    tmp_path: Path,
) -> None:
    local = LocalSalt(
        tmp_path / "salt", example_with({"image_folder": str(storage.folder), "vms:mnvm:image": "vm.img"})
    )
    assert local.call("saltutil.sync_all")[0] == 0
    code, states, printed = local.call("state.apply", "states.storage")
    assert code == 0, (states, printed)
    assert all(one["result"] and not one["changes"] for one in states.values())
    storage.hang()
    began_s = time.monotonic()
    code, states, printed = local.call("state.apply", "states.storage")
    lasted_s = time.monotonic() - began_s
    storage.go_on()
    assert code != 0
    by_id = {one["__id__"]: one for one in states.values()}
    assert f"{storage.folder} does not answer within 8 s (fuse" in by_id["storage_image_folder"]["comment"]
    assert by_id["storage_image_mnvm"]["result"] is False
    assert "requisite failed" in by_id["storage_image_mnvm"]["comment"], "it is asked once"
    assert lasted_s < share.LIMIT_S + SALT_S
    print(f"state.apply states.storage with a folder that hangs took {lasted_s:.1f} s")


@pytest.mark.nightly
def test_a_dry_run_tells_that_an_image_would_be_given_away_and_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "vm.img").touch(0o600)
    local = LocalSalt(tmp_path / "salt", {})
    words = ("mnha_storage.owned", str(tmp_path / "vm.img"), "user=root", "group=root", "mode='0660'")
    assert local.call("saltutil.sync_all")[0] == 0
    for test, result, mode in (("test=True", None, 0o600), ("test=False", True, 0o660)):
        code, states, printed = local.call("state.single", *words, test)
        (one,) = states.values()
        assert (code, one["result"]) == (0, result), (one, printed)
        assert one["changes"] == {"owner": {"old": "0:0 0600", "new": "0:0 0660"}}
        assert stat.S_IMODE((tmp_path / "vm.img").stat().st_mode) == mode
    code, states, _ = local.call("state.single", *words)
    assert next(iter(states.values()))["changes"] == {}
