"""Makes the project's own library importable, from the place where Salt and the guard have it from as well."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "salt" / "_utils"))

# Most tests run at idle priority beside the lab: how long an example takes says nothing.
settings.register_profile("beside-the-lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside-the-lab")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how much of a core the run took, with all processes that it began and has seen ending."""
    times = os.times()
    used_s = times.user + times.system + times.children_user + times.children_system
    terminalreporter.write_line(f"computed for {used_s / 60:.1f} min")
