"""Running commands, telling progress, files written whole: the lab's small tools."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lab.settings import LabError

_START = time.monotonic()

CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def say(text: str) -> None:
    """One progress line on stderr, with the seconds since the command began."""
    print(f"[lab {time.monotonic() - _START:6.1f}s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Tells that a step begins and, when done, how long it took."""
    say(f"{title} ...")
    begin = time.monotonic()
    yield
    say(f"{title}: done in {time.monotonic() - begin:.1f} s")


def run(
    argv: Sequence[str | Path],
    *,
    timeout_s: float = 600,
    log: Path | None = None,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs a host command to its end. With `log` the output goes to that file, and its tail into the error.

    Raises LabError with the command and its last lines when it fails or does not end in `timeout_s`.
    """
    words = [str(word) for word in argv]
    out = log.open("a") if log else None
    try:
        done = subprocess.run(
            words,
            stdout=out or subprocess.PIPE,
            stderr=subprocess.STDOUT if log else subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=timeout_s,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed: run `python3 -m lab prepare`") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(words)}` did not end in {timeout_s:g} s") from error
    finally:
        if out:
            out.close()
    if check and done.returncode != 0:
        text = log.read_text(errors="replace") if log else (done.stdout or "") + (done.stderr or "")
        tail = "\n".join(text.strip().splitlines()[-15:])
        where = f" (all of it in {log})" if log else ""
        raise LabError(f"`{' '.join(words)}` ended with code {done.returncode}{where}:\n{tail}")
    return done


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Writes a file so that readers see the old text or the new one, and a crash leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.chmod(mode)
    temporary.replace(path)


def read_list(path: Path) -> list[str]:
    """The words of a package list: one a line, # begins a comment."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def wait_until(question, timeout_s: float, what: str, every_s: float = 0.02) -> None:
    """Asks `question()` until it is true; LabError naming `what` after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not question():
        if time.monotonic() > end:
            raise LabError(f"{what}: not so after {timeout_s:g} s")
        time.sleep(every_s)


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below `folder`, the deepest first."""
    found = []
    prefix = str(folder)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == prefix or point.startswith(prefix + "/"):
            found.append(point)
    return sorted(found, key=lambda point: (point.count("/"), point), reverse=True)
