"""The lab's delay line between two network namespaces: the delay is what was asked for, and nothing is altered."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import cgroups, delay, network
from lab.settings import NAME_VARIABLE, STORAGE, LabError

NAME = "lab-delay-test"
NEAR, FAR = f"{NAME}-near", f"{NAME}-far"
ADDRESSES = {NEAR: "192.168.93.3", FAR: "192.168.93.4"}
CABLES = {NEAR: "s1", FAR: "s2"}

ECHO = """
import socket, sys, threading
def echo_datagrams():
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); channel.bind(("", 7))
    while True:
        data, sender = channel.recvfrom(65536); channel.sendto(data, sender)
threading.Thread(target=echo_datagrams, daemon=True).start()
server = socket.create_server(("", 7))
print("ready", flush=True)
while True:
    with server.accept()[0] as stream:
        while data := stream.recv(65536): stream.sendall(data)
"""
ASK = """
import hashlib, json, os, socket, sys, threading, time
far, size = sys.argv[1], int(sys.argv[2])
channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); channel.settimeout(5); channel.connect((far, 7))
trips = []
for number in range(12):
    begin = time.monotonic(); channel.send(b"%d" % number); assert channel.recv(99) == b"%d" % number
    trips.append(time.monotonic() - begin)
sent, begin, got = os.urandom(size), time.monotonic(), hashlib.sha256()
with socket.create_connection((far, 7)) as stream:
    threading.Thread(target=lambda: (stream.sendall(sent), stream.shutdown(socket.SHUT_WR)), daemon=True).start()
    while data := stream.recv(65536): got.update(data)
whole = got.digest() == hashlib.sha256(sent).digest()
print(json.dumps({"trips_s": trips[1:], "whole": whole, "took_s": time.monotonic() - begin}))
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def remove_all() -> None:
    for cable in CABLES.values():
        delay.forget(cable)
    for namespace in (NEAR, FAR):
        subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)
    network.remove_switch()
    cgroups.remove()


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A switch of its own with two cables, and somebody who echoes at the far one."""
    monkeypatch.setenv(NAME_VARIABLE, NAME)
    for module in (network, delay, cgroups):
        monkeypatch.setattr(module, "SWITCH", NAME)
    for module in (network, delay):
        monkeypatch.setattr(module, "NETNS", Path("/run/netns") / NAME)
    remove_all()
    server = None
    try:
        network.create_switch()
        for namespace, cable in CABLES.items():
            ip("netns", "add", namespace)
            ip("-n", NAME, "link", "add", cable, "type", "veth", "peer", "name", "eth1", "netns", namespace)
            ip("-n", NAME, "link", "set", cable, "master", STORAGE, "up")
            ip("-n", namespace, "address", "add", f"{ADDRESSES[namespace]}/24", "dev", "eth1")
            ip("-n", namespace, "link", "set", "eth1", "up")
        words = ["ip", "netns", "exec", FAR, sys.executable, "-c", ECHO]
        server = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert server.stdout
        assert server.stdout.readline() == b"ready\n"
        yield
    finally:
        if server:
            server.kill()
            server.communicate()
        remove_all()


def ask(size: int = 100_000) -> dict:
    words = ["ip", "netns", "exec", NEAR, sys.executable, "-c", ASK, ADDRESSES[FAR], str(size)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(
    ("milliseconds", "direction", "trip_s"), [(200, "both", 0.4), (100, "out", 0.1), (150, "in", 0.15)]
)
def test_every_round_trip_takes_the_delay_longer(
    tmp_path: Path, milliseconds: int, direction: str, trip_s: float
) -> None:
    asked = delay.Delay.of(milliseconds, direction)
    delay.start(CABLES[NEAR], STORAGE, asked, tmp_path / "log")
    assert delay.read(CABLES[NEAR]) == asked
    trips_s = sorted(ask()["trips_s"])
    assert trips_s[0] >= trip_s
    assert trips_s[len(trips_s) // 2] <= trip_s + 0.05


@pytest.mark.usefixtures("echo")
def test_large_frames_pass_whole_and_quickly(tmp_path: Path) -> None:
    for cable in CABLES.values():
        delay.start(cable, STORAGE, delay.Delay.of(10, "out"), tmp_path / "log")
    answer = ask(40_000_000)
    assert answer["whole"]
    assert answer["took_s"] < 20, "less than 4 MB/s, there and back"


@pytest.mark.usefixtures("echo")
def test_cuts_hold_for_a_delayed_cable_and_its_end_restores_the_cable(tmp_path: Path) -> None:
    cuts = tmp_path / "cuts.json"
    delay.start(CABLES[NEAR], STORAGE, delay.Delay.of(5, "both"), tmp_path / "log")
    network.apply_cuts(cuts, {network.Cut(CABLES[NEAR], "out")})
    with pytest.raises(AssertionError, match="timed out"):
        ask()
    network.apply_cuts(cuts, set())
    assert ask()["whole"]
    delay.stop(CABLES[NEAR], STORAGE)
    assert delay.read(CABLES[NEAR]) is None
    time.sleep(0.1)
    assert sorted(ask()["trips_s"])[0] < 0.005


@pytest.mark.parametrize(("milliseconds", "direction"), [(0, "both"), (-1, "out"), (1e9, "in"), (5, "up")])
def test_a_delay_that_makes_no_sense_is_refused(milliseconds: float, direction: str) -> None:
    with pytest.raises(LabError):
        delay.Delay.of(milliseconds, direction)
