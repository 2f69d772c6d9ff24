"""Packages from the Debian mirror that this machine's apt is set up for, through an apt of the lab's own.

apt checks every index against Debian's signing keys and every package against its index; the machine's own apt
lists and other sources play no part.
"""

from __future__ import annotations

import functools
import gzip
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlparse

from lab.settings import SUITE, LabError
from lab.shell import run, say, write_whole

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEFAULT_MIRROR = "http://deb.debian.org/debian"


@functools.cache
def mirror() -> str:
    """Address of the mirror with Debian's main archive, as this machine's apt has it."""
    return _mirror_of(SUITE) or DEFAULT_MIRROR


@functools.cache
def security_mirror() -> str | None:
    """Address of the mirror with security updates, if this machine's apt has one."""
    return _mirror_of(f"{SUITE}-security")


def _mirror_of(release: str) -> str | None:
    done = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"], check=False)
    for line in done.stdout.splitlines():
        name, _, address = line.partition(" ")
        if name == release and address.startswith("http"):
            return address.rstrip("/")
    return None


def sources(suites: Iterable[str] = ()) -> list[str]:
    """apt's source lines: Debian 12 with its security updates, and further suites of the same mirror."""
    lines = [f"deb [signed-by={KEYRING}] {mirror()} {name} main" for name in (SUITE, *sorted(set(suites)))]
    if security_mirror():
        lines.append(f"deb [signed-by={KEYRING}] {security_mirror()} {SUITE}-security main")
    return lines


def split_suite(word: str) -> tuple[str, str | None]:
    """`name@suite` -> (name, suite); `name` -> (name, None)."""
    name, _, suite = word.partition("@")
    return name, suite or None


class Apt:
    """apt with its own sources, lists and cache in `folder`, as if `status` (a dpkg status file) were installed."""

    def __init__(self, folder: Path, status: Path | None, wanted: Sequence[str]) -> None:
        self.folder = folder
        foreign = [(name, suite) for name, suite in map(split_suite, wanted) if suite]
        for name in (
            "lists/partial",
            "archives/partial",
            "no-archives/partial",
            "etc/preferences.d",
            "etc/apt.conf.d",
            "etc/trusted.gpg.d",
        ):
            (folder / name).mkdir(parents=True, exist_ok=True)
        write_whole(folder / "empty-status", "")
        write_whole(folder / "etc/sources.list", "\n".join(sources(suite for _, suite in foreign)) + "\n")
        write_whole(folder / "etc/preferences", _pins(foreign))
        self.options = [
            f"-oDir::Etc={folder}/etc", f"-oDir::State={folder}", f"-oDir::State::lists={folder}/lists",
            f"-oDir::State::status={status or folder / 'empty-status'}", f"-oDir::Cache={folder}",
            f"-oDir::Cache::archives={folder}/archives", "-oAPT::Architecture=amd64", "-oAPT::Sandbox::User=root",
            "-oAPT::Install-Recommends=false", "-oAcquire::Languages=none", "-oAcquire::Retries=3",
        ]  # fmt: skip

    def download(self, wanted: Sequence[str], log: Path) -> list[Path]:
        """Downloads (or takes from the cache) the wanted packages and what they depend on; returns the files."""
        names = [split_suite(word)[0] for word in wanted]
        say(f"packages: reading Debian's index, then {len(names)} packages with all they depend on")
        run(["apt-get", *self.options, "update", "-q"], log=log, timeout_s=600)
        # apt leaves out what its cache holds already, so it is asked as if that were empty
        nothing = f"-oDir::Cache::archives={self.folder}/no-archives"
        listed = run(["apt-get", *self.options, nothing, "install", "-y", "-qq", "--print-uris", *names])
        run(["apt-get", *self.options, "install", "-y", "-q", "--download-only", *names], log=log, timeout_s=1800)
        files = []
        for line in listed.stdout.splitlines():
            if not line.startswith("'"):
                continue
            address, file_name, *_ = line.split()
            path = self.folder / "archives" / file_name
            if not path.is_file():
                raise LabError(f"apt did not download {urlparse(unquote(address.strip(chr(39)))).path}: see {log}")
            files.append(path)
        return files


def _pins(foreign: Sequence[tuple[str, str]]) -> str:
    """Nothing comes from a foreign suite but the packages named for it."""
    blocks = []
    for suite in sorted({suite for _, suite in foreign}):
        blocks.append(f"Package: *\nPin: release n={suite}\nPin-Priority: -10\n")
    for name, suite in foreign:
        blocks.append(f"Package: {name}\nPin: release n={suite}\nPin-Priority: 990\n")
    return "\n".join(blocks)


def index(files: Sequence[Path], folder: Path) -> None:
    """Makes `folder` a flat apt repository of `files`, with the SHA-256 of each in its index."""
    folder.mkdir()
    for file in files:
        shutil.copy2(file, folder / file.name)
    done = run(["apt-ftparchive", "packages", "."], cwd=folder)
    (folder / "Packages").write_text(done.stdout)
    (folder / "Packages.gz").write_bytes(gzip.compress(done.stdout.encode(), mtime=0))
    done = run(["apt-ftparchive", "-oAPT::FTPArchive::Release::Codename=lab", "release", "."], cwd=folder)
    (folder / "Release").write_text(done.stdout)
