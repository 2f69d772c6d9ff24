"""The addresses of a running guest are made those of its node: by the script that its agent runs, in a network
namespace that is the guest, with the `ip` of iproute2 and that of busybox; and by the guard's thread, which asks an
agent that does there what QEMU's does. What libvirt says of an agent that is silent is what was seen of libvirt 9.0.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from lab.shell import wait_until
from mnha.daemon.adapters import guest_network, processes
from mnha.daemon.adapters.guest_network import GuestNetwork
from mnha.daemon.adapters.libvirt import Connection
from mnha.guest import addresses, moments
from tests.functional.test_adapters_fail import halt
from tests.functional.test_guest_asked import TEST_DOMAIN
from tests.functional.test_guest_asked import connection as connection  # a fixture

MAC, OTHER_MAC = "52:54:00:5a:01:01", "52:54:00:5a:01:02"
HERE, THERE, FAR = "172.20.198.10/24", "172.20.200.10/24", "172.20.210.10/24"
PATIENCE_S = 20.0
RESOLV_CONF = "search example\nnameserver 192.0.2.53\noptions edns0\n"
APPLETS = ("ip", "grep", "cat", "mv", "cp", "rm", "readlink")


def interface(address: str, *elsewhere: str, mac: str = MAC, gateway: bool = True) -> dict[str, Any]:
    """What is wanted of an interface; the router of each network is its first address."""
    routers = [f"{one.rpartition('.')[0]}.1" for one in (address, *elsewhere)]
    return {
        "mac": mac,
        "address": address,
        "gateway": routers[0] if gateway else None,
        "elsewhere": sorted(elsewhere),
        "gateways_elsewhere": sorted({*routers[1:]} - {routers[0]}) if gateway else [],
    }


def wanted(*interfaces: dict[str, Any], dns: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"dns": list(dns), "console_address": "172.20.198.10", "interfaces": list(interfaces)}


HERE_WANTED, THERE_WANTED = wanted(interface(HERE, THERE, FAR)), wanted(interface(THERE, HERE, FAR))


class Guest:
    """A guest of two devices: namespaces of network and mounts, with /run and /etc/resolv.conf of its own.

    :param shell: which runs the scripts.
    :param path: where its `ip` and the like are looked for first; empty: they are this machine's.
    """

    def __init__(self, folder: Path, shell: tuple[str, ...], path: str) -> None:
        self._shell, self._path = shell, path
        resolv_conf = folder / "resolv.conf"
        resolv_conf.write_text(RESOLV_CONF)
        words = [
            "unshare",
            "--net",
            "--mount",
            "sh",
            "-c",
            "mount -t tmpfs run /run && mount --bind $0 $1 && echo up && cat",
        ]
        target = Path("/etc/resolv.conf").resolve()
        self._home = subprocess.Popen(
            [*words, resolv_conf, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._home.stdout is not None
        assert self._home.stdout.readline() == "up\n"
        self.does("ip link set lo up")
        for device, mac in (("eth0", MAC), ("eth1", OTHER_MAC)):
            self.does(
                f"ip link add {device} address {mac} type veth peer name far-{device} && ip link set far-{device} up"
            )

    def close(self) -> None:
        self._home.communicate()

    def does(self, script: str) -> str:
        """Run something in it with this machine's own programs."""
        return self._enter("sh", "-c", script, check=True).stdout

    def _enter(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        space = ["nsenter", "--net", "--mount", f"--target={self._home.pid}"]
        return subprocess.run([*space, *words], text=True, capture_output=True, check=check)

    def runs(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a script as its agent does."""
        path = ["env", f"PATH={self._path}"] if self._path else []
        return self._enter(*path, *self._shell, "-c", script)

    def devices(self) -> list[dict[str, Any]]:
        """What its agent tells of them."""
        return [
            {
                "name": one["ifname"],
                "hardware-address": one.get("address", "00:00:00:00:00:00"),
                "ip-addresses": [
                    {"ip-address-type": f"ipv{4 if a['family'] == 'inet' else 6}", "ip-address": a["local"],
                     "prefix": a["prefixlen"]}
                    for a in one["addr_info"]
                ],
            }
            for one in json.loads(self.does("ip -j address show"))
        ]  # fmt: skip

    def becomes(self, what: dict[str, Any], node: str = "node1") -> None:
        """Run the script for what is wanted; it must succeed, and have nothing left to do."""
        done = self.runs(addresses.script(what, addresses.devices_of(self.devices()), "mnvm", node))
        assert (done.returncode, done.stderr) == (0, "")
        assert addresses.differences(what, addresses.devices_of(self.devices())) == []

    @property
    def own(self) -> list[str]:
        """The IPv4 addresses of its first device."""
        return [*addresses.devices_of(d for d in self.devices() if d["name"] == "eth0")[0].addresses]

    @property
    def routes(self) -> list[str]:
        """Its default routes."""
        return [line.strip() for line in self.does("ip -4 route show default").splitlines()]


@pytest.fixture(params=["iproute2", "busybox"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    shell, path = ("sh",), ""
    if request.param == "busybox":
        for name in APPLETS:
            (tmp_path / name).symlink_to("/bin/busybox")
        shell, path = ("/bin/busybox", "sh"), str(tmp_path)
    made = Guest(tmp_path, shell, path)
    yield made
    made.close()


def test_a_guest_without_an_address_gets_all(guest: Guest) -> None:
    guest.becomes(
        wanted(interface(HERE), interface("10.0.0.9/16", mac=OTHER_MAC, gateway=False), dns=("172.20.198.53",))
    )
    assert guest.own == [HERE]
    assert [route.split(" dev")[0] for route in guest.routes] == ["default via 172.20.198.1"]
    assert "10.0.0.9/16 brd 10.0.255.255" in guest.does("ip address show eth1")
    assert json.loads(guest.does(f"cat {addresses.TOLD_FILE}")) == {
        "vm": "mnvm", "node": "node1", "dns": ["172.20.198.53"], "console_address": "172.20.198.10",
    }  # fmt: skip


def test_one_that_comes_from_another_node_changes_address_and_route_and_goes_back(guest: Guest) -> None:
    guest.becomes(HERE_WANTED)
    for what, address, router in [(THERE_WANTED, THERE, "172.20.200.1"), (HERE_WANTED, HERE, "172.20.198.1")]:
        guest.becomes(what)
        assert guest.own == [address]
        assert [route.split(" dev")[0] for route in guest.routes] == [f"default via {router}"]


def test_what_is_right_is_left_as_it_is(guest: Guest) -> None:
    guest.becomes(wanted(interface(HERE), dns=("192.0.2.53",)))
    looked_at = "ip -4 -oneline address; ip -4 route; cat /etc/resolv.conf"
    before = guest.does(looked_at)
    guest.becomes(wanted(interface(HERE), dns=("192.0.2.53",)))
    assert guest.does(looked_at) == before
    assert RESOLV_CONF in before


def test_what_others_have_set_stays(guest: Guest) -> None:
    guest.does("ip link set eth0 up; for own in 172.20.200.10 172.20.200.99; do ip address add $own/24 dev eth0; done; "
               "ip address add 192.0.2.7/24 dev eth0; ip address add 2001:db8::7/64 dev eth0 nodad; "
               "ip route add 198.51.100.0/24 via 192.0.2.1; ip route add default via 192.0.2.1 metric 900")  # fmt: skip
    guest.becomes(HERE_WANTED)
    assert sorted(guest.own) == [HERE, "172.20.200.99/24", "192.0.2.7/24"], "the second of a subnet outlives the first"
    assert "2001:db8::7/64" in guest.does("ip -6 address show eth0")
    assert guest.does("ip route show 198.51.100.0/24") != ""
    assert any("metric 900" in route for route in guest.routes)


def test_the_address_of_a_node_in_the_same_subnet_is_exchanged(guest: Guest) -> None:
    near = "172.20.198.11/24"
    guest.becomes(wanted(interface(near, HERE)))
    guest.becomes(wanted(interface(HERE, near)))
    assert guest.own == [HERE]
    assert [route.split(" dev")[0] for route in guest.routes] == ["default via 172.20.198.1"]


def test_another_prefix_of_the_same_address_takes_its_place(guest: Guest) -> None:
    guest.becomes(wanted(interface("172.20.198.10/16")))
    guest.becomes(wanted(interface(HERE)))
    assert guest.own == [HERE], "what such a script has set before is known to it"


def test_name_servers_are_added_where_one_is_missing_and_all_else_of_the_file_stays(guest: Guest) -> None:
    guest.becomes(wanted(interface(HERE), dns=("172.20.198.53", "192.0.2.53")))
    lines = guest.does("cat /etc/resolv.conf").splitlines()
    assert lines == ["nameserver 172.20.198.53", "nameserver 192.0.2.53", "search example", "options edns0"]


def test_what_fails_is_told_and_the_rest_is_done(guest: Guest) -> None:
    broken = wanted(
        {**interface(HERE), "gateway": "203.0.113.1"}, interface("10.0.0.9/16", mac=OTHER_MAC, gateway=False)
    )
    done = guest.runs(addresses.script(broken, addresses.devices_of(guest.devices()), "mnvm", "node1"))
    assert done.returncode == 1
    assert done.stderr != ""
    assert (guest.own, "10.0.0.9/16" in guest.does("ip address show eth1")) == ([HERE], True)


class Agent:
    """The guest's agent as libvirt gives access to it: what it is asked it does in the namespace.

    :ivar code: libvirt's error while it is silent.
    :ivar refuses: a command that it does not know, and how it says so.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.asked: list[str] = []
        self.code: int | None = None
        self.refuses: dict[str, str] = {}
        self._done: dict[int, subprocess.CompletedProcess[str]] = {}
        self.before_exec: Callable[[], None] = lambda: None

    def answer(self, _domain: Any, command: str, _timeout_s: int, _flags: int) -> str:
        request = json.loads(command)
        name, arguments = request["execute"], request.get("arguments", {})
        self.asked.append(name)
        if name in self.refuses:
            raise self._error(libvirt.VIR_ERR_INTERNAL_ERROR, self.refuses[name])
        if self.code is not None:
            raise self._error(self.code, "Guest agent is not responding")
        return json.dumps({"return": getattr(self, name.replace("-", "_"))(**arguments)})

    @staticmethod
    def _error(code: int, text: str) -> libvirt.libvirtError:
        error = libvirt.libvirtError(text)
        error.err = (code, 10, text, 2, "", None, None, -1, -1)
        return error

    def guest_network_get_interfaces(self) -> list[dict[str, Any]]:
        return self.guest.devices()

    def guest_exec(self, **arguments: Any) -> dict[str, int]:
        self.before_exec()
        assert (arguments["path"], arguments["arg"][0], arguments["capture-output"]) == ("/bin/sh", "-c", True)
        self._done[len(self._done)] = self.guest.runs(arguments["arg"][1])
        return {"pid": len(self._done) - 1}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        done = self._done[pid]
        return {
            "exited": True,
            "exitcode": done.returncode,
            "err-data": base64.b64encode(done.stderr.encode()).decode(),
        }


class Bench:
    """The guard's thread for a guest, in hand: each round is begun by the test, and the clock is the test's."""

    def __init__(self, connection: Connection, agent: Agent, what: dict[str, Any] | None) -> None:
        vm = {"name": "test", "uuid": TEST_DOMAIN, "health": {"boot_grace_s": 300.0}, "guest": what}
        self.agent = agent
        self.pid: int | None = None
        self.now_s = 1000.0
        self.thread = GuestNetwork(connection, "node1", vm, lambda: self.pid)
        connection.listen_for_reboots(self.thread.note_reboot)

    def passes(self, seconds: float) -> None:
        """So much time passes, with a round each second."""
        for _ in range(round(seconds)):
            self.thread._round()
            self.now_s += 1.0

    @property
    def why(self) -> str:
        return str(self.thread.told()["why"])


@pytest.fixture
def bench(connection: Connection, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Bench]]:
    agent = Agent(guest)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", agent.answer)
    processes_here: list[subprocess.Popen[bytes]] = []

    def make(what: dict[str, Any] | None = HERE_WANTED, *, arrived: bool) -> Bench:
        made = Bench(connection, agent, what)
        monkeypatch.setattr(guest_network, "boottime_s", lambda: made.now_s)
        words = [sys.executable, "-c", "input()", *(["-incoming", "defer"] if arrived else [])]
        processes_here.append(subprocess.Popen(words, stdin=subprocess.PIPE))
        made.pid = processes_here[-1].pid
        wait_until(lambda: processes.is_incoming(made.pid or 0) == arrived, PATIENCE_S, "the process has begun")
        return made

    yield make
    for process in processes_here:
        process.communicate()


def test_a_guest_that_a_migration_has_brought_has_the_nodes_address_after_one_round(
    bench: Callable[..., Bench],
) -> None:
    made = bench(arrived=True)
    made.agent.guest.becomes(THERE_WANTED, "node2")
    made.passes(1)
    assert made.agent.guest.own == [HERE]
    assert made.thread.told() == {"why": "", "set": True}
    count = len(made.agent.asked)
    made.passes(moments.CALM_S - 1)
    assert len(made.agent.asked) == count, "it is asked now and then only"
    made.passes(2)
    assert made.agent.asked[count:] == ["guest-network-get-interfaces"]


def test_a_guest_that_boots_by_itself_is_not_disturbed_and_one_that_does_not_gets_its_address(
    bench: Callable[..., Bench],
) -> None:
    made = bench(arrived=False)
    made.passes(moments.BOOT_S)
    assert made.agent.guest.own == [], "it may be about to configure itself"
    made.passes(moments.SETTLE_S + 1)
    assert made.agent.guest.own == [HERE]


def test_after_a_reboot_it_is_looked_at_anew(bench: Callable[..., Bench], connection: Connection) -> None:
    made = bench(arrived=True)
    made.passes(1)
    assert made.thread.told()["set"]
    made.agent.guest.becomes(THERE_WANTED)
    connection._on_reboot(None, connection.get().lookupByUUIDString(TEST_DOMAIN), None)
    assert not made.thread.told()["set"], "at once"
    made.passes(1)
    assert not made.thread.told()["set"]
    made.passes(2 * moments.SETTLE_S)
    assert made.agent.guest.own == [HERE]


def test_nothing_is_asked_while_the_vm_does_not_run_here_and_nothing_is_told_then(bench: Callable[..., Bench]) -> None:
    made = bench(arrived=True)
    made.agent.refuses["guest-exec"] = "unable to execute QEMU agent command 'guest-exec': it is disabled"
    made.passes(1)
    assert made.why != ""
    made.pid = None
    count = len(made.agent.asked)
    made.passes(100)
    assert (len(made.agent.asked), made.thread.told()) == (count, {"why": "", "set": False})


def test_what_the_agent_refuses_is_told_with_what_to_do(bench: Callable[..., Bench]) -> None:
    made = bench(arrived=True)
    text = "internal error: unable to execute QEMU agent command 'guest-exec': Command guest-exec has been disabled"
    made.agent.refuses["guest-exec"] = text
    made.passes(10)
    assert made.why == f"node1's addresses could not be set: {text}; allow its agent guest-exec"
    made.agent.refuses.clear()
    made.passes(moments.CALM_S + 1)
    assert (made.why, made.agent.guest.own) == ("", [HERE])


def test_what_the_script_says_of_its_failure_is_told(bench: Callable[..., Bench]) -> None:
    made = bench(wanted({**interface(HERE), "gateway": "203.0.113.1"}), arrived=True)
    made.passes(1)
    assert made.why.startswith("node1's addresses could not be set: the script in the guest ends with exit code 1: ")
    assert not made.why.endswith("it says nothing")


def test_a_device_that_the_guest_does_not_have_is_told(bench: Callable[..., Bench]) -> None:
    made = bench(wanted(interface(HERE, mac="52:54:00:5a:01:99")), arrived=True)
    made.passes(1)
    assert made.why == "node1's addresses could not be set: it has no network device 52:54:00:5a:01:99"


def test_a_silent_agent_is_told_of_late_and_only_where_the_addresses_differ_by_node(
    bench: Callable[..., Bench],
) -> None:
    made = bench(arrived=True)
    made.agent.code = libvirt.VIR_ERR_AGENT_UNRESPONSIVE
    made.passes(30)
    assert made.why == ""
    made.passes(moments.CALM_S)
    assert "its agent does not answer (Guest agent is not responding): is qemu-guest-agent running in it?" in made.why
    same = bench(wanted(interface(HERE)), arrived=True)
    same.passes(200)
    assert same.why == ""


def test_a_libvirtd_that_is_away_says_nothing_of_the_guest(bench: Callable[..., Bench]) -> None:
    made = bench(arrived=True)
    made.agent.code = libvirt.VIR_ERR_RPC
    made.passes(200)
    assert made.thread.told() == {"why": "", "set": False}


def test_a_vm_that_goes_while_its_agent_works_is_no_failure(bench: Callable[..., Bench]) -> None:
    made = bench(arrived=True)

    def goes() -> None:
        made.agent.code = libvirt.VIR_ERR_OPERATION_INVALID

    made.agent.before_exec = goes
    made.passes(1)
    assert made.why == ""


def test_without_what_is_wanted_there_is_no_thread(connection: Connection) -> None:
    made = GuestNetwork(
        connection, "node1", {"name": "a", "uuid": "b", "health": {"boot_grace_s": 1}, "guest": None}, int
    )
    made.start()
    assert made.threads == ()
    assert made.told() == {"why": "", "set": False}


def test_the_thread_goes_round_by_itself(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, connection: Connection
) -> None:
    made = bench(arrived=True)
    monkeypatch.setattr(guest_network, "LOOK_S", 0.05)
    made.thread.start()
    wait_until(lambda: made.thread.told()["set"], PATIENCE_S, "its address is set")
    assert made.agent.guest.own == [HERE]
    assert made.thread.threads[0].why == ""
    halt(made.thread.threads[0])
