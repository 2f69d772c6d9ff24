"""What `state.apply test=True` tells of restarts: what would be restarted really, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.example import ROOT
from tests.support.local_salt import LocalSalt

STAMP = ROOT / "salt/states/host/files/stamp"
SERVICE = """
def status(name):
    import os
    return os.path.exists({folder!r} + name)
"""
"""In place of systemd: a service runs if there is a file of its name."""
SLS = """
guard_config:
  file.managed:
    - name: {root}/etc/mnha/guard.json
    - contents_pillar: content
fencer_config:
  file.managed:
    - name: {root}/etc/mnha/fencer.json
    - contents: same
    - mode: '{{{{ pillar.mode }}}}'
consul_config:
  file.managed:
    - name: {root}/etc/mnha/consul/server.json
    - contents: same
    - show_changes: False
    - mode: '{{{{ pillar.mode }}}}'
library:
  file.recurse:
    - name: {root}/usr/lib/mnha/mnha
    - source: salt://library
    - clean: True
guard:
  guard.current:
    - name: mnha-guard
fencer:
  guard.fencer_current:
    - name: mnha-fencer
consul:
  consul_ha.current: []
"""
RESTARTS = ("guard", "fencer", "consul")
FILES = {
    "etc/mnha/guard.json": "same\n", "etc/mnha/fencer.json": "same\n", "etc/mnha/consul/server.json": "same\n",
    "etc/mnha/tls/node.pem": "", "etc/systemd/system/consul.service": "", "usr/lib/mnha/realtime": "",
    "etc/systemd/system/mnha-fencer.service": "", "etc/systemd/system/mnha-guard.service": "", "usr/bin/consul": "",
    "usr/lib/mnha/requirements.txt": "", "opt/mnha/requirements.installed": "",
}  # fmt: skip
LIBRARY = {"core/guard.py": "GUARD = 1", "fencer/rules.py": "RULES = 1"}


def write(root: Path, files: dict[str, str]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
        (root / path).chmod(0o644)


class Node:
    """A node below a folder: its script notes what services depend on there, and those that run have noted it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.roots = folder, folder / "node", folder / "roots"
        self.script = self.roots / "states/host/files/stamp"
        self.reset()
        self.salt = LocalSalt(folder / "salt", {}, (self.roots,))
        assert self.salt.here("saltutil.sync_all")

    def reset(self) -> None:
        """All services run with what is there."""
        for folder in (self.root, self.roots / "library"):
            shutil.rmtree(folder, ignore_errors=True)
        text = STAMP.read_text()
        for top in ("/etc/", "/usr/", "/run/", "/opt/"):
            text = text.replace(f" {top}", f" {self.root}{top}").replace(f'"{top}', f'"{self.root}{top}')
        write(self.root, FILES)
        write(self.root / "usr/lib/mnha/mnha", LIBRARY)
        write(self.roots / "library", LIBRARY)
        service = SERVICE.format(folder=f"{self.folder}/runs-")
        write(self.roots, {"states/host/files/stamp": text, "dry.sls": SLS.format(root=self.root),
                           "_modules/service.py": service})  # fmt: skip
        (self.root / "run").mkdir()
        for service in ("consul", "mnha-guard", "mnha-fencer"):
            self.stamp(service, "--write")
            (self.folder / f"runs-{service}").touch()

    def stamp(self, service: str, *words: str) -> int:
        done = subprocess.run(["sh", self.script, service, *words], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.returncode

    def apply(self, *, test: bool, content: str = "same", mode: str = "0644") -> dict[str, Any]:
        """The states by their ids."""
        states = self.salt.here("state.apply", "dry", pillar={"content": content, "mode": mode}, test=test)
        assert isinstance(states, dict), states
        return {one["__id__"]: one for one in states.values()}

    def predicted(self, **changes: str) -> set[str]:
        """Which services would be restarted."""
        states = self.apply(test=True, **changes)
        assert {states[name]["result"] for name in RESTARTS} <= {True, None}, states
        return {name for name in RESTARTS if states[name]["result"] is None}

    def outdated(self) -> set[str]:
        """Which services are out of date, by what their files are now."""
        return {name for name, service in zip(RESTARTS, ("mnha-guard", "mnha-fencer", "consul"), strict=True)
                if self.stamp(service, "--check")}  # fmt: skip


@pytest.fixture(scope="module")
def _node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(tmp_path_factory.mktemp("node"))


@pytest.fixture
def node(_node: Node) -> Node:
    _node.reset()
    return _node


def files_applied(node: Node, **changes: str) -> None:
    """The states that change files, not those that restart."""
    text = (node.roots / "dry.sls").read_text()
    (node.roots / "dry.sls").write_text(text[: text.index("guard:\n  guard.current")])
    node.apply(test=False, **changes)
    (node.roots / "dry.sls").write_text(text)


def test_nothing_is_told_where_nothing_changes(node: Node) -> None:
    assert node.predicted() == set()


@pytest.mark.parametrize(
    ("changes", "library", "restarted"),
    [
        ({"content": "other"}, {}, {"guard"}),
        ({"mode": "0600"}, {}, {"consul"}),  # it notes dates, which hold for owner and mode as well
        ({}, {"core/guard.py": "GUARD = 2"}, {"guard"}),
        ({}, {"fencer/rules.py": "RULES = 2"}, {"guard", "fencer"}),
        ({}, {"core/new.py": "NEW = 1"}, {"guard"}),
        ({}, {"fencer/rules.py": None}, {"guard", "fencer"}),
        ({}, {"notes.txt": "no Python"}, set()),
    ],
    ids=["configuration", "mode", "core", "fencer", "a new file", "a file that is gone", "what nobody depends on"],
)
def test_what_is_told_is_what_is_out_of_date_once_the_files_are_changed(
    node: Node, changes: dict[str, str], library: dict[str, str | None], restarted: set[str]
) -> None:
    for path, content in library.items():
        place = node.roots / "library" / path
        if content is None:
            place.unlink()
        else:
            place.write_text(content)
    assert node.predicted(**changes) == restarted
    files_applied(node, **changes)
    assert node.outdated() == restarted
    assert node.predicted(**changes) == restarted, "a run that broke off before the restart"


def test_a_service_that_does_not_run_is_not_restarted(node: Node) -> None:
    (node.folder / "runs-mnha-guard").unlink()
    assert node.predicted(content="other") == set()


def test_a_newer_script_counts_that_finds_a_service_out_of_date(node: Node) -> None:
    text = node.script.read_text()
    node.script.write_text(text.replace("mnha-guard)\n", "mnha-guard)\n        echo something new\n"))
    assert node.predicted() == {"guard"}
