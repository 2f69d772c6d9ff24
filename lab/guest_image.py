"""Kernel, initrd and disk of the protected VM, made from Debian packages.

The guest is one initrd: busybox, the real qemu-guest-agent and chpasswd with the libraries they need, the modules of
the virtual hardware in loading order, and the heartbeat writer. It holds nothing that must outlive a boot but the
ring of heartbeats on its disk.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import disk
from lab.settings import LabError
from lab.shell import run, say

DISK_BYTES = 64 * 1024 * 1024
"""131,072 slots: more than seven hours of heartbeats, five a second."""

MODULES = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_balloon", "virtio_rng", "qemu_fw_cfg",
    "button", "evdev", "af_packet", "isofs",
)  # fmt: skip

PROGRAMS = ("usr/sbin/qemu-ga", "usr/sbin/chpasswd")
PAM = ("pam_unix.so", "pam_permit.so", "pam_deny.so")
PRELOADED = ("libnss_files.so.2", "libgcc_s.so.1")

APPLETS = (
    "sh", "mount", "umount", "insmod", "ip", "ifconfig", "cat", "ls", "ps", "echo", "sleep", "mkdir", "mknod", "ln",
    "init", "halt", "poweroff", "reboot", "sync", "kill", "httpd", "acpid", "hostname", "dmesg", "free", "top", "vi",
    "ping", "arping", "date", "grep", "sed", "tr", "cut", "head", "tail", "chmod", "login", "getty", "su", "sha256sum",
    "mv", "cp", "rm", "readlink",
)  # fmt: skip


def make(debs: Sequence[Path], recipe: Path, folder: Path) -> None:
    """Fills `folder` with vmlinuz, initrd.img and mnvm.img (an empty disk)."""
    staging, root = folder / "staging", folder / "initrd"
    staging.mkdir()
    say("guest: unpacking packages")
    for deb in debs:
        run(["dpkg-deb", "-x", deb, staging])
    say("guest: initrd")
    make_root(root)
    copy_programs(staging, root)
    copy_modules(staging, root)
    shutil.copytree(recipe / "root", root, dirs_exist_ok=True, symlinks=True)
    run(["gcc", "-O2", "-Wall", "-static", "-o", root / "usr/bin/heartbeat", recipe / "heartbeat.c"])
    run(["sh", "-c", "find . | cpio --quiet -o -H newc -R 0:0 > ../initrd.img"], cwd=root)
    kernels = sorted((staging / "boot").glob("vmlinuz-*"))
    if len(kernels) != 1:
        raise LabError(f"expected one kernel among the guest's packages, found {len(kernels)}: see {folder}")
    shutil.copy2(kernels[0], folder / "vmlinuz")
    disk.make(folder / "mnvm.img", DISK_BYTES)
    shutil.rmtree(staging)
    shutil.rmtree(root)


def make_root(root: Path) -> None:
    """The empty tree: folders, the console's device node, busybox's applets as links."""
    for name in (
        "bin",
        "dev",
        "etc",
        "mnt",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "var/log",
        "www",
    ):
        (root / name).mkdir(parents=True)
    (root / "sbin").symlink_to("bin")
    os.mknod(root / "dev/console", 0o600 | 0o020000, os.makedev(5, 1))
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "init").symlink_to("bin/busybox")


def copy_programs(staging: Path, root: Path) -> None:
    """The programs, PAM's modules, and every library that any of them needs, at the places they look for them."""
    shutil.copy2(staging / "bin/busybox", root / "bin/busybox")
    loader = next(staging.glob("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"))
    libraries = [staging / "lib/x86_64-linux-gnu", staging / "usr/lib/x86_64-linux-gnu"]
    targets = [staging / name for name in PROGRAMS]
    targets += [next(staging.glob(f"**/security/{name}")) for name in PAM]
    targets += [found for name in PRELOADED for found in [*staging.glob(f"**/{name}")][:1]]
    place(loader, root / "lib64" / loader.name)
    for target in targets:
        place(target, root / target.relative_to(staging))
        for library in needed(loader, libraries, target):
            place(library, root / "lib/x86_64-linux-gnu" / library.name)
    (root / "usr/lib").mkdir(exist_ok=True)
    if not (root / "usr/lib/x86_64-linux-gnu").exists():
        (root / "usr/lib/x86_64-linux-gnu").symlink_to("../../lib/x86_64-linux-gnu")


def needed(loader: Path, libraries: Iterable[Path], target: Path) -> list[Path]:
    """The libraries that `target` needs, as the staging tree's own loader finds them."""
    path = ":".join(str(folder) for folder in libraries)
    done = run([loader, "--library-path", path, "--list", target])
    if "not found" in done.stdout:
        raise LabError(f"a library for {target.name} is in none of the guest's packages:\n{done.stdout}")
    return [Path(match) for match in re.findall(r"=> (/\S+)", done.stdout)]


def place(source: Path, target: Path) -> None:
    """Copies what `source` finally points at."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), target)


def copy_modules(staging: Path, root: Path) -> None:
    """The wanted modules with those they need, and `lib/modules/order`: each after all that it needs."""
    tree = next((staging / "lib/modules").iterdir())
    run(["depmod", "-b", staging, tree.name])
    needs = parse_dependencies((tree / "modules.dep").read_text())
    built_in = {module_name(line) for line in (tree / "modules.builtin").read_text().splitlines()}
    order = module_order(needs, [name for name in MODULES if name not in built_in])
    target = root / "lib/modules"
    target.mkdir(parents=True)
    for path in order:
        place(tree / path, target / Path(path).name)
    (target / "order").write_text("".join(f"{Path(path).name}\n" for path in order))


def module_name(path: str) -> str:
    return Path(path.strip()).name.split(".ko")[0].replace("-", "_")


def parse_dependencies(text: str) -> dict[str, list[str]]:
    """modules.dep as {path: paths it needs}."""
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {path: rest.split() for path, _, rest in lines}


def module_order(needs: dict[str, list[str]], wanted: Sequence[str]) -> list[str]:
    """Paths of the wanted modules and those they need, so that each comes after all that it needs.

    A wanted module that the kernel does not have is an error: the guest would come up without that device.
    """
    by_name = {module_name(path): path for path in needs}
    order: list[str] = []

    def visit(path: str) -> None:
        if path in order:
            return
        for other in needs[path]:
            visit(other)
        order.append(path)

    for name in wanted:
        if name not in by_name:
            raise LabError(f"the guest's kernel has no module {name}: take it from the list in lab/guest_image.py")
        visit(by_name[name])
    return order
