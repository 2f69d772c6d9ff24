"""Whether KVM works on this machine, found out by a guest that runs, for the device file alone proves nothing.

Nested virtualisation may offer `/dev/kvm` and then hang every guest. So a boot sector of a few bytes is run
under KVM: it writes to QEMU's debug-exit port, and only that exit status counts as yes.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

DEVICE = Path("/dev/kvm")
MEMORY_FILE = Path("/run/mnha-kvm")
"""Keeps the answer until the next boot."""

PROBE_TIMEOUT_S = 5.0
_PORT = 0xF4
_VALUE = 0x10
_EXIT_STATUS = (_VALUE << 1) | 1
# mov al, VALUE; out PORT, al; hlt; jmp back to the hlt
_CODE = bytes([0xB0, _VALUE, 0xE6, _PORT, 0xF4, 0xEB, 0xFD])
_SECTOR = _CODE.ljust(510, b"\0") + b"\x55\xaa"


def works(remember: Path | None = MEMORY_FILE) -> bool:
    """Whether a guest runs under KVM here; asked of the hardware once a boot."""
    if not DEVICE.is_char_device():
        return False
    if remember is not None and remember.is_file():
        return remember.read_text(encoding="ascii").strip() == "yes"
    answer = probe()
    if remember is not None:
        remember.write_text("yes\n" if answer else "no\n", encoding="ascii")
    return answer


def probe(program: str = "qemu-system-x86_64", accelerator: str = "kvm") -> bool:
    """Run the boot sector; True if it came to its end."""
    with tempfile.NamedTemporaryFile(suffix=".img") as image:
        image.write(_SECTOR.ljust(1440 * 1024, b"\0"))
        image.flush()
        command = [
            program, "-accel", accelerator, "-m", "16", "-display", "none", "-nodefaults", "-no-reboot", "-net", "none",
            "-device", f"isa-debug-exit,iobase={_PORT:#x},iosize=1",
            "-drive", f"file={image.name},format=raw,if=floppy,readonly=on", "-boot", "a",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return done.returncode == _EXIT_STATUS
