"""A change of a host's network, all or nothing.

The network as it is now is kept, and a timer of systemd's is armed that brings it back. Then the files are changed and
applied, and what has come of it is judged. Only if all is well the timer is disarmed. Whatever happens in between, the
end of this process and of Salt included, the old network is back when the timer is over, or when the host boots.
"""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import FailedError, MnhaError, RefusedError
from . import ifupdown2, live
from .refusals import going, lost, refusals
from .wanted import Wish

BEFORE = Path("/var/lib/mnha/network/before")
"""The network before a change, from its beginning until it is confirmed or taken back: the file `whole` says so."""
BACK = "/usr/lib/mnha/network-back"
UNIT = "mnha-network-back"
LIMIT_S = 60.0
"""After so long a change that was not confirmed is taken back."""
JUDGED_S = 30.0
"""So long all that is wanted may take to come up: LACP 3 s, a bridge's port none, a switch's spanning tree 30 s."""
SHORTEST_S, LONGEST_S = 10.0, 3600.0
"""What may be asked for instead."""
MARGIN_S = 5.0
"""So long before the old network comes back nothing is confirmed any more."""
AGAIN_S = 0.5
COMMAND_S = 45.0
RUN = Path("/run/network")
INSTALL = "`salt-call state.apply states.network.tools` installs what a change needs"
BUSY = 89
"""ifupdown2's exit code when it runs already."""


@dataclass(frozen=True)
class Outcome:
    """What has come of a change.

    :param faults: why it was taken back, a sentence each; empty: it holds.
    :param is_back: whether the old network is back then.
    :param took_s: how long it took.
    """

    faults: Sequence[str] = ()
    is_back: bool = False
    took_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A change before it is made.

    :param before: the text of each file of the network, by its path.
    :param after: the same as it is to be.
    :param reasons: why it can't be made, a sentence each with what to do; empty: it can.
    :param losses: the same of what it would take away from the cluster.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    reasons: Sequence[str] = ()
    losses: Sequence[str] = ()

    @property
    def changes(self) -> dict[str, str]:
        """The difference of each file; empty if none is to be changed."""
        return {
            path: "".join(difflib.unified_diff(self.before.get(path, "").splitlines(True), text.splitlines(True), n=1))
            for path, text in self.after.items()
            if self.before.get(path) != text
        }


def files() -> dict[str, str]:
    """The files of the network, by path."""
    main = Path(ifupdown2.MAIN)
    found = [main, *sorted(main.with_name("interfaces.d").glob("*"))]
    return {str(path): path.read_text(encoding="utf-8", errors="surrogateescape") for path in found if path.is_file()}


def plan(wish: Wish) -> Plan:
    """What a change to what is wished would do. Nothing is changed."""
    return planned(files(), live.look(), wish)


def planned(current: Mapping[str, str], there: Mapping[str, live.Interface], wish: Wish) -> Plan:
    """The same for a host with these files and devices. Pure."""
    after = ifupdown2.files_with(current, wish)
    made, wanted = ifupdown2.made(current, wish), {device.name for device in wish.devices}
    gone = made.difference(*(ifupdown2.declared(text) for text in after.values()))
    given = set[str]().union(*(ifupdown2.addresses(text) for text in after.values()))
    return Plan(
        current,
        after,
        [*refusals(there, wish.devices, made), *going(there, gone, made | wanted)],
        lost(there, wish.addresses, gone | wanted, given),
    )


def missing() -> list[str]:
    """Why no network can be changed here, for want of a tool, with what to do; empty: none is missing."""
    tools = [tool for tool in (BACK, "ifreload", "ifquery") if shutil.which(tool) is None]
    return [f"{', '.join(tools)} is missing here: {INSTALL}"] if tools else []


def unconfirmed() -> list[str]:
    """Why no network can be changed now, because another change is not confirmed yet; empty: there is none."""
    if not (BEFORE / "whole").exists():
        return []
    return [f"another change of the network is not confirmed yet: wait {LIMIT_S:g} s, or run {BACK}"]


def unlike() -> list[str]:
    """In what the network differs from the files, a sentence each.

    :raises FailedError: ifupdown2 does not say.
    """
    if shutil.which("ifquery") is None:
        raise FailedError(
            f"ifquery is missing here, so nobody knows whether the network is as its files say: {INSTALL}"
        )
    answer = _run(["ifquery", "--all", "--check", "--format=json"], check=False)
    return ifupdown2.differences(answer, ifupdown2.attributes(files().values()))


