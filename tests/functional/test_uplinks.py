"""What the guard's look at its networks takes from the kernel, in a network namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2] / "salt/_utils"
PROGRAM = """
import subprocess, sys
from mnha.host.network.uplinks import of_device, with_address

def ip(*words): subprocess.run(["ip", *words], check=True)

ip("link", "add", "one", "type", "bridge")
ip("link", "add", "two", "type", "bridge")
for address, label in (("10.1.0.1", "one"), ("10.1.0.2", "one"), ("10.2.0.1", "two:alias")):
    ip("address", "add", f"{address}/24", "dev", label.partition(":")[0], "label", label)
print(*(with_address(address) or "-" for address in ("10.1.0.1", "10.1.0.2", "10.2.0.1", "10.3.0.1")))
for number in range(200):
    ip("address", "add", f"10.9.{number}.1/32", "dev", "two")
print(with_address("10.9.199.1"), of_device(""))
"""


def test_a_device_is_found_by_any_of_its_addresses() -> None:
    words = ["unshare", "--net", sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(LIBRARY)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["one one two -", "two []"]
