"""What every `salt-run` pays for the runners of this project, whatever was asked of it."""

from __future__ import annotations

import subprocess
import sys

from tests.support.example import ROOT

SLOW = ("pydantic", "consul", "libvirt", "cryptography.x509")
SCRIPT = f"""
import importlib.util, sys
import salt.runner
before = set(sys.modules)
for name in ("mnha", "mnha_policy"):
    spec = importlib.util.spec_from_file_location("runner", f"salt/_runners/{{name}}.py")
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
print(sorted(set({SLOW!r}) & (set(sys.modules) - before)))
assert runner.mnha.on_demand("config").load and "pydantic" in sys.modules
"""


def test_the_runners_import_nothing_slow_before_it_is_needed() -> None:
    environment = {"PYTHONPATH": str(ROOT / "salt/_utils")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
