"""Makes the project's own library importable, from the place where Salt and the guard have it from as well."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "salt" / "_utils"))
