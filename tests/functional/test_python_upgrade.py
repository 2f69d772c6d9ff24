"""An upgrade of Debian or Salt brings another Python: what is installed for the one before is not there any more. The
states repair it, a running guard tells of it, and so does a status.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml

from lab import build, host
from lab.settings import Settings
from mnha.daemon import successor
from mnha.daemon.successor import Successor, attempt, trials
from tests.support.example import ROOT

LIMIT_S = 120
PURE = Path(sysconfig.get_path("purelib")).parent.name
"""The name of this Python's folder, as `python3.11`."""


class Environment:
    """The guard's virtual environment, as the states make and mend it, in a folder of a test's own."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.path = folder / "venv"
        (folder / "requirements.txt").write_text((ROOT / "salt/states/guard/files/requirements.txt").read_text())
        pip = SimpleNamespace(no_index=True, find_links=str(wheels))
        cluster = SimpleNamespace(packages=SimpleNamespace(pip=pip))
        text = (ROOT / "salt/states/guard/packages.sls").read_text()
        template = jinja2.Environment(extensions=["jinja2.ext.do"]).from_string(text)
        text = template.render(salt={"mnha_config.get": lambda: SimpleNamespace(cluster=cluster)})
        self._states = yaml.safe_load(text.replace("/opt/mnha", str(self.path)).replace("/usr/lib/mnha", str(folder)))

    def apply(self) -> list[str]:
        """Apply the states that run a command; which of them did."""
        done = []
        for name in ("guard_environment", "guard_python_packages"):
            state: dict[str, Any] = {}
            for one in self._states[name]["cmd.run"]:
                state |= one
            if self.shell(state["unless"]):
                assert self.shell(state["name"]) == 0, name
                done.append(name)
        return done

    def shell(self, command: str) -> int:
        """The exit code of a command, as Salt runs it."""
        return subprocess.run(["sh", "-c", command], timeout=LIMIT_S, check=False).returncode

    def works(self) -> bool:
        """Whether a guard finds what it needs."""
        return self.shell(f"{self.path}/bin/python -I -c 'import consul, requests'") == 0


@pytest.fixture(scope="module")
def wheels() -> Path:
    host.prepare()
    settings = Settings.from_environment()
    return build.build_wheels(settings, "wheels", build.wanted_on_nodes(settings))


@pytest.fixture
def environment(tmp_path: Path, wheels: Path) -> Environment:
    made = Environment(tmp_path, wheels)
    assert made.apply() == ["guard_environment", "guard_python_packages"]
    assert made.works()
    assert made.apply() == []
    return made


def test_an_environment_of_another_python_is_mended_and_what_may_still_be_used_stays(environment: Environment) -> None:
    (environment.path / "lib" / PURE).rename(environment.path / "lib/python3.9")
    assert not environment.works()
    assert environment.apply() == ["guard_environment", "guard_python_packages"]
    assert environment.works()
    assert (environment.path / "lib/python3.9").is_dir()
    assert environment.apply() == []


@pytest.mark.nightly
def test_an_environment_whose_python_is_gone_is_mended(environment: Environment) -> None:
    for link in (environment.path / "bin").glob("python3*"):
        link.unlink()
        link.symlink_to("/usr/bin/python3.2")
    assert not environment.works()
    environment.apply()
    assert environment.works()


@pytest.mark.parametrize("missing", ["", "mnha.daemon", "python"])
def test_a_guard_tells_that_the_next_one_could_not_run_until_it_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(successor, "FIRST_S", 0.0)
    monkeypatch.setattr(successor, "EVERY_S", 0.1)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path if missing == "mnha.daemon" else ROOT / "salt/_utils"))
    tried = {"guard": [sys.executable, "-c", "import mnha.daemon.main"]}
    if missing == "python":
        tried["guard"][0] = str(tmp_path / "python")
    tries = Successor(tried)
    tries.start()
    end_s = time.monotonic() + 20
    fault = list(tries.threads)[1]
    while missing and not fault.why and time.monotonic() < end_s:
        time.sleep(0.05)
    if not missing:
        time.sleep(3)
    assert ("could not run" in fault.why and "apply states.guard" in fault.why) is bool(missing), fault.why
    if missing == "python":
        (tmp_path / "python").symlink_to(sys.executable)
        while fault.why and time.monotonic() < end_s:
            time.sleep(0.05)
        assert fault.why == ""


def test_what_is_tried_is_what_the_units_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same Pythons; a fencer's needs nothing but what the system has."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "salt/_utils"))
    tried = trials(tmp_path / "guard.json")
    units = {name: (ROOT / f"salt/states/{name}/files/mnha-{name}.service").read_text() for name in tried}
    assert f"ExecStart=/usr/lib/mnha/realtime 60 root {tried['fencer'][0]} -m mnha.fencer" in units["fencer"]
    assert " ".join(tried["guard"][1:3]) in units["guard"]
    assert "guard.json can't be read" in attempt(tried["guard"])
    assert attempt(tried["fencer"]) == ""
