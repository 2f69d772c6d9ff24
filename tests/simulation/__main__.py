"""``python -m tests.simulation``: the sweep."""

import sys

from .sweep import main

sys.exit(main())
