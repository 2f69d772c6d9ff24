"""What the lab asks Consul itself, past the product: who leads."""

from __future__ import annotations

import json
import re

from lab.cluster import Cluster
from lab.settings import LabError

ASK = """
import ssl, urllib.request
trust = ssl.create_default_context(cafile="/etc/mnha/tls/ca.pem")
print(urllib.request.urlopen("https://127.0.0.1:8501/v1/status/leader", timeout=2, context=trust).read().decode())
"""
LEADER = ("python3", "-I", "-c", ASK)
"""Needs no token. A server tells whom it believes in; one that was cut off or stopped may be wrong for a moment."""
WON = "election won"


def leader(cluster: Cluster, but: str = "") -> str:
    """The node whose Consul server leads, by the word of the first other node than `but` that names one; else empty."""
    by_address = {plan.storage: plan.name for plan in cluster.plans}
    for name in cluster.names:
        if name == but or not cluster.node(name).is_on():
            continue
        try:
            told = cluster.run(name, LEADER, timeout_s=4).stdout
            address = str(json.loads(told)).rsplit(":", 1)[0]
        except (LabError, ValueError):
            continue
        if address in by_address:
            return by_address[address]
    return ""


def elections(cluster: Cluster) -> int:
    """How many elections the servers have won since the nodes were made, by their journals."""
    count = 0
    for name in cluster.names:
        log = cluster.run(name, ["journalctl", "-u", "consul", "-o", "cat", "--no-pager"], timeout_s=20).stdout
        count += len(re.findall(WON, log))
    return count
