"""The pieces that a node is made of, cached: root file system, packages, wheels, guest.

Each piece lies in a folder `<kind>-<key>` of the cache, where the key is a hash of everything the piece is made from.
It is built under another name and renamed when whole, so an interrupted build leaves no half piece.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import inspect
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from lab import debian, guest_image, warm
from lab.settings import HERE, SALT_VERSION, SUITE, LabError, Settings
from lab.shell import mounts_below, read_list, run, say, step, write_whole

CHROOT = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
"""Prefix for steps that mount things: the mounts and all processes end with the step, however it ends."""

DEFAULT_MINION_REQUIREMENTS = ("pydantic", "python-consul2")

MASKED_UNITS = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service", "fstrim.timer", "console-getty.service", "systemd-networkd-wait-online.service",
)  # fmt: skip

DPKG_OPTIONS = (
    "force-unsafe-io", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*", "path-include=/usr/share/doc/*/copyright",
)  # fmt: skip
"""They stay in the nodes' dpkg configuration, so packages install quickly there too."""

EMULATOR = "usr/bin/qemu-system-x86_64"
IN_ITS_SLICE = "emulator/in_its_slice.c"
"""What stands in its place on the nodes; the packages' own file is diverted."""

SALT_UNIT = """[Unit]
Description=Salt {title}
After=network.target
[Service]
Type=notify
NotifyAccess=all
KillMode=process
LimitNOFILE=8192
ExecStart=/usr/bin/salt-{role}
[Install]
WantedBy=multi-user.target
"""


KEPT_S = 7 * 24 * 3600.0
"""How long a piece of the cache is kept that nobody asks for."""


@dataclass(frozen=True)
class Pieces:
    """Folders of the finished pieces; `warm` and `peer` only where built."""

    base: Path
    debs: Path
    wheels: Path
    guest: Path
    warm: Path | None = None
    peer: Path | None = None


def key_of(inputs: Iterable[str | bytes]) -> str:
    """A short hash of all inputs, in order; two different lists never join to the same text."""
    digest = hashlib.sha256()
    for item in inputs:
        data = item.encode() if isinstance(item, str) else item
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def piece(settings: Settings, kind: str, inputs: Iterable[str | bytes], make: Callable[[Path], None]) -> Path:
    """The folder of a piece, built by `make(folder)` first if the cache does not have it.

    Other pieces of its kind that nobody has asked for in :data:`KEPT_S` are removed. Younger ones may be another lab's:
    its nodes mount them in name spaces of their own, and again at each boot.
    """
    final = settings.cache / f"{kind}-{key_of(inputs)}"
    settings.cache.mkdir(parents=True, exist_ok=True)
    with only_builder(settings, kind):
        if final.is_dir():
            os.utime(final)
        else:
            _make_piece(settings, kind, final, make)
    return final


@contextlib.contextmanager
def only_builder(settings: Settings, kind: str) -> Iterator[None]:
    """Who wants a piece that another process builds in the same cache waits for it, and finds it built."""
    with (settings.cache / f"lock-{kind}").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"somebody else is building {kind} in {settings.cache}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make_piece(settings: Settings, kind: str, final: Path, make: Callable[[Path], None]) -> None:
    """Build a piece and remove those that nobody wants any more."""
    temporary = settings.cache / f".building-{kind}"
    remove_tree(temporary)
    temporary.mkdir(parents=True)
    with step(f"building {kind}"):
        make(temporary)
        temporary.rename(final)
    for old in settings.cache.glob(f"{kind}-*"):
        unused_s = time.time() - old.stat().st_mtime
        if old != final and unused_s > KEPT_S and not is_in_use(old):
            remove_tree(old)


def is_in_use(folder: Path) -> bool:
    """Whether some mount on this machine is made from `folder` (a node's lower layer, a bind mount)."""
    return str(folder) in Path("/proc/self/mountinfo").read_text()


def remove_tree(folder: Path) -> None:
    """Removes a folder; refuses while something is mounted in it, for that would be emptied too."""
    if mounts_below(folder):
        raise LabError(f"{folder} has mounts in it ({mounts_below(folder)[0]}): run `python3 -m lab down`")
    shutil.rmtree(folder, ignore_errors=False) if folder.is_dir() else None


def source_of(*names: str) -> bytes:
    """The lab's own files a piece is made with: a changed recipe is a new piece."""
    return b"\0".join((HERE / name).read_bytes() for name in names)


