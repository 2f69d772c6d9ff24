"""A machine with a kernel of its own, as a process: User-Mode Linux (Debian's package user-mode-linux).

It needs no KVM and no emulation, and boots within two seconds. Its root is this machine's own, read-only, with a tmpfs
above it, so that a program finds this checkout and its `.venv` at their usual places, may write anywhere, and leaves
nothing behind; or the root file system of a node of the lab. It has no network. Modules are loaded with modprobe.

    with Machine("modprobe softdog nowayout=0; ls /dev/watchdog*") as machine:
        print(machine.wait(limit_s=20).said)

What the program prints is stamped by the clock of *this* machine (CLOCK_BOOTTIME) when it arrives: what a kernel that
stands still, or is about to reset itself, says about time is not evidence.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from lab.settings import REPOSITORY
from lab.shell import run

KERNEL = "linux.uml"
REGISTERS = Path(__file__).with_name("uml_registers.c")
"""What has to be loaded into it, so that it runs on processors that are newer than it is."""
MODULES = Path("/usr/lib/uml/modules")
MEMORY_MIB = 512
AUTOGROUP, NICENESS = "/proc/self/autogroup", -15
"""What counts to the scheduler beside other sessions, where the kernel groups them."""
ENDED = "program ended with status "
INIT = """#!/bin/bash
# Process 1. The overlay's upper layer is this kernel's own memory.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
modules=MODULES/$(uname -r)
insmod $modules/kernel/fs/overlayfs/overlay.ko
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=LAYERS,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mkdir -p /mnt/root/lib/modules && ln -s $modules /mnt/root/lib/modules/$(uname -r)
mount -t proc proc /mnt/root/proc
mount -t sysfs sysfs /mnt/root/sys
mount -t devtmpfs devtmpfs /mnt/root/dev
mount -t tmpfs tmpfs /mnt/root/run
for share in SHARES; do mkdir -p "/mnt/root$share" && mount -t hostfs -o "ro,$share" none "/mnt/root$share"; done
exec switch_root /mnt/root /bin/bash FOLDER/FIRST </dev/null
"""
SECOND = f"""
mkdir -p /dev/shm && mount -t tmpfs tmpfs /dev/shm
ip link set lo up
stty -F /dev/ttyS0 raw -echo
/bin/bash FOLDER/program >/dev/ttyS0 2>&1
echo "{ENDED}$?" >/dev/ttyS0
echo o >/proc/sysrq-trigger
sleep 60
"""
"""Power off by sysrq: there may be no init system that could be asked."""

SYSTEMD = """
cat >/etc/systemd/system/program.service <<END
[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/bash FOLDER/second
END
exec /lib/systemd/systemd --unit=program.service --log-target=kmsg --show-status=no
"""
"""Nothing but the program is started: no unit of this machine is asked for."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A line that the program printed, and when it arrived here (CLOCK_BOOTTIME, seconds)."""

    at_s: float
    text: str


@dataclasses.dataclass(frozen=True)
class End:
    """How a machine ended.

    :param status: the program's exit status; None: the machine ended before the program did.
    :param at_s: when (CLOCK_BOOTTIME of this machine, seconds).
    :param said: what the program printed.
    :param console: what the kernel printed.
    """

    status: int | None
    at_s: float
    said: str
    console: str


def boottime_s() -> float:
    """This machine's CLOCK_BOOTTIME in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Machine:
    """A machine that runs one program, a bash script, as root, and is then switched off.

    Use it as a context: at its end nothing is left of the machine, however it stands.

    :param program: the script. Its output is the machine's serial line.
    :param systemd: whether systemd is process 1; it starts nothing else by itself. It takes half a second more.
    :param layers: folders whose union is the machine's root, the topmost one first, as :mod:`lab.build` makes them for
        a node. Of this machine's files it has this checkout besides. None: this machine's root.
    """

    def __init__(self, program: str, *, systemd: bool = False, layers: Sequence[Path] = ()) -> None:
        self._scripts = {"init": INIT, "second": SECOND, "program": program, "systemd": SYSTEMD}
        self._first = "systemd" if systemd else "second"
        self._layers = layers
        self._lines: list[Line] = []
        self._console: list[Line] = []
        self._news = threading.Condition()

    def __enter__(self) -> Machine:
        """Switch it on."""
        with contextlib.ExitStack() as stack:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="mnha-uml-", ignore_cleanup_errors=True))
            )
            self.folder = folder
            for name, text in self._scripts.items():
                (folder / name).write_text(text if name == "program" else self._filled(text), encoding="utf-8")
                (folder / name).chmod(0o755)
            run(["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", folder / "registers.so", REGISTERS])
            read, write = os.pipe()
            self._process = subprocess.Popen(
                _command(folder, write), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=[write], start_new_session=True, env={**os.environ, "TMPDIR": str(_memory_folder(folder))},
            )  # fmt: skip
            os.close(write)
            assert self._process.stdout
            self._readers = [
                threading.Thread(target=self._read, args=(fd, lines), daemon=True)
                for fd, lines in ((read, self._lines), (os.dup(self._process.stdout.fileno()), self._console))
            ]
            for reader in self._readers:
                reader.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Switch it off, and remove what there is of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join()
        if self._process.stdout:
            self._process.stdout.close()
        self._stack.close()

    def _filled(self, script: str) -> str:
        """One of this module's scripts, with the places and names that it is to have."""
        shares = [REPOSITORY, MODULES, self.folder] if self._layers else []
        words = {
            "FOLDER": str(self.folder),
            "FIRST": self._first,
            "LAYERS": ":".join(map(str, self._layers)) or "/",
            "SHARES": " ".join(shlex.quote(str(share)) for share in shares),
            "MODULES": str(MODULES),
        }
        for word, value in words.items():
            script = script.replace(word, value)
        return script

    def _read(self, fd: int, lines: list[Line]) -> None:
        """Collect what comes out of `fd`, to its end."""
        with open(fd, encoding="utf-8", errors="replace") as stream:
            for text in stream:
                with self._news:
                    lines.append(Line(boottime_s(), text.rstrip("\r\n")))
                    self._news.notify_all()

    @property
    def pid(self) -> int:
        """The kernel's main process; all processes of the machine are of its session."""
        return self._process.pid

    @property
    def lines(self) -> list[Line]:
        """What the program has printed until now."""
        with self._news:
            return list(self._lines)

    @property
    def console(self) -> list[Line]:
        """What the kernel has printed until now."""
        with self._news:
            return list(self._console)

    def expect(self, text: str, limit_s: float) -> Line:
        """Wait for the first line of the program that contains `text`.

        :raises TimeoutError: none did within `limit_s` seconds; with all that was printed.
        """
        end_s = boottime_s() + limit_s
        with self._news:
            while True:
                if found := next((line for line in self._lines if text in line.text), None):
                    return found
                if not self._news.wait(end_s - boottime_s()) and boottime_s() >= end_s:
                    raise TimeoutError(f"no {text!r} within {limit_s:g} s; {self._all()}")

    def wait(self, limit_s: float) -> End:
        """Wait until the machine is off.

        :raises TimeoutError: it still runs after `limit_s` seconds; with all that was printed.
        """
        try:
            self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still on after {limit_s:g} s; {self._all()}") from None
        at_s = boottime_s()
        for reader in self._readers:
            reader.join(5.0)
        lines = [line.text for line in self.lines]
        last = lines.pop() if lines and lines[-1].startswith(ENDED) else None
        status = int(last.removeprefix(ENDED)) if last else None
        return End(status, at_s, "\n".join(lines), "\n".join(line.text for line in self.console))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stand still, as a host does that is suspended by what it runs on: no instruction is carried out.

        What runs in the machine are processes traced by its kernel's; each of their system calls waits for that one.
        """
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def _all(self) -> str:
        """Everything printed, for messages. The lock may be held: its owner may ask again."""
        said = "\n".join(line.text for line in self._lines)
        return f"the program said:\n{said}\nthe kernel:\n" + "\n".join(line.text for line in self._console)


def _memory_folder(folder: Path) -> Path:
    """Where the machine's memory lies, a file: in memory if that is large enough and code may be run from it."""
    shared = os.statvfs("/dev/shm")
    fits = shared.f_bavail * shared.f_frsize >= MEMORY_MIB * 2**20 and not shared.f_flag & os.ST_NOEXEC
    return Path("/dev/shm") if fits else folder


def _command(folder: Path, serial: int) -> list[str]:
    """The kernel's command line.

    It ends with the process that started it, should that be killed. On one CPU only: else it would be sent from one to
    the other with each system call, which makes it four times slower. It comes before whatever else wants that CPU, for
    its own timing is what is looked at.
    """
    cpu = max(os.sched_getaffinity(0))
    return [
        "sh", "-c", f'[ ! -e {AUTOGROUP} ] || echo {NICENESS} >{AUTOGROUP}; exec "$@"', "sh",
        "setpriv", "--pdeathsig", "KILL", "taskset", "-c", str(cpu), "env", f"LD_PRELOAD={folder}/registers.so",
        KERNEL, f"uml_dir={folder}", "umid=machine", f"mem={MEMORY_MIB}M",
        "rootfstype=hostfs", "rootflags=/", "ro", f"init={folder}/init", "quiet", "panic=-1", "noreboot",
        "console=tty0", "con=null", "con0=null,fd:1", "ssl=null", f"ssl0=null,fd:{serial}",
    ]  # fmt: skip
