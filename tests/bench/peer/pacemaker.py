"""Pacemaker with VirtualDomain and a fence device on three bare nodes of the lab, with the same guest as ours.

Debian's packages with their defaults, and libvirt set up as the product does it. What is not the default: corosync has
a link on each network, the VM is monitored every 10 s (what the agent's metadata advise), and fencing is `off` instead
of a reboot, so that the lab decides when the node comes back.
"""

from __future__ import annotations

import random
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.cluster import Cluster
from lab.pillar import CLUSTER_NAME, lab_pillar
from lab.settings import IMAGE_FOLDER, VM_NAME, LabError, NodePlan
from lab.shell import say, step
from lab.witness import Witness
from mnha import config
from mnha.guest import domain
from tests.bench.bed import SETTLE_S, fresh_lab, running_node
from tests.bench.peer.device import FenceDevice

HERE = Path(__file__).resolve().parent
PACKAGES = ("corosync", "pacemaker", "pacemaker-cli-utils", "resource-agents")
DOMAIN_FILE = f"/etc/libvirt/{VM_NAME}.xml"
AGENT = "/usr/sbin/fence_lab"
CONFIG = "/etc/corosync/corosync.conf"
DEFAULT_TOKEN_MS = 3000
MONITOR_S = 10
UP_S = 180.0

INSTALL_LOG = "/var/log/peer-install.log"
INSTALL = f"""exec >{INSTALL_LOG} 2>&1
set -e
export DEBIAN_FRONTEND=noninteractive
printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
echo 'deb [trusted=yes] file:/srv/packages/peer ./' >/etc/apt/sources.list.d/peer.list
apt-get update -q
apt-get install -q -y --no-install-recommends {" ".join(PACKAGES)} libvirt-daemon-system libvirt-clients qemu-system-x86
rm /usr/sbin/policy-rc.d
echo 'LIBVIRTD_ARGS=""' >/etc/default/libvirtd
echo 'remember_owner = 0' >>/etc/libvirt/qemu.conf
systemctl mask --now libvirt-guests
systemctl enable libvirtd
systemctl restart libvirtd
"""

CIB = f"""set -e
crm_attribute --name stonith-enabled --update true
crm_attribute --name stonith-action --update off
crm_attribute --type rsc_defaults --name resource-stickiness --update 100
cibadmin --create --scope resources --xml-text '
<primitive id="fence" class="stonith" type="fence_lab">
  <instance_attributes id="fence-attributes">
    <nvpair id="fence-list" name="pcmk_host_list" value="@NODES@"/>
    <nvpair id="fence-check" name="pcmk_host_check" value="static-list"/>
  </instance_attributes>
  <operations><op id="fence-monitor" name="monitor" interval="60s"/></operations>
</primitive>'
cibadmin --create --scope resources --xml-text '
<primitive id="{VM_NAME}" class="ocf" provider="heartbeat" type="VirtualDomain">
  <instance_attributes id="{VM_NAME}-attributes">
    <nvpair id="{VM_NAME}-config" name="config" value="{DOMAIN_FILE}"/>
    <nvpair id="{VM_NAME}-hypervisor" name="hypervisor" value="qemu:///system"/>
  </instance_attributes>
  <operations>
    <op id="{VM_NAME}-monitor" name="monitor" interval="{MONITOR_S}s" timeout="30s"/>
    <op id="{VM_NAME}-start" name="start" interval="0" timeout="90s"/>
    <op id="{VM_NAME}-stop" name="stop" interval="0" timeout="90s"/>
  </operations>
</primitive>'
"""


def corosync_conf(plans: Sequence[NodePlan], token_ms: int) -> str:
    """corosync's configuration: two links, its own defaults, and the token (which grows by 650 ms a third node)."""
    nodes = "\n".join(
        f"  node {{\n    name: {plan.name}\n    nodeid: {plan.index}\n"
        f"    ring0_addr: {plan.storage}\n    ring1_addr: {plan.mgmt}\n  }}"
        for plan in plans
    )
    return (
        "totem {\n  version: 2\n  cluster_name: peer\n  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n"
        f"  token: {token_ms}\n}}\n"
        f"nodelist {{\n{nodes}\n}}\n"
        "quorum {\n  provider: corosync_votequorum\n}\n"
        "logging {\n  to_syslog: yes\n  to_logfile: no\n  timestamp: on\n}\n"
    )


def domain_xml(plans: Sequence[NodePlan], node: str) -> str:
    """The very domain that the product would run on the node."""
    return domain.render(config.load(lab_pillar(plans, "default")), VM_NAME, node, kvm_works=False)