def code_of(*recipes: Callable) -> str:
    """The text of the functions a piece is made by."""
    return "\0".join(inspect.getsource(recipe) for recipe in recipes)


def requirements(settings: Settings, name: str) -> str:
    """The project's requirement file `name`, or what the minion needs at the least while there is none."""
    path = settings.repository / "requirements" / name
    return path.read_text() if path.is_file() else "\n".join(DEFAULT_MINION_REQUIREMENTS) + "\n"


def constraints(settings: Settings) -> str:
    """The project's exact versions of Python packages; empty while there are none."""
    path = settings.repository / "requirements" / "constraints.txt"
    return path.read_text() if path.is_file() else ""


def wanted_on_nodes(settings: Settings) -> str:
    """What the product's states install with pip on a node, by the states' own requirement files."""
    files = sorted((settings.repository / "salt" / "states").glob("*/files/requirements.txt"))
    lines = [line for file in files for line in read_list(file)] or list(DEFAULT_MINION_REQUIREMENTS)
    return "".join(f"{line}\n" for line in dict.fromkeys(lines))


def build_wheels(settings: Settings, kind: str, wanted: str) -> Path:
    """Wheels for `wanted` (requirement lines) and all they depend on, made by Debian's own Python."""
    limits = constraints(settings)

    def make(folder: Path) -> None:
        log = folder / "build.log"
        write_whole(folder / "wanted.txt", wanted)
        write_whole(folder / "limits.txt", limits)
        run(["/usr/bin/python3", "-m", "venv", folder / "venv"], log=log)
        say(f"{kind}: wheels from PyPI")
        pip: list[str | Path] = [folder / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "wheel", "-q", "-w", folder / "wheels", "-r", folder / "wanted.txt", "-c", folder / "limits.txt"],
            log=log, timeout_s=1200)  # fmt: skip
        shutil.rmtree(folder / "venv")

    return piece(settings, kind, [wanted, limits, code_of(build_wheels)], make) / "wheels"


def build_base(settings: Settings) -> Path:
    """A bare Debian 12 host with a Salt minion (and, not enabled, a master) in /opt/salt."""
    wanted = f"salt=={SALT_VERSION}\n" + requirements(settings, "minion.txt")
    packages = read_list(HERE / "base-packages.txt")
    sources = debian.sources()

    def make(folder: Path) -> None:
        root, log = folder / "rootfs", folder / "build.log"
        with ThreadPoolExecutor(1) as beside:
            wheels = beside.submit(build_wheels, settings, "saltwheels", wanted)
            say("base: Debian")
            options = [f"--dpkgopt={line}" for line in DPKG_OPTIONS]
            run([*CHROOT, "mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/reproducible", *options,
                 f"--include={','.join(packages)}", SUITE, root, *sources], log=log, timeout_s=1800)  # fmt: skip
            install_salt(root, wheels.result().parent, log)
        configure_base(root)
        divert_emulator(root)

    recipe = code_of(build_base, install_salt, configure_base, divert_emulator, build_wheels)
    inputs: list[str | bytes] = [wanted, constraints(settings), *sources, *packages, *MASKED_UNITS, *DPKG_OPTIONS,
              SALT_UNIT, recipe, source_of(IN_ITS_SLICE)]  # fmt: skip
    return piece(settings, "base", inputs, make) / "rootfs"


def install_salt(root: Path, wheels: Path, log: Path) -> None:
    """Salt in a venv of its own, from the wheels (a folder with `wheels` and `wanted.txt`), without any network."""
    say("base: Salt")
    (root / "wheels").mkdir()
    script = (
        f"mount --bind {wheels} {root}/wheels && exec chroot {root} /bin/sh -ec '"
        "python3 -m venv --system-site-packages /opt/salt; "
        "/opt/salt/bin/pip install -q --no-index --find-links /wheels/wheels -r /wheels/wanted.txt; "
        "ln -s /opt/salt/bin/salt* /usr/bin/'"
    )
    run([*CHROOT, f"--mount-proc={root}/proc", "sh", "-ec", script], log=log, env={"PIP_CONFIG_FILE": "/dev/null"})
    (root / "wheels").rmdir()


