"""Who listens where: every port of every address of every node, each with its reason."""

from __future__ import annotations

import re

import pytest

from lab.cluster import Cluster
from lab.settings import NodePlan
from tests.support.scene import Scene

SALT = "/opt/salt/bin/p"
"""How the kernel calls a Salt master here: the beginning of its Python."""


def allowed(plan: NodePlan, is_holder: bool) -> dict[tuple[str, str, str], str]:
    """(protocol, address:port, program) -> why it may listen there."""
    consul = {
        ("tcp", "127.0.0.1:8501", "consul"): "the HTTPS API for guard and Salt's modules of this node",
        ("tcp", f"{plan.storage}:8501", "consul"): "the HTTPS API for guards whose own server is gone",
        ("tcp", f"{plan.storage}:8300", "consul"): "Raft and RPC between servers: certificates both ways",
        ("tcp", f"{plan.storage}:8301", "consul"): "gossip, with its key",
        ("udp", f"{plan.storage}:8301", "consul"): "gossip, with its key",
    }
    salt = {
        ("tcp", "0.0.0.0:4505", SALT): "jobs for minions, encrypted",
        ("tcp", "0.0.0.0:4506", SALT): "minions' requests, encrypted",
    }
    libvirt = {
        ("tcp", f"{plan.storage}:16514", "libvirtd"): "live migration between the nodes: certificates both ways",
    }
    return {**consul, **salt, **libvirt}


def listening(cluster: Cluster, node: str) -> set[tuple[str, str, str]]:
    """Every socket that waits for somebody, by `ss`. systemd has those, too, that it opens for a service."""
    found = set()
    for line in cluster.run(node, ["ss", "-Hlntup"], check=True).stdout.splitlines():
        words = line.split()
        programs = sorted(re.findall(r'"([^"]+)"', line), key=lambda name: name == "systemd")
        found.add((words[0], words[4], programs[0] if programs else "?"))
    return found


def test_nobody_listens_but_who_is_on_the_list(scene: Scene) -> None:
    for plan in scene.cluster.plans:
        assert listening(scene.cluster, plan.name) == set(allowed(plan, plan.name == scene.holder)), plan.name


def can_connect(cluster: Cluster, address: str, port: int) -> bool:
    """Whether a client on that network, one that is no node, gets a connection."""
    words = ["timeout", "3", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
    return cluster.in_switch(words).returncode == 0


PORTS = (22, 80, 443, 4505, 4506, 8300, 8301, 8302, 8500, 8501, 8502, 8503, 8600, 16509, 16514)
"""Salt's, Consul's by default, libvirt's, and what a host may have besides."""


def test_from_the_management_network_only_salts_masters_can_be_reached(cluster: Cluster) -> None:
    for plan in cluster.plans:
        assert [port for port in PORTS if can_connect(cluster, plan.mgmt, port)] == [4505, 4506]


@pytest.mark.parametrize("words", [("http", "--fail"), ("https", "--fail"), ("https", "--cacert")], ids=" ".join)
def test_consuls_api_takes_tls_only_and_shows_the_clusters_own_certificate(
    cluster: Cluster, words: tuple[str, str]
) -> None:
    """Plain HTTP is no answer, and a client that does not have the cluster's authority does not accept the server."""
    authority = str(cluster.file("node1", "etc/mnha/tls/ca.pem"))
    scheme, option = words
    options = ["--cacert", authority] if option == "--cacert" else [option]
    for plan in cluster.plans:
        url = f"{scheme}://{plan.storage}:8501/v1/status/leader"
        done = cluster.in_switch(["curl", "--silent", "--noproxy", "*", "--max-time", "5", *options, url])
        assert (done.returncode == 0) == (option == "--cacert"), done.stdout + done.stderr
