"""Makes the project's own library importable, from the place where Salt and the guard have it from as well."""

import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "salt" / "_utils"))

# Most tests run at idle priority beside the lab: how long an example takes says nothing.
settings.register_profile("beside-the-lab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("beside-the-lab")
