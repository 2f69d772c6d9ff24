"""The gossip between the servers: nothing to read for those without the key, nothing to gain by repeating it, and no
entry for an agent that lacks key or certificate."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cluster import Cluster
from lab.network import NETNS
from lab.pillar import CLUSTER_NAME
from lab.provision import MASTER
from lab.settings import STORAGE_NET, SWITCH_HOST
from mnha.secrets import store as generated
from tests.support.scene import Scene, eventually

CAPTURE = """
import json, socket, sys, time
channel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
channel.settimeout(0.2)
end = time.monotonic() + float(sys.argv[1])
found = []
while time.monotonic() < end:
    try:
        frame = channel.recv(65535)
    except TimeoutError:
        continue
    if frame[12:14] != b"\\x08\\x00" or frame[23] != 17:
        continue
    udp = 14 + (frame[14] & 15) * 4
    if int.from_bytes(frame[udp + 2 : udp + 4], "big") == 8301:
        found.append(frame[udp + 8 : udp + int.from_bytes(frame[udp + 4 : udp + 6], "big")].hex())
json.dump(found, sys.stdout)
"""
REPLAY = """
import json, socket, sys, time
packets = [bytes.fromhex(text) for text in json.load(sys.stdin)]
channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for packet in packets * 3:
    for address in sys.argv[1:]:
        channel.sendto(packet, (address, 8301))
    time.sleep(0.001)
"""
CONSUL = {
    "CONSUL_HTTP_ADDR": "https://127.0.0.1:8501",
    "CONSUL_CACERT": "/etc/mnha/tls/ca.pem",
    "CONSUL_HTTP_TOKEN_FILE": "/etc/mnha/tokens/policy",
}
"""How `consul` on a node asks its own server."""
INTRUDER = f"{STORAGE_NET}.{SWITCH_HOST}"
"""The switch's own address on the storage network: a machine there that is no node."""


def in_switch(script: str, *words: str, stdin: str | None = None, timeout_s: float = 60) -> str:
    """Runs a Python script in the network of the lab's switch."""
    command = ["nsenter", f"--net={NETNS}", "python3", "-c", script, *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=True)
    return done.stdout


def members(cluster: Cluster, node: str) -> dict[str, str]:
    """Consul's members as a node sees them: name -> alive, failed, left."""
    done = cluster.run(node, ["consul", "members"], env=CONSUL, check=True)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return {name: status for name, _, status, *_ in rows}


def test_who_listens_on_the_storage_network_reads_nothing_and_repeating_it_changes_nothing(scene: Scene) -> None:
    """Packets of everything that happens are taken, a server's leave and return among them, and sent again later.

    The gossip has no protection against repetition; its numbers make old messages void.
    """
    cluster, pid = scene.cluster, scene.qemu_pid(scene.holder)
    epoch = scene.status(scene.holder)["lease"]["epoch"]
    capture = subprocess.Popen(
        ["nsenter", f"--net={NETNS}", "python3", "-c", CAPTURE, "14"], stdout=subprocess.PIPE, text=True
    )
    time.sleep(1)
    node = scene.others[0]
    cluster.run(node, ["systemctl", "kill", "--signal=KILL", "consul"], check=True)
    taken, _ = capture.communicate(timeout=60)
    packets = [bytes.fromhex(text) for text in json.loads(taken)]
    assert len(packets) > 100
    readable = [name for name in cluster.names if any(name.encode() in packet for packet in packets)]
    assert readable == []
    everybody = dict.fromkeys(cluster.names, "alive")

    def all_is_well() -> bool:
        peers = [peer["alive"] for name in cluster.names for peer in scene.guard(name)["peers"].values()]
        return all(peers) and all(members(cluster, name) == everybody for name in cluster.names)

    eventually(all_is_well, 30, "all servers are back")
    in_switch(REPLAY, *(plan.storage for plan in cluster.plans), stdin=taken)
    end, looks = time.monotonic() + 8, 0
    while time.monotonic() < end:
        assert all_is_well()
        looks += 1
    print(f"{len(packets)} packets taken, each sent to each node three times; {looks} looks")
    assert (scene.qemu_pid(scene.holder), scene.status(scene.holder)["lease"]["epoch"]) == (pid, epoch)