class PeerBed:
    """The peer's cluster, up and with a running VM."""

    def __init__(self, cluster: Cluster, device: FenceDevice) -> None:
        self.cluster, self.device = cluster, device
        self.token_ms = DEFAULT_TOKEN_MS

    def install(self) -> None:
        """Packages, configuration, start; returns when the VM runs."""
        names = self.cluster.names
        with step("peer: packages"):
            runs = [self.cluster.popen(name, ["sh", "-c", INSTALL]) for name in names]
            codes = [run.wait(timeout=600) for run in runs]
        for name, code in zip(names, codes, strict=True):
            if code:
                tail = self.cluster.file(name, INSTALL_LOG).read_text(errors="replace").splitlines()[-15:]
                raise LabError(f"the peer's packages could not be installed on {name}:\n" + "\n".join(tail))
        for name in names:
            self.cluster.write_file(name, AGENT, (HERE / "fence_lab").read_text(), 0o755)
            self.cluster.write_file(name, DOMAIN_FILE, domain_xml(self.cluster.plans, name))
        self.set_token(DEFAULT_TOKEN_MS, reload=False)
        with step("peer: start"):
            for name in names:
                self.cluster.run(name, ["systemctl", "enable", "--now", "corosync", "pacemaker"], check=True)
            self._until(self._missing_nodes, UP_S)
            # libvirt is told to leave the image alone, and the product's states are not applied here.
            owner = ["chown", "libvirt-qemu:libvirt-qemu", f"{IMAGE_FOLDER}/mnvm.img"]
            self.cluster.run(names[0], owner, check=True)
            script = CIB.replace("@NODES@", " ".join(names))
            self.cluster.run(names[0], ["sh", "-c", script], check=True, timeout_s=60)
            self._until(self.ailments, UP_S)

    def set_token(self, token_ms: int, *, reload: bool = True) -> None:
        """Set corosync's token on all nodes; a running corosync takes it over."""
        for name in self.cluster.names:
            self.cluster.write_file(name, CONFIG, corosync_conf(self.cluster.plans, token_ms))
        if reload:
            self.cluster.run(self.cluster.names[0], ["corosync-cfgtool", "-R"], check=True)
        self.token_ms = token_ms

    def _until(self, question: Callable[[], list[str]], timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while wrong := question():
            if time.monotonic() > end:
                raise LabError(f"the peer is not well after {timeout_s:g} s: {'; '.join(wrong)}")
            time.sleep(0.5)

    def _status(self, name: str) -> ET.Element:
        done = self.cluster.run(name, ["crm_mon", "--one-shot", "--output-as=xml"], check=True, timeout_s=20)
        return ET.fromstring(done.stdout)

    def _missing_nodes(self) -> list[str]:
        """Who is not there yet; asked of each node, for each has its own view."""
        wrong = []
        for name in self.cluster.names:
            try:
                status = self._status(name)
            except LabError:
                wrong.append(f"{name} does not tell its status")
                continue
            if status.find("summary/current_dc[@present='true']") is None:
                wrong.append(f"{name} sees no coordinator")
            found = {node.get("name"): node for node in status.findall("nodes/node")}
            for peer in self.cluster.names:
                node = found.get(peer)
                if node is None or node.get("online") != "true" or node.get("pending") == "true":
                    wrong.append(f"{name} sees {peer} not online")
        return wrong

    def ailments(self) -> list[str]:
        """What keeps the peer from being well, a sentence each."""
        wrong = self._missing_nodes()
        if wrong:
            return wrong
        status = self._status(self.cluster.names[0])
        for resource in ("fence", VM_NAME):
            found = status.find(f"resources/resource[@id='{resource}']")
            if found is None or found.get("role") != "Started" or found.get("nodes_running_on") != "1":
                wrong.append(f"{resource} is not started")
            elif found.get("pending") or found.get("failed") == "true":
                wrong.append(f"{resource}: {found.get('pending') or 'failed'}")
        return wrong

    def heal(self) -> None:
        """Power back, old failures forgotten, all nodes online, the VM started; the coordinator idle."""
        for name in self.cluster.names:
            if not self.cluster.node(name).is_on():
                self.cluster.poweron(name)
        self._until(self._missing_nodes, UP_S)
        self.cluster.run(self.cluster.names[0], ["crm_resource", "--cleanup"], timeout_s=30)
        self._until(self.ailments, UP_S)
        self.cluster.run(self.cluster.names[0], ["crm_resource", "--wait", "--timeout=60"], timeout_s=90)

    def prepare(self) -> None:
        """What must be so before each round: all well, and a random place in the monitor's interval."""
        self.heal()
        time.sleep(SETTLE_S + random.uniform(0, MONITOR_S))

    def facts(self, witness: Witness) -> dict[str, Any]:
        """What is the case before a round's fault."""
        holder = running_node(witness)
        coordinator = self._status(holder).find("summary/current_dc")
        leader = coordinator.get("name") if coordinator is not None else None
        return {"holder": holder, "coordinator": leader, "holder_was_coordinator": holder == leader}


@contextmanager
def peer_lab() -> Iterator[PeerBed]:
    """A lab of its own with the peer and a running VM; removed at the end, whatever happens."""
    with (
        fresh_lab(lambda cluster: cluster.up(peer=True)) as cluster,
        FenceDevice(cluster) as device,
    ):
        bed = PeerBed(cluster, device)
        say(f"peer: installing Pacemaker on {', '.join(cluster.names)}; cluster {CLUSTER_NAME} is its model")
        bed.install()
        yield bed
