"""The simulation compiled to C by Cython: the same files, the same traces, about half as fast again.

    python -m tests.simulation.compiled ARGUMENTS OF THE SWEEP

The source stays Python: a copy of it is compiled below ``.venv``, again whenever it changes. A test compares what comes
of some seeds in both (``test_sweep.py``), so that what is found with one is replayed with the other.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.support.library import closure

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".venv" / "simulation"
WORLD = ("engine", "process", "consul", "fencer", "hypervisor", "host", "policy", "records", "world")
"""What is compiled of the simulation: where the time goes."""

COLD = ("__init__", "errors", "ports")
"""What of the guard's library is not worth it."""

CYTHONIZE = (
    sys.executable, "-m", "Cython.Build.Cythonize", "-3", "-q", "-X", "annotation_typing=False", "-j", "2", "--inplace",
)  # fmt: skip
"""Annotations stay annotations: nothing may behave otherwise than in Python."""


KEPT_S = 24 * 3600.0
"""Copies of older sources are removed after that: one may still be running."""


class CompileError(Exception):
    """The compiler failed; its words are the message."""


def sources(root: Path = ROOT) -> list[Path]:
    """All files that what comes of a seed depends on."""
    library = root / "salt/_utils/mnha"
    parts = ("core/guard.py", "core/evacuation.py", "core/placement.py", "fencer/rules.py")
    guard = sorted({path for part in parts for path in closure(library / part, library)})
    world = [root / "tests/simulation" / f"{name}.py" for name in ("__init__", *WORLD, "faults", "sweep", "compiled")]
    support = [root / "tests/support" / name for name in ("__init__.py", "library.py")]
    return [*guard, root / "tests/__init__.py", *support, *world]


@functools.cache
def digest() -> str:
    """A word for the source as it stands: a seed of one source says nothing about another."""
    root = Path(__file__).resolve().parents[2]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources(root))).hexdigest()[:12]


def build() -> Path:
    """Return the folder with the compiled copy, made now if there is none of this source.

    :raises CompileError: it can't be compiled.
    """
    folder = CACHE / f"{digest()}-py{sys.version_info.major}{sys.version_info.minor}"
    if folder.exists():
        return folder
    new = CACHE / f"new-{os.getpid()}"
    for path in sources():
        target = new / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    print("compiling the simulation (about a minute, once) …", file=sys.stderr, flush=True)
    utils = new / "salt/_utils"
    _compile(utils, [str(path.relative_to(utils)) for path in sorted(utils.rglob("*.py")) if path.stem not in COLD])
    _compile(new, [f"tests/simulation/{name}.py" for name in WORLD])
    for old in CACHE.iterdir():
        if old.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(old, ignore_errors=True)
    try:
        new.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        shutil.rmtree(new)  # somebody else was faster
    return folder


def _compile(folder: Path, names: list[str]) -> None:
    """Compile these files of `folder` in their places."""
    run = subprocess.run([*CYTHONIZE, *names], cwd=folder, capture_output=True, text=True, check=False)
    if run.returncode:
        raise CompileError(run.stdout + run.stderr)


def environment(folder: Path) -> dict[str, str]:
    """The environment of a Python (to be called with -P) that runs the copy in `folder`."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(folder / "salt/_utils")))}


def main() -> None:
    """Replace this process by the compiled sweep."""
    folder = build()
    os.execve(
        sys.executable, [sys.executable, "-P", "-m", "tests.simulation.sweep", *sys.argv[1:]], environment(folder)
    )


if __name__ == "__main__":
    main()
