"""What libvirt's daemon must be told so that the nodes can migrate VMs among each other. Pure."""

from __future__ import annotations

import json
import posixpath
import uuid
from collections.abc import Sequence
from typing import Any

PKI_FOLDER = "/etc/mnha/libvirt"
"""CA, certificate and key of a node's libvirt, under the names that libvirt looks for as a client."""
CA_FILE, CERTIFICATE_FILE, KEY_FILE = "cacert.pem", "clientcert.pem", "clientkey.pem"

_NAMESPACE = uuid.UUID("0b0f6f5e-2a53-4c3b-8a3f-6a2b7d0c5e41")


def certificate_name(cluster: str, node: str) -> str:
    """The common name of a node's certificate for libvirt: what the others' libvirt knows it by."""
    return f"{node}.libvirt.{cluster}"


def daemon_settings(cluster: str, node: str, nodes: Sequence[str]) -> dict[str, str]:
    """libvirtd.conf's keys and values (as they stand in that file) on `node`.

    Who shows one of the allowed names is root here, through libvirt; so only the nodes' own certificates for libvirt
    are allowed, not whatever the cluster's authority has signed. The host's UUID is given because a migration between
    hosts of the same UUID is refused, and boards with the same one are sold. A migration's memory comes in many pieces
    at once; with libvirt's own limit of 5 they wait for each other, and what keeps the connection alive behind them.
    """
    names = [f"CN={certificate_name(cluster, one)}" for one in nodes]
    values: dict[str, Any] = {
        "ca_file": posixpath.join(PKI_FOLDER, CA_FILE),
        "cert_file": posixpath.join(PKI_FOLDER, CERTIFICATE_FILE),
        "key_file": posixpath.join(PKI_FOLDER, KEY_FILE),
        "auth_tls": "none",  # nothing besides the certificate
        "tls_allowed_dn_list": names,
        "max_client_requests": 32,
        "host_uuid": str(uuid.uuid5(_NAMESPACE, f"{cluster}/{node}")),
    }
    return {key: json.dumps(value) for key, value in values.items()}