def configure_base(root: Path) -> None:
    """What makes the file system a lab node: apt's only source is the local one, units, networkd, a kept journal."""
    for old in (root / "etc/apt/sources.list.d").glob("*"):
        old.unlink()
    write_whole(root / "etc/apt/sources.list", "deb [trusted=yes] file:/srv/packages/debs ./\n")
    write_whole(root / "etc/apt/apt.conf.d/90lab", 'Acquire::Languages "none";\nAPT::Sandbox::User "root";\n')
    for role, title in (("minion", "minion"), ("master", "master")):
        write_whole(root / f"etc/systemd/system/salt-{role}.service", SALT_UNIT.format(role=role, title=title))
        (root / f"etc/salt/{role}.d").mkdir(parents=True)
        write_whole(root / f"etc/salt/{role}", "")
    write_whole(root / "etc/default/locale", "LANG=C.UTF-8\n")
    write_whole(root / "etc/systemd/journald.conf.d/lab.conf",
                "[Journal]\nStorage=persistent\nSystemMaxUse=200M\nRateLimitBurst=0\n")  # fmt: skip
    write_whole(root / "etc/machine-id", "")
    for folder in ("srv/packages/debs", "srv/packages/wheels", "srv/packages/peer", "srv/shared"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    run([*CHROOT, "chroot", root, "systemctl", "mask", *MASKED_UNITS])
    run([*CHROOT, "chroot", root, "systemctl", "enable", "systemd-networkd.service"])
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)


def divert_emulator(root: Path) -> None:
    """Have each QEMU enter its slice first: see the source of what stands in its place."""
    real = f"/{EMULATOR}.real"
    run([*CHROOT, "chroot", root, "dpkg-divert", "--local", "--no-rename", "--add", "--divert", real, f"/{EMULATOR}"])
    run(["gcc", "-O2", "-Wall", "-Werror", "-static", f'-DREAL="{real}"', "-o", root / EMULATOR, HERE / IN_ITS_SLICE])
    (root / EMULATOR).chmod(0o4755)


def build_repository(settings: Settings, kind: str, list_name: str, base: Path) -> Path:
    """A flat apt repository with the listed packages and all that a bare node lacks to install them."""
    wanted = read_list(HERE / list_name)

    def make(folder: Path) -> None:
        apt = debian.Apt(settings.cache / f"apt-{kind}", base / "var/lib/dpkg/status", wanted)
        files = apt.download(wanted, folder / "build.log")
        debian.index(files, folder / "debs")

    inputs: list[str | bytes] = [*wanted, base.parent.name, debian.mirror(), source_of("debian.py")]
    return piece(settings, kind, inputs, make) / "debs"


def build_all(settings: Settings, *, with_warm: bool = True, with_peer: bool = False) -> Pieces:
    """Builds what is missing and returns where everything lies. Quick when nothing changed."""
    with ThreadPoolExecutor(1) as beside:
        guest = beside.submit(build_guest, settings)
        wheels = beside.submit(build_wheels, settings, "wheels", wanted_on_nodes(settings))
        base = build_base(settings)
        debs = build_repository(settings, "packages", "node-packages.txt", base)
        peer = build_repository(settings, "peer", "peer-packages.txt", base) if with_peer else None
        pieces = Pieces(base=base, debs=debs, wheels=wheels.result(), guest=guest.result(), peer=peer)
    return replace(pieces, warm=build_warm(settings, pieces)) if with_warm else pieces


def build_guest(settings: Settings) -> Path:
    """Kernel, initrd and an empty disk of the protected VM."""
    wanted = read_list(HERE / "guest-packages.txt")

    def make(folder: Path) -> None:
        apt = debian.Apt(settings.cache / "apt-guest", None, wanted)
        files = apt.download(wanted, folder / "build.log")
        guest_image.make(files, HERE / "guest", folder)

    guest_files = sorted(str(path.relative_to(HERE)) for path in (HERE / "guest").rglob("*") if path.is_file())
    inputs: list[str | bytes] = [*wanted, debian.mirror(), source_of("guest_image.py", "disk.py", *guest_files)]
    return piece(settings, "guest", inputs, make)


def build_warm(settings: Settings, pieces: Pieces) -> Path | None:
    """The layer in which the product's own states have installed their packages; None while there are no states."""
    states = warm.available_states(settings.repository)
    if not states:
        say("warm layer: the product has no package states yet, skipped")
        return None
    inputs: list[str | bytes] = [pieces.base.parent.name, pieces.debs.parent.name, pieces.wheels.parent.name, *states,
              source_of("warm.py"), warm.inputs(settings.repository)]  # fmt: skip
    folder = piece(
        settings, "warm", inputs,
        lambda place: warm.make(place, settings.repository, pieces.base, pieces.debs, pieces.wheels, states),
    )  # fmt: skip
    return folder / "upper"