class Agent:
    """A Consul agent on the storage network that is not of the cluster.

    :param options: of its configuration, besides name and addresses.
    """

    def __init__(self, binary: Path, folder: Path, **options: object) -> None:
        self._binary, self._folder = binary, folder
        ports = {"http": 18500, "dns": -1, "grpc": -1, "server": 18300, "serf_wan": -1}
        config = {
            "node_name": "intruder",
            "datacenter": CLUSTER_NAME,
            "data_dir": str(folder / "data"),
            "bind_addr": INTRUDER,
            "client_addr": "127.0.0.1",
            "ports": ports,
            "disable_update_check": True,
            **options,
        }
        (folder / "agent.json").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            words = [str(binary), "agent", "-config-file", str(folder / "agent.json")]
            self._process = subprocess.Popen(["nsenter", f"--net={NETNS}", *words], stdout=log, stderr=log)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def curl(self, path: str, *options: str) -> tuple[int, str]:
        """Status and body of a request to the agent's own API."""
        words = ["curl", "--silent", "--noproxy", "*", "--max-time", "15", "--write-out", "\\n%{http_code}", *options]
        command = ["nsenter", f"--net={NETNS}", *words, f"http://127.0.0.1:18500{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        body, _, code = done.stdout.rpartition("\n")
        return int(code or 0), body

    def join(self, address: str) -> tuple[int, str]:
        """Ask it to join the cluster."""
        end = time.monotonic() + 15
        while self.curl("/v1/agent/self")[0] != 200:
            assert time.monotonic() < end, self.log
            time.sleep(0.1)
        return self.curl(f"/v1/agent/join/{address}", "--request", "PUT")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def start(consul_binary: Path, tmp_path: Path) -> Iterator:
    """Starts an agent; it is gone when the test ends."""
    started: list[Agent] = []

    def begin(**options: object) -> Agent:
        started.append(Agent(consul_binary, tmp_path, **options))
        return started[-1]

    yield begin
    for agent in started:
        agent.stop()


@pytest.mark.parametrize("key", [None, "bm9ib2R5IGV2ZXIgc2F3IHN1Y2ggYSBrZXkgYmVmb3I="], ids=["no key", "another key"])
def test_an_agent_without_the_gossip_key_does_not_get_in(scene: Scene, start, key: str | None) -> None:
    agent = start(**({"encrypt": key} if key else {}))
    for plan in scene.cluster.plans:
        code, body = agent.join(plan.storage)
        assert code == 500, body
    for node in scene.cluster.names:
        assert members(scene.cluster, node) == dict.fromkeys(scene.cluster.names, "alive")


@pytest.fixture
def without_intruder(cluster: Cluster) -> Iterator[None]:
    """Afterwards the cluster has forgotten the member `intruder`."""
    yield
    store = f"/etc/mnha/secrets/{CLUSTER_NAME}/management-token"

    def is_forgotten() -> bool:
        words = ["consul", "force-leave", "-prune", "intruder"]
        cluster.run(MASTER, words, env={**CONSUL, "CONSUL_HTTP_TOKEN_FILE": store})
        return "intruder" not in members(cluster, MASTER)

    eventually(is_forgotten, 30, "the intruder is forgotten")


@pytest.mark.parametrize("certificate", [None, "another authority's"], ids=["no certificate", "a foreign certificate"])
def test_an_agent_with_the_key_but_no_certificate_gets_nothing_from_the_servers(
    scene: Scene, secrets: dict[str, str], start, tmp_path: Path, without_intruder: None, certificate: str | None
) -> None:
    """A stolen gossip key lets its bearer be seen as a member, and see who the members are; that is all."""
    options: dict[str, object] = {"encrypt": secrets["gossip.key"]}
    if certificate:
        generated.bootstrap(tmp_path / "s", generated.Plan("x", CLUSTER_NAME, {"intruder": [INTRUDER]}, False))
        own = tmp_path / "s/nodes/intruder"
        options |= {"ca_file": str(tmp_path / "s/ca.pem"), "cert_file": str(own / "node.pem"),
                    "key_file": str(own / "node-key.pem"), "verify_outgoing": True}  # fmt: skip
    agent = start(**options)
    node = scene.others[0]
    code, body = agent.join(next(plan.storage for plan in scene.cluster.plans if plan.name == node))
    assert code == 200, body
    eventually(lambda: members(scene.cluster, node).get("intruder") == "alive", 20, "the intruder is a member")
    for path in (f"/v1/kv/mnha/{CLUSTER_NAME}/config", "/v1/catalog/nodes?stale", "/v1/status/leader"):
        for token in ("", secrets[f"nodes/{node}/guard-token"]):
            code, body = agent.curl(path, "--header", f"X-Consul-Token: {token}")
            assert code == 500, f"{path}: {code} {body}"
    code, body = agent.curl(f"/v1/kv/mnha/{CLUSTER_NAME}/vms/mnvm/lease", "--request", "DELETE")
    assert code == 500, body
    for name in scene.cluster.names:
        peers = scene.guard(name)["peers"]
        assert set(peers) == set(scene.cluster.names) - {name}
        assert all(peer["alive"] for peer in peers.values())
    agent.stop()
