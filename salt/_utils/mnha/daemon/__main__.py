"""``python3 -m mnha.daemon``: see :mod:`mnha.daemon.main`."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
