"""Whether KVM works on this machine, found out by a guest that runs, for the device file alone proves nothing.

Nested virtualisation may offer `/dev/kvm` and then hang every guest. So a boot sector of a few bytes is run
under KVM: it writes to QEMU's debug-exit port, and only that exit status counts as yes.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from pathlib import Path

from ..errors import FailedError

log = logging.getLogger(__name__)

DEVICE = Path("/dev/kvm")
MEMORY_FILE = Path("/run/mnha-kvm")
"""Keeps the answer until the next boot."""

TIMEOUTS_S = (5.0, 30.0)
"""A guest that hangs in the first time may have had no core; one that hangs in the second does not work."""
_PORT = 0xF4
_VALUE = 0x10
_EXIT_STATUS = (_VALUE << 1) | 1
# mov al, VALUE; out PORT, al; hlt; jmp back to the hlt
_CODE = bytes([0xB0, _VALUE, 0xE6, _PORT, 0xF4, 0xEB, 0xFD])
_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"


def works(remember: Path | None = MEMORY_FILE) -> bool:
    """Whether a guest runs under KVM here; asked of the hardware once a boot.

    :raises FailedError: it can't be found out.
    """
    if not DEVICE.is_char_device():
        return False
    known = _remembered(remember) if remember is not None else None
    if known is not None:
        return known
    answer = probe()
    if not answer:
        log.warning("%s is there, but no guest runs under it: VMs are emulated where domain_type is auto", DEVICE)
    if remember is not None:
        new = remember.with_name(f"{remember.name}.new")
        new.write_text("yes\n" if answer else "no\n", encoding="ascii")
        os.replace(new, remember)
    return answer


def _remembered(file: Path) -> bool | None:
    """The answer that was kept; None: there is none that can be read."""
    try:
        return {"yes": True, "no": False}.get(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def probe(program: str = "qemu-system-x86_64", accelerator: str = "kvm") -> bool:
    """Run the boot sector; True if it came to its end.

    :raises FailedError: QEMU can't be started, which says nothing about KVM.
    """
    with tempfile.NamedTemporaryFile(suffix=".img") as image:
        image.write(_SECTOR.ljust(1440 * 1024, b"\0"))
        image.flush()
        command = [
            program, "-accel", accelerator, "-m", "16", "-display", "none", "-nodefaults", "-no-reboot", "-net", "none",
            "-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1",
            "-drive", f"file={image.name},format=raw,if=floppy,readonly=on", "-boot", "a",
        ]  # fmt: skip
        for timeout_s in TIMEOUTS_S:
            try:
                done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
            except subprocess.TimeoutExpired:
                continue
            except OSError as error:
                raise FailedError(
                    f"whether KVM works can't be found out: {program}: {error.strerror};"
                    " apply states.hypervisor, or set the VM's domain_type"
                ) from error
            return done.returncode == _EXIT_STATUS
    return False
