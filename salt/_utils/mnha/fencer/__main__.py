"""``python3 -m mnha.fencer``: see :mod:`mnha.fencer.main`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
