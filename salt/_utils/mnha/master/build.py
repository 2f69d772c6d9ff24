"""Which commit of this project a tree is, and whether it still is.

A master whose tree is a clone asks git. It tells the nodes by its pillar; with that the other masters, who have copies,
and the installed library keep a file beside the code. What the file says counts only as long as the library is the one
it was written for: one that somebody has edited is not called by the commit it came from.

``python3 -m mnha.master.build salt > salt/build.json`` writes it by hand, for a tree that is copied to a master without
its git.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

FILE = "build.json"
GIT_S = 5.0
LIBRARY = "_utils/mnha"
"""Where a master's tree has it."""


def of_tree(tree: Path) -> dict[str, str]:
    """What a master's tree is: `date`, `branch`, `commit`, and the `library` that goes with it; empty: not known.

    :param tree: a folder with Salt's modules and states: `salt/` of this project.
    """
    library = digest(tree / LIBRARY)
    if found := _by_git(tree):
        return {**found, "library": library}
    return by_file(tree / FILE, library)


def by_file(file: Path, library: str) -> dict[str, str]:
    """What a file beside the code says of it; empty: nothing, or of other code.

    :param library: the digest of the code that is there.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict) or found.get("library") != library:
        return {}
    return {str(name): str(value) for name, value in found.items()}


def digest(library: Path) -> str:
    """By which two copies of the library are told from each other."""
    found = hashlib.sha256()
    for path in sorted(library.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(library)} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _by_git(tree: Path) -> dict[str, str]:
    """What git says of a clone; empty: it is none, or there is no git."""
    if not any((folder / ".git").exists() for folder in (tree, tree.parent)):
        return {}
    # The clone may be another user's, whom root trusts by reading code from there.
    git = ["git", "-c", f"safe.directory={tree}", "-c", f"safe.directory={tree.parent}", "-C", str(tree)]
    asked = {
        "date": ("log", "-1", "--format=%cI"),
        "branch": ("rev-parse", "--abbrev-ref", "HEAD"),
        "commit": ("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= and changes"),
    }
    try:
        return {
            name: subprocess.run(
                [*git, *words], capture_output=True, text=True, check=True, timeout=GIT_S
            ).stdout.strip()
            for name, words in asked.items()
        }
    except (OSError, subprocess.SubprocessError):
        return {}


if __name__ == "__main__":
    print(json.dumps(of_tree(Path(sys.argv[1]).resolve())))