def apply(change: Plan, judge: Callable[[], list[str]], limit_s: float = LIMIT_S) -> Outcome:
    """Have the host's network be as planned.

    :param judge: what is wrong with the new network, a sentence each; asked again until nothing is, or too long.
    :param limit_s: after so long the old network comes back, whatever happens.
    :raises RefusedError: it would take something away from somebody, a tool is missing, or another change is not
        confirmed yet; with all reasons.
    :raises FailedError: it could not begin; nothing was changed.
    """
    began_s = time.monotonic()
    if reasons := [*change.reasons, *missing(), *unconfirmed()]:
        raise RefusedError(refusal(reasons))
    _keep(live.look())
    _arm(limit_s)
    faults = _change(change.before, change.after, judge, began_s + min(JUDGED_S, limit_s / 2))
    if not faults and time.monotonic() - began_s > limit_s - MARGIN_S:
        faults = [f"it took longer than the {limit_s:g} s after which the old network comes back"]
    not_back = _took_back() if faults else []
    if not faults:
        (BEFORE / "whole").unlink()
    if not not_back:
        _run(["systemctl", "stop", f"{UNIT}.timer"], check=False)
    return Outcome([*faults, *not_back], bool(faults) and not not_back, time.monotonic() - began_s)


def refusal(reasons: Sequence[str]) -> str:
    """What an operator is told of a change that was not begun."""
    return "the network is not changed: " + "; ".join(reasons)


def _took_back() -> list[str]:
    """Have the old network brought back now; what is wrong about it."""
    try:
        _run(["systemctl", "start", f"{UNIT}.service"])
    except FailedError as error:
        return [f"the old network is not back yet: {error}"]
    return []


def _change(
    current: Mapping[str, str], wanted: Mapping[str, str], judge: Callable[[], list[str]], end_s: float
) -> list[str]:
    """Write and apply the files; what is wrong then."""
    try:
        for path, text in wanted.items():
            if current.get(path) != text:
                write(Path(path), text)
        said = _reload(end_s)
    except (OSError, FailedError) as error:
        return [str(error)]
    while True:
        try:
            faults = [*unlike(), *judge()]
        except (OSError, MnhaError) as error:
            faults = [str(error)]
        if not faults:
            return []
        if time.monotonic() > end_s:
            return [*faults, *(f"ifreload: {line}" for line in said.splitlines() if line.startswith("error"))]
        time.sleep(AGAIN_S)


def _reload(end_s: float) -> str:
    """Have ifupdown2 make of the network what the files say; what it prints. It is waited for where it is busy already.

    It says that also where the folder of its lock is missing, which its service makes: not yet, if it is new here.
    """
    RUN.mkdir(exist_ok=True)
    while True:
        done = _done(["ifreload", "--all"])
        if done.returncode != BUSY or time.monotonic() > end_s:
            return done.stderr
        time.sleep(AGAIN_S)


def _keep(there: Mapping[str, live.Interface]) -> None:
    """Keep the network as it is. `whole` comes last: what was kept in part is not brought back."""
    shutil.rmtree(BEFORE, ignore_errors=True)
    kept = BEFORE / "network"
    kept.mkdir(parents=True)
    main = Path(ifupdown2.MAIN)
    if main.exists():
        shutil.copy2(main, kept / main.name)
    if main.with_name("interfaces.d").is_dir():
        shutil.copytree(main.with_name("interfaces.d"), kept / "interfaces.d", symlinks=True)
    write(BEFORE / "live", "".join(f"{line}\n" for line in commands(there.values(), live.default_routes())))
    write(BEFORE / "whole", "")
    os.sync()


def commands(there: Iterable[live.Interface], routes: Iterable[tuple[str, str]]) -> list[str]:
    """The commands that give a host its addresses and its default routes again, where the files do not. Pure.

    :param routes: device and gateway of each default route.
    """
    found = []
    for one in there:
        if one.up and one.addresses:
            found.append(f"ip link set {one.name} up")
            found += [f"ip address replace {address} dev {one.name}" for address in one.addresses]
    return found + [f"ip route replace default via {gateway} dev {device}" for device, gateway in routes]


def write(path: Path, text: str) -> None:
    """Write a whole file, or none; it outlives a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _arm(limit_s: float) -> None:
    """Have systemd bring the old network back in a while.

    :raises FailedError: it does not; nothing is changed then.
    """
    _run(["systemctl", "reset-failed", f"{UNIT}.service", f"{UNIT}.timer"], check=False)
    _run(["systemctl", "stop", f"{UNIT}.timer"], check=False)
    _run([
        "systemd-run", f"--unit={UNIT}", f"--on-active={limit_s}", "--timer-property=AccuracySec=100ms",
        "--timer-property=DefaultDependencies=no", "--property=DefaultDependencies=no",
        "--service-type=oneshot", "--collect", BACK,
    ])  # fmt: skip


def _done(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A command that has ended.

    :raises FailedError: it is missing, or takes too long.
    """
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=COMMAND_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedError(f"{words[0]}: {error}") from None


def _run(words: Sequence[str], *, check: bool = True) -> str:
    """Run a command; what it prints.

    :raises FailedError: it is missing, takes too long, or, with `check`, fails.
    """
    done = _done(words)
    if check and done.returncode:
        raise FailedError(f"{words[0]}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout or done.stderr
