"""The states of a disk in Ceph: what they write on a node, for whom, and that no key is shown."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from mnha.config import rbd
from mnha.guest import libvirt_domains, libvirt_secret
from tests.support.example import example_with
from tests.support.local_salt import LocalSalt

from .test_disk_watch import hosted  # noqa: F401

KEY = base64.b64encode(b"\1\0" + b"t" * 8 + b"\x10\0" + b"s" * 16).decode()
OTHER = base64.b64encode(b"\1\0" + b"t" * 8 + b"\x10\0" + b"o" * 16).decode()
IN_CEPH = {"vms:mnvm:image": ..., "vms:mnvm:rbd:pool": "mn", "vms:mnvm:rbd:monitors": ["10.0.0.1", "b:6789"]}


def pillar_of(changes: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    return {**example_with(changes), "mnha_secrets": {"ca": "x", "ceph": {"mnvm": key} if key else {}}}


@pytest.fixture
def minion(tmp_path: Path) -> LocalSalt:
    found = LocalSalt(tmp_path / "minion", pillar_of({**IN_CEPH, "image_folder": ...}))
    found.here("saltutil.sync_all")
    return found


def shown(minion: LocalSalt, sls: str) -> dict[str, Any]:
    """The states of an SLS as they are rendered, by id."""
    code, states, said = minion.call("state.show_low_sls", sls, "--skip-grains")
    assert code == 0, said
    assert isinstance(states, list), states
    return {f"{one['state']}.{one['fun']} {one['__id__']}": one for one in states}


def test_a_vm_in_ceph_needs_no_folder_and_gets_files_secret_and_driver(minion: LocalSalt) -> None:
    states = shown(minion, "states.mnvm")
    assert "mnha_ceph.configured storage_ceph_mnvm" in states
    assert "mnha_ceph.known_to_libvirt mnvm_secret_mnvm" in states
    assert "mnvm.defined mnvm_mnvm" in states
    assert not [one for one in states if one.startswith("mnha_storage")]
    assert "qemu-block-extra" in json.dumps(states["pkg.installed hypervisor_packages"]["pkgs"])
    assert KEY not in json.dumps(states)


def test_a_vm_in_a_file_gets_nothing_of_that(tmp_path: Path) -> None:
    minion = LocalSalt(tmp_path / "minion", pillar_of({}))
    minion.here("saltutil.sync_all")
    states = shown(minion, "states.mnvm")
    assert "mnha_storage.usable storage_image_folder" in states
    assert "mnha_ceph.forgotten storage_ceph_mnvm" in states
    assert "mnha_ceph.known_to_libvirt mnvm_secret_mnvm" not in states
    assert "qemu-block-extra" not in json.dumps(states["pkg.installed hypervisor_packages"]["pkgs"])


def test_a_vm_in_ceph_that_boots_from_the_folder_needs_it(tmp_path: Path) -> None:
    minion = LocalSalt(tmp_path / "minion", pillar_of({**IN_CEPH, "vms:mnvm:boot": {"kernel": "vmlinuz"}}))
    minion.here("saltutil.sync_all")
    assert "mnha_storage.usable storage_image_folder" in shown(minion, "states.storage")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files are written here."""
    for name in ("configuration_file", "keyring_file"):
        real: Callable[[str], str] = getattr(rbd, name)
        monkeypatch.setattr(rbd, name, lambda vm, real=real: str(tmp_path / "ceph" / Path(real(vm)).name))
    return tmp_path / "ceph"


def test_the_files_are_for_root_alone_and_no_change_shows_the_key(minion: LocalSalt, written: Path) -> None:
    would = minion.here("mnha_ceph.files", "mnvm", test=True)
    assert not written.exists()
    done = minion.here("mnha_ceph.files", "mnvm")
    assert done == would
    assert sorted(map(Path, done)) == [written / "mnvm.conf", written / "mnvm.keyring"]
    assert KEY not in json.dumps(done)
    assert (written / "mnvm.keyring").read_text() == f"[client.libvirt]\nkey = {KEY}\n"
    assert "mon host = 10.0.0.1,b:6789\n" in (written / "mnvm.conf").read_text()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (written, *written.iterdir())}
    assert modes == {"ceph": 0o700, "mnvm.conf": 0o600, "mnvm.keyring": 0o600}
    assert minion.here("mnha_ceph.files", "mnvm") == {}
    (written / "mnvm.keyring").chmod(0o644)
    assert list(minion.here("mnha_ceph.files", "mnvm", test=True)) == [str(written / "mnvm.keyring")]
    minion.here("mnha_ceph.files", "mnvm")
    assert stat.S_IMODE((written / "mnvm.keyring").stat().st_mode) == 0o600


def test_without_a_key_the_verb_that_keeps_one_is_named(tmp_path: Path) -> None:
    minion = LocalSalt(tmp_path / "minion", pillar_of(IN_CEPH, key=""))
    minion.here("saltutil.sync_all")
    code, states, said = minion.call("state.single", "mnha_ceph.configured", "name=mnvm")
    assert code != 0
    assert "salt-run mnha.ceph_key FILE vm=mnvm" in json.dumps(states) + said


def test_libvirt_gets_the_key_once_and_a_new_one_when_there_is_one(
    hosted: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libvirt_domains, "URI", hosted.uri)
    monkeypatch.setattr(libvirt_secret, "FOLDER", hosted.root() / "etc/libvirt/secrets")
    uuid, second = "11111111-2222-3333-4444-555555555555", "11111111-2222-3333-4444-555555555556"
    name = libvirt_secret.usage("c", "vm")
    assert libvirt_secret.state(uuid, name, KEY) == libvirt_secret.ABSENT
    libvirt_secret.define(uuid, name, KEY)
    assert libvirt_secret.state(uuid, name, KEY) == ""
    assert libvirt_secret.state(uuid, name, OTHER) == libvirt_secret.OTHER
    libvirt_secret.define(uuid, name, OTHER)
    assert libvirt_secret.state(uuid, name, OTHER) == ""
    with libvirt_domains.connection() as (opened, _), pytest.raises(libvirt.libvirtError, match="private"):
        opened.secretLookupByUUIDString(uuid).value()
    libvirt_secret.define(second, name, KEY)
    assert libvirt_secret.state(second, name, KEY) == ""
    assert libvirt_secret.state(uuid, name, KEY) == libvirt_secret.ABSENT
    assert libvirt_secret.undefine(name) is True
    assert libvirt_secret.undefine(name) is False
