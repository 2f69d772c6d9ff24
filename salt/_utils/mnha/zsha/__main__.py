"""`zsha VERB …`: see `zsha -h`."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..daemon import client
from ..errors import FailedError, MnhaError
from ..oldsuite import written
from . import reading, shapes

EXPORTED = "/tmp/current.config.json"
ENDS_S = 15.0
"""So long `salt-run` may take to end, and to write who typed what into the history, when it was told to."""
LOOK_S = 0.2
ARGUMENTS = {
    "file": "the file's path",
    "node": "the node's name, or one of its addresses",
    "kind": "FileConf or CephConf: where the VM's disk is",
    "--offline": "shut the VM down, and start it there",
}
Work = Callable[[argparse.Namespace], int]
"""Does what was typed; the exit code."""


def main(words: Sequence[str]) -> int:
    """Do what was typed; the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who has begun this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as this lives)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may not have what a file has
    try:
        code = _done(["-h"] if list(words) == ["help"] else words)
        sys.stdout.flush()
    except MnhaError as error:
        print(f"zsha: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("zsha: broken off", file=sys.stderr)
        return 130
    except OSError as error:  # nobody listens any more, or the disk is full that was to have it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 1
        place = f"{error.filename}" if error.filename else "what it has to say can't be written to its standard output"
        print(f"zsha: {place}: {error.strerror}", file=sys.stderr)
        return 2
    return code


def _done(words: Sequence[str]) -> int:
    """Do it; the exit code. That of a page of help, too."""
    try:
        given = _parser().parse_args(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return int(given.work(given))


def _word(text: str) -> str:
    """An argument that is there: a variable of a script may be empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zsha", allow_abbrev=False,
        description="High availability of the management-node VM, by the old suite's verbs.",
        epilog="What only asks works without Salt. What changes something goes through this node's master: "
        "`salt-run -d mnha` tells all that it can.",
    )  # fmt: skip
    parser.add_argument("-v", "--version", action="store_const", dest="work", const=_version, help="the versions")
    verbs = parser.add_subparsers(metavar="VERB")

    def verb(name: str, work: Work, text: str, *arguments: str, is_hidden: bool = False) -> None:
        # Without a help text it is not listed.
        told: dict[str, Any] = {} if is_hidden else {"help": text}
        one = verbs.add_parser(name, description=text[:1].upper() + text[1:] + ".", **told)
        for argument in arguments:
            kind: dict[str, Any] = {"action": "store_true"} if argument.startswith("--") else {"type": _word}
            one.add_argument(argument, help=ARGUMENTS[argument], **kind)
        one.set_defaults(work=work)

    def usage(given: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    verb("status", _status, "where the VM runs, the nodes, Consul; exit code 0 as desired, 1 not, 2 not known")
    verb("status-conf", _status_conf, "the same, and the configuration in force")
    verb("history", _history, "what happened last: who took over when and why, who typed what")
    verb("export-config", _export, f"write the configuration in force to {EXPORTED}")
    verb("check-config", _check, "check a configuration file: all faults at once", "file")
    verb("config-sample", _ordered("config_sample", "kind"), "write a sample: FileConf or CephConf", "kind")
    verb("import-config", _ordered("import_config", "file"), "change the cluster to what a file says", "file")
    verb("migrate", _ordered("migrate", "node", "offline"), "migrate the VM, live, to a node by name or address; "
         "--offline: shut it down, and start it there", "node", "--offline")  # fmt: skip
    verb("migrate-abort", _ordered("migrate_abort"), "abort a migration: the VM goes on where it is")
    verb("stop", _ordered("stop"), "shut the VM down, and let it run nowhere")
    verb("start", _ordered("start"), "let the VM run")
    one = verbs.add_parser(
        "install",
        allow_abbrev=False,
        help="put the product on all nodes, as the pillar or a file says, and start the VM",
    )
    one.add_argument("-c", dest="file", default="", help="the configuration file, for a cluster that is not there yet")
    one.add_argument("-p", dest="password", help="not needed any more: Salt's keys are what opens the nodes")
    one.set_defaults(work=_install)
    one = verbs.add_parser(
        "uninstall", allow_abbrev=False, help="tell what would be removed from which node; with the word, remove it"
    )
    one.add_argument(
        "--yes-i-really-really-mean-it", dest="yes", action="store_true", help="remove it; no image is touched"
    )
    one.set_defaults(work=_uninstall)
    verb("reset-MNVM-password", _ordered("reset_password"), "a new password for root in the guest", is_hidden=True)
    parser.set_defaults(work=usage)
    return parser


def _version(given: argparse.Namespace) -> int:
    from ..master import build  # no other verb needs it

    library = Path(__file__).parents[1]
    found = build.by_file(library.parent / build.FILE, build.digest(library))
    print(f"App Version: {__version__}")
    for title, name in (("Build Date", "date"), ("Branch Name", "branch"), ("Commit ID", "commit")):
        print(f"{title}: {found.get(name) or 'not known'}")
    try:
        said = client.request("status", path=reading.configuration()["socket"], timeout_s=1.0)
        print(f"Guard: {said['guard']['version']}")
    except (MnhaError, KeyError) as error:
        print(f"Guard: not known: {error}")
    return 0


def _status(given: argparse.Namespace) -> int:
    found, cluster = reading.look()
    _show([*shapes.status(found, cluster), *shapes.warnings(found)])
    return shapes.code(found)


def _status_conf(given: argparse.Namespace) -> int:
    found, cluster = reading.look()
    files = _files(cluster)
    _show([*shapes.status(found, cluster), *shapes.configuration(files), *shapes.warnings(found)])
    return shapes.code(found)


def _export(given: argparse.Namespace) -> int:
    _, cluster = reading.look()
    files = _files(cluster)
    if not files:
        print("zsha: nobody could say which configuration is in force", file=sys.stderr)
        return 2
    text = json.dumps(next(iter(files.values())), indent=4) + "\n"
    try:
        with tempfile.NamedTemporaryFile("w", dir=Path(EXPORTED).parent, delete=False, encoding="utf-8") as new:
            new.write(text)
        os.replace(new.name, EXPORTED)
    except OSError as error:  # every disk may be full
        print(f"zsha: {EXPORTED} can't be written: {error.strerror}; here it is:", file=sys.stderr)
        print(text, end="")
        return 1
    print(f"output config json file to {EXPORTED}")
    return 0


def _history(given: argparse.Namespace) -> int:
    _show(shapes.history(reading.history()))
    return 0


def _install(given: argparse.Namespace) -> int:
    if given.password is not None:
        print("zsha: -p is not needed: no password opens the nodes, but Salt's keys (`salt-key -L`)", file=sys.stderr)
    return _ordered("install", *(("file",) if given.file else ()))(given)


def _uninstall(given: argparse.Namespace) -> int:
    return _salt_run("uninstall", ["yes_i_really_really_mean_it=True"] if given.yes else [])


def _check(given: argparse.Namespace) -> int:
    """What the file would make of the cluster as it is in force, as far as somebody could say that."""
    from ..master import given_file  # pydantic takes its time, and a status has none

    cluster: dict[str, Any] = {}
    why = "nobody could say it"
    try:
        _, cluster = reading.look()
    except MnhaError as error:  # the file can be read on a machine that is no node, too
        why = error.message
    if not cluster:
        print(f"zsha: the file is checked by itself, for what is in force is not known: {why}", file=sys.stderr)
    found = given_file.check(os.path.abspath(given.file), cluster or None)
    _tell(found)
    return 0 if found["result"] else 1


def _files(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """VM -> its old file."""
    return {vm: written.of_mapping(cluster, vm) for vm in cluster.get("vms", {})}


def _show(lines: Iterable[str]) -> None:
    print("\n".join(lines), flush=True)


def _ordered(verb: str, *arguments: str) -> Work:
    """What has `salt-run mnha.VERB` do it, shown as a sentence, with its exit code."""

    def work(given: argparse.Namespace) -> int:
        values = {name: getattr(given, name) for name in arguments}
        if "file" in values:
            values["file"] = os.path.abspath(values["file"])
        return _salt_run(verb, [f"{name}={value}" for name, value in values.items() if value is not False])

    return work


def _salt_run(verb: str, words: Sequence[str]) -> int:
    """`salt-run mnha.VERB`, shown as a sentence; its exit code. Whatever ends this ends that, which has the time to
    write into the history who typed it.
    """
    if os.geteuid():
        raise FailedError("only root may: sudo zsha …")
    with _noted() as signals:
        try:
            child = subprocess.Popen(
                ["salt-run", "--out=json", f"mnha.{verb}", *words], stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            print(f"zsha: salt-run can't be begun: {error.strerror}; is Salt installed here?", file=sys.stderr)
            return 2
        with child:
            text = _output(child, signals)
    code = _told(text, child.returncode)
    if signals:
        raise KeyboardInterrupt
    return code


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals to end that come meanwhile: they are noted, and break nothing off here."""
    noted: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: noted.append(number)) for number in numbers}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _output(child: subprocess.Popen[str], signals: Sequence[int]) -> str:
    """What `salt-run` has to say at its end. One that is told to end does so in order, as by Ctrl-C, which a terminal
    has sent it already; it is killed if it does not.
    """
    since_s, is_sent = None, False
    while True:
        try:
            return child.communicate(timeout=LOOK_S)[0]
        except subprocess.TimeoutExpired:
            if not signals:
                continue
        now_s = time.monotonic()
        since_s = now_s if since_s is None else since_s
        if not is_sent and now_s - since_s > ENDS_S / 3:
            child.send_signal(signal.SIGINT)
            is_sent = True
        if now_s - since_s > ENDS_S:
            child.kill()


def _told(text: str, returncode: int) -> int:
    """Show what a verb returned; its exit code."""
    try:
        parts = {name: part for name, part in json.loads(text).items() if isinstance(part, dict)}
    except (ValueError, AttributeError):
        print(text, end="")
        return returncode or 1
    for part in parts.values():
        _tell(part)
    return returncode


def _tell(part: Mapping[str, Any]) -> None:
    """Show what a verb returned of a cluster."""
    for key in ("corrections", "differences", "removed", "faults", "doubts"):
        for line in _lines(part.get(key)):
            print(line)
    if part.get("pillar"):
        print(part["pillar"])
    print(part.get("comment", ""))


def _lines(value: Any) -> list[str]:
    """Lists, and lists by some word, as lines."""
    if isinstance(value, dict):
        return [f"{name}: {line}" for name, one in value.items() for line in one]
    return [str(line) for line in value or ()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
