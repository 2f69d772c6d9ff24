"""High availability for a management-node VM on KVM hosts: the library that Salt's modules and the guard share.

The safety core (``model``, ``timing``, ``lease``, ``decide``, ``ports``, ``guard``) needs nothing but the standard
library; ``config`` needs pydantic and is imported only by those who read a configuration.
"""

import importlib
import sys
import time
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"

_IMPORTED_AT = time.time()


def on_demand(name: str) -> ModuleType:
    """A module of this library that is slow to import (pydantic, cryptography), when it is needed.

    For runners: `salt-run` loads all of them, whatever is asked of it.
    """
    return importlib.import_module(f"{__name__}.{name}")


def forget_if_changed() -> bool:
    """Let the next import read this library anew if a file of it changed since; tells whether that was so.

    Salt loads a changed execution module anew, but what that imports stays in the process, and in all that are forked
    from it: a run that has just synchronised new modules would work with the old library. One module calls this before
    its own imports, the one that every run loads first.
    """
    if max(path.stat().st_mtime for path in Path(__file__).parent.rglob("*.py")) <= _IMPORTED_AT:
        return False
    for name in [name for name in sys.modules if name == __name__ or name.startswith(f"{__name__}.")]:
        del sys.modules[name]
    return True
