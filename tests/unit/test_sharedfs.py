"""The execution module and the state `sharedfs`, in a world of its own: a table of mounts, units in a folder, and what
systemd would do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from mnha.host import file_servers, mounts, open_files, share
from tests.support.example import ROOT

ROOT_LINE = "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw"
SHARED = "77 22 0:50 / /srv/shared rw,noatime - nfs4 nfs1:/shared rw,vers=4.2,hard"
OVER = "78 77 0:60 / /srv/shared/mngt rw - tmpfs tmpfs rw"
IMAGES, IMAGE = "/srv/shared/mngt", "/srv/shared/mngt/vm.img"
SOURCE = "nfs1:/export"


def loaded(kind: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("sharedfs_under_test", ROOT / f"salt/_{kind}/sharedfs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class World:
    """A host: its mounts, its VMs with what they have open, its units and what was run."""

    def __init__(self, folder: Path) -> None:
        self.units, self.table, self.ran = folder, [ROOT_LINE], list[str]()
        self.vms: dict[str, list[int]] = {}
        self.open: list[open_files.Open] = []
        self.unsafe_mount, self.silent, self.fails = "refuse", False, dict[str, str]()
        self.enabled: set[str] = set()
        self.makes: dict[str, str] = {}

    def run(self, words: list[str], *, check: bool = True, why: str = "") -> str:
        line = " ".join(words)
        self.ran.append(line)
        for beginning, said in self.fails.items():
            if line.startswith(beginning) and check:
                raise CommandExecutionError(f"{why}: {said}" if why else said)
        match words:
            case ["systemd-escape", *_, folder]:
                return f"{folder.strip('/').replace('/', '-')}.mount"
            case ["systemctl", "is-enabled", unit]:
                return "enabled" if unit in self.enabled else "disabled"
            case ["systemctl", "enable", unit]:
                self.enabled.add(unit)
            case ["systemctl", "disable", unit]:
                self.enabled.discard(unit)
            case ["modprobe", *_] if check:
                raise CommandExecutionError("no such module")
            case ["systemctl", "show", *_]:
                return "exit-code"
            case ["journalctl", *_]:
                return "mount.nfs: access denied by server" if "--unit=" in line else ""
            case ["umount", *_] | ["systemctl", "stop", *_] if not words[-1].startswith("mnha-") and self.table[1:]:
                self.table.pop()
            case ["systemctl", "start", unit] if unit in self.makes:
                self.table.append(self.makes[unit])
        return ""

    def has_units(self) -> list[str]:
        return sorted(path.name for path in self.units.iterdir())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def module(world: World, monkeypatch: pytest.MonkeyPatch) -> Any:
    made: Any = loaded("modules")
    cluster = lambda: SimpleNamespace(image_folder=IMAGES, unsafe_mount=world.unsafe_mount)  # noqa: E731
    made.__salt__ = {"guard.vms_here": lambda: sorted(world.vms), "guard.processes_here": lambda: world.vms,
                     "mnha_config.cluster": cluster, "mnha_config.in_force": cluster}  # fmt: skip
    made.__opts__, made.__pillar__, made.__context__ = {"id": "node1"}, {"mnha": {"cluster": {"x": 1}}}, {}
    monkeypatch.setattr(made, "UNITS", world.units)
    monkeypatch.setattr(made, "AGAIN_UNIT", world.units / "mnha-mount-again@.service")
    monkeypatch.setattr(made, "_run", world.run)
    monkeypatch.setattr(mounts, "table", lambda: world.table)
    monkeypatch.setattr(open_files, "of", lambda _: world.open)
    monkeypatch.setattr(share, "look", lambda folder: {"folder": "", "real": folder})
    monkeypatch.setattr(file_servers, "is_silent", lambda _: world.silent)
    return made


def refusal(function: Callable[..., Any], *words: Any, **named: Any) -> str:
    with pytest.raises(CommandExecutionError) as caught:
        function(*words, **named)
    return str(caught.value)


def a_vm_runs(world: World, line: str = SHARED) -> None:
    carrier = mounts.parse(line)
    assert carrier
    world.vms, world.open = {"mnvm": [7]}, [open_files.Open(IMAGE, carrier.place)]


@pytest.mark.parametrize("test", [True, False])
def test_all_faults_come_at_once_and_nothing_is_done(module: Any, world: World, test: bool) -> None:
    said = refusal(module.mounted, "etc", "nfs1", kind="nfs5", options=["ro", 5], test=test)
    assert [line.split(":")[0] for line in said.splitlines()] == ["folder", "kind", "options"]
    said = refusal(module.mounted, "/etc", "nfs1", options={"a": 1}, test=test)
    assert [line.split(":")[0] for line in said.splitlines()] == ["folder", "source", "options"]
    assert world.has_units() == []
    assert [line for line in world.ran if line.startswith("systemctl")] == []


def test_a_type_that_this_host_does_not_know_is_refused_with_one_that_it_does(module: Any) -> None:
    said = refusal(module.mounted, "/opt/x", "x", kind="tmpsf", test=True)
    assert "this host knows no file system tmpsf" in said
    assert "did you mean tmpfs?" in said
    assert module.mounted("/opt/x", "x", kind="tmpfs", test=True)


@pytest.mark.parametrize("options", ["nconnect=4,timeo=100", ["nconnect=4", "timeo=100"]])
def test_options_are_a_list_or_a_text(module: Any, world: World, options: Any) -> None:
    world.makes["opt-x.mount"] = SHARED.replace("/srv/shared", "/opt/x")
    assert module.mounted("/opt/x/", SOURCE, options=options)["mounted"] == {"old": None, "new": SOURCE}
    assert "Options=_netdev,vers=4.2,hard,noatime,nconnect=4,timeo=100\n" in (world.units / "opt-x.mount").read_text()


@pytest.mark.parametrize("folder", [IMAGES, f"{IMAGES}/iso", "/srv", f"{IMAGES}/../mngt/"])
@pytest.mark.parametrize("test", [True, False])
def test_nothing_is_mounted_over_the_images_of_a_vm_that_runs(
    module: Any, world: World, folder: str, test: bool
) -> None:
    world.table.append(SHARED)
    a_vm_runs(world)
    said = refusal(module.mounted, folder, "tmpfs", kind="tmpfs", test=test)
    assert "while mnvm runs here" in said
    assert "mnha.maintenance node1 on" in said
    assert world.has_units() == []
    assert module.mounted("/opt/t", "tmpfs", kind="tmpfs", test=True), "another folder"
    assert module.mounted(folder, "tmpfs", kind="tmpfs", test=True, force=True)
    world.vms = {}
    assert module.mounted(folder, "tmpfs", kind="tmpfs", test=True)


def test_nor_over_any_file_that_it_has_open(module: Any, world: World) -> None:
    world.vms, world.open = {"mnvm": [7]}, [open_files.Open("/opt/moved/vm.img", ())]
    assert "(it has /opt/moved/vm.img open)" in refusal(module.mounted, "/opt/moved", "t", kind="tmpfs")


def test_what_is_mounted_there_and_agrees_gets_its_unit_under_a_vm(module: Any, world: World) -> None:
    world.table.append(SHARED)
    a_vm_runs(world)
    assert "mounted" not in module.mounted("/srv/shared", "nfs1:/shared")
    assert world.has_units() == ["mnha-mount-again@.service", "srv-shared.mount"]
    assert module.mounted("/srv/shared", "nfs1:/shared") == {}


@pytest.mark.parametrize("options", ["nolock", "soft", "vers=3", "v3", "local_lock=all", ["softerr"]])
def test_what_a_guard_refuses_of_a_mount_with_images_is_refused(module: Any, world: World, options: Any) -> None:
    for folder in (IMAGES, "/srv/shared"):
        assert "or set unsafe_mount: warn" in refusal(module.mounted, folder, SOURCE, options=options, test=True)
    assert module.mounted("/opt/x", SOURCE, options=options, test=True), "of other shares it is not"
    world.unsafe_mount = "warn"
    assert module.mounted(IMAGES, SOURCE, options=options, test=True)
    assert "lets no VM write" in refusal(module.mounted, IMAGES, SOURCE, options="ro", test=True)
    world.table += [SHARED.replace("/srv/shared", IMAGES)]
    assert module.mounted("/srv", SOURCE, options="ro", test=True), "the images lie in another mount"


def test_a_mount_that_is_refused_leaves_the_units_as_they_were(module: Any, world: World) -> None:
    world.fails["systemctl start opt-x.mount"] = "job failed"
    said = refusal(module.mounted, "/opt/x", SOURCE)
    assert "mount.nfs: access denied by server; nothing was changed" in said
    assert (world.has_units(), world.enabled) == ([], set())
    assert "systemctl stop mnha-mount-again@opt-x.mount.service" in world.ran
    assert "systemctl reset-failed opt-x.mount" in world.ran


def test_one_whose_server_is_silent_is_tried_again(module: Any, world: World) -> None:
    world.fails["systemctl start opt-x.mount"] = "job failed"
    world.silent = True
    assert "it is tried again every 10 s" in refusal(module.mounted, "/opt/x", SOURCE)
    assert world.has_units() == ["mnha-mount-again@.service", "opt-x.mount"]
    assert world.enabled == {"opt-x.mount"}


def test_where_the_old_one_is_in_use_the_units_are_as_they_were(module: Any, world: World) -> None:
    live = SHARED.replace("/srv/shared", "/opt/x")
    world.makes["opt-x.mount"] = live
    module.mounted("/opt/x", "nfs1:/shared")
    before = (world.units / "opt-x.mount").read_text()
    world.fails["systemctl stop opt-x.mount"] = "target is busy"
    said = refusal(module.mounted, "/opt/x", "nfs2:/other")
    assert "can't be unmounted, is it in use?" in said
    assert "nothing was changed" in said
    assert (world.units / "opt-x.mount").read_text() == before
    assert (world.table[-1], world.enabled) == (live, {"opt-x.mount"})


def test_where_the_new_one_is_refused_the_old_one_is_mounted_again(module: Any, world: World) -> None:
    world.makes["opt-x.mount"] = SHARED.replace("/srv/shared", "/opt/x")
    module.mounted("/opt/x", "nfs1:/shared")
    before = (world.units / "opt-x.mount").read_text()
    starts = iter([True, False])
    really = module._run

    def run(words: list[str], **how: Any) -> str:
        if words[:2] == ["systemctl", "start"] and next(starts):
            raise CommandExecutionError("job failed")
        return str(really(words, **how))

    module._run = run
    assert "nfs1:/shared is mounted again as before" in refusal(module.mounted, "/opt/x", "nfs2:/other")
    assert (world.units / "opt-x.mount").read_text() == before


@pytest.mark.parametrize("works", [True, False])
def test_one_that_was_mounted_by_hand_is_mounted_again_if_it_can_be(module: Any, world: World, works: bool) -> None:
    world.table.append(SHARED)
    world.fails["systemctl start srv-shared.mount"] = "job failed"
    really = module._run

    def run(words: list[str], **how: Any) -> str:
        if words[0] == "mount":
            assert words == ["mount", "-t", "nfs4", "-o", "hard,noatime,rw,vers=4.2", "nfs1:/shared", "/srv/shared"]
            world.table += [SHARED] * works
        return str(really(words, **how))

    module._run = run
    said = refusal(module.mounted, "/srv/shared", "nfs2:/other")
    assert ("is mounted again as before" if works else "is mounted no more: mount it again") in said
    assert (world.has_units(), world.enabled) == ([], set())


def test_a_unit_that_can_not_be_written_is_told(module: Any, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    said = refusal(module.mounted, "/opt/x", SOURCE)
    assert "opt-x.mount can't be written: No space left on device; nothing was changed" in said


def test_under_a_vm_only_the_mount_stays_that_it_has_a_file_open_on(module: Any, world: World) -> None:
    world.table += [SHARED, OVER]
    a_vm_runs(world)
    assert module.unmounted(IMAGES)["mounted"] == {"old": "tmpfs", "new": None}
    assert f"umount --no-canonicalize {IMAGES}" in world.ran, "systemd would stop what needs it"
    assert world.table == [ROOT_LINE, SHARED]
    said = refusal(module.unmounted, "/srv/shared")
    assert f"(mnvm has {IMAGE} open there)" in said
    assert world.table == [ROOT_LINE, SHARED]
    world.open = []
    assert "which files mnvm has open is not known" in refusal(module.unmounted, "/srv/shared")


def test_of_two_mounts_at_one_place_the_upper_goes_and_the_lower_keeps_its_unit(module: Any, world: World) -> None:
    world.table.append(SHARED)
    module.mounted("/srv/shared", "nfs1:/shared")
    world.table.append(OVER.replace("/srv/shared/mngt", "/srv/shared"))
    assert list(module.unmounted("/srv/shared", test=True)) == ["mounted"]
    module.unmounted("/srv/shared")
    assert world.table == [ROOT_LINE, SHARED]
    assert world.enabled == {"srv-shared.mount"}
    assert "mounted" in module.unmounted("/srv/shared")
    assert (world.table, world.enabled, world.has_units()) == ([ROOT_LINE], set(), [])


def test_the_last_share_takes_what_tries_it_again_with_it(module: Any, world: World) -> None:
    for name in "xy":
        world.makes[f"opt-{name}.mount"] = SHARED.replace("/srv/shared", f"/opt/{name}")
        module.mounted(f"/opt/{name}", "nfs1:/shared")
    module.unmounted("/opt/y")
    assert world.has_units() == ["mnha-mount-again@.service", "opt-x.mount"]
    assert "systemctl reset-failed opt-y.mount" in world.ran
    assert "systemctl reset-failed mnha-mount-again@opt-y.mount.service" in world.ran
    module.unmounted("/opt/x")
    assert world.has_units() == []
    assert module.unmounted("/opt/x") == {}


def test_a_mount_that_is_tried_again_and_again_ends_with_its_unit(module: Any, world: World) -> None:
    world.fails["systemctl start opt-x.mount"], world.silent = "job failed", True
    refusal(module.mounted, "/opt/x", SOURCE)
    world.ran.clear()
    assert list(module.unmounted("/opt/x")) == [str(world.units / "opt-x.mount")]
    stops = [line for line in world.ran if line.startswith("systemctl stop")]
    assert stops[:2] == ["systemctl stop mnha-mount-again@opt-x.mount.service", "systemctl stop opt-x.mount"]
    assert (world.has_units(), world.enabled) == ([], set())


def test_options_that_the_kernel_does_not_show_hold_from_the_next_mount_on(module: Any, world: World) -> None:
    world.table.append(OVER.replace(IMAGES, "/opt/t"))
    found = module.mounted("/opt/t", "tmpfs", kind="tmpfs", options=["size=10M"])
    assert found["from the next mount on"] == ["size=10M"]
    assert module.mounted("/opt/t", "tmpfs", kind="tmpfs", options=["size=10M"]) == {}


def test_a_status_tells_of_the_share_that_a_folder_lies_in(module: Any, world: World, tmp_path: Path) -> None:
    world.table.append(SHARED)
    found = module.status("/srv/shared/mngt/")
    assert (found["mounted"], found["at"], found["source"]) == (True, "/srv/shared", "nfs1:/shared")
    assert module.__context__ == {}
    (world.units / "srv-shared-mngt.mount").touch()
    found = module.status("/srv/shared/mngt")
    assert found["told"] == ["nothing is mounted at /srv/shared/mngt; it lies in nfs1:/shared (nfs4 at /srv/shared)"]
    assert module.__context__.pop("retcode") == 1
    assert module.status("/opt/x") == {"mounted": False, "told": ["nothing is mounted at /opt/x"]}
    assert module.__context__.pop("retcode") == 1


def test_a_status_of_a_share_that_does_not_answer_fails(
    module: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hangs(folder: str) -> None:
        raise TimeoutError(f"{folder} does not answer")

    world.table.append(SHARED)
    monkeypatch.setattr(share, "look", hangs)
    assert module.status("/srv/shared")["answers"] is False
    assert module.__context__["retcode"] == 1


@pytest.mark.parametrize("folder", [5, "opt/x", None, ""])
def test_a_status_of_what_is_no_path_is_refused(module: Any, folder: Any) -> None:
    assert "is not a path" in refusal(module.status, folder)
    assert "is not a path" in refusal(module.unmounted, folder)


def test_a_state_tells_what_is_in_force_later(module: Any, world: World) -> None:
    state: Any = loaded("states")
    state.__opts__ = {"test": False}
    state.__salt__ = {"sharedfs.mounted": module.mounted}
    world.table.append(OVER.replace(IMAGES, "/opt/t"))
    told = state.mounted("/opt/t", "tmpfs", kind="tmpfs", options="size=10M")
    assert (told["result"], told["comment"]) == (True, "/opt/t is mounted; size=10M from the next mount on")
    refused = state.mounted("/etc", "tmpfs", kind="tmpfs")
    assert (refused["result"], refused["changes"]) == (False, {})
    assert "system folder" in refused["comment"]
