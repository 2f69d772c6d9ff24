"""``python -m tests.simulation``: the sweep, compiled unless ``--interpreted`` or ``--trace`` says otherwise."""

import sys

from . import compiled, sweep

if {"--interpreted", "--trace", "--help", "-h"} & set(sys.argv[1:]):
    sys.exit(sweep.main())
compiled.main()
