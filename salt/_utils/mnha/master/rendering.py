"""What is wrong with a pillar that does not render, by Salt's own words: which file, which line. Pure but for the look
where a file lies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ERRORS = "_errors"
"""Where Salt puts them in a compiled pillar."""
SLS = re.compile(r"SLS '([^']+)'")
EXCERPT = re.compile(r"^---$", re.MULTILINE)
NAMELESS = '"<unicode string>"'
MOST = 600


def faults(pillar: Mapping[str, Any], roots: Sequence[str]) -> list[str]:
    """Why parts of a pillar are not there, a sentence each; none if it was rendered as a whole.

    :param pillar: as Salt compiles it.
    :param roots: the folders in which its files are looked for.
    """
    return [_told(str(text), roots) for text in pillar.get(ERRORS) or ()]


def _told(text: str, roots: Sequence[str]) -> str:
    """One error: without the excerpt of the file, in one line, with the file's path where Salt names an SLS alone."""
    found = SLS.search(text)
    file = _file(found[1], roots) if found else ""
    line = " ".join(EXCERPT.split(text, maxsplit=1)[0].split())[:MOST]
    if file:
        line = line.replace(NAMELESS, file)
    return f"{file}: {line}" if file and file not in line else line


def _file(sls: str, roots: Sequence[str]) -> str:
    """The file of an SLS; empty if there is none."""
    below = sls.replace(".", "/")
    for root in roots:
        for path in (Path(root) / f"{below}.sls", Path(root) / below / "init.sls"):
            if path.is_file():
                return str(path)
    return ""
