"""A cluster's secrets: made once on a master, handed out node by node.

Layout of `/etc/mnha/secrets/<cluster>/` (folders 0700, files 0600, root only):

    ca.pem ca-key.pem            the cluster's own certificate authority
    gossip.key                   Consul's gossip key (32 bytes, base64)
    management-token             Consul's management token: for masters only, no node is ever given it
    nodes/<node>/node.pem node-key.pem             for Consul
    nodes/<node>/libvirt.pem libvirt-key.pem       for live migration
    nodes/<node>/agent-token guard-token policy-token
    ceph/<vm>.key                given by an operator (:mod:`.ceph`), not made here
    salt/master.pem master.pub   the key pair all masters share (only if masters run on the nodes)

What it keeps:

- A secret that exists is never written again: a file appears by link(2) from a complete temporary one, which fails if
  the name is taken. So a second bootstrap, even at the same moment, changes nothing.
- Consul's certificate opens no libvirt, for its key can be read by Consul's own user, and who may speak to libvirt is
  root: libvirt has certificates of its own, and takes those names alone (:func:`mnha.host.libvirtd.certificate_name`).
- A node gets its own folder and what the whole cluster shares, never another node's key or tokens, and never the
  authority's key. Only a node that is a master too gets the whole tree, for it must be able to serve everybody.

No Salt in here: the runner and the pillar module are thin wrappers over this file.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import secrets
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import ConfigurationError, FailedError
from ..host.libvirtd import certificate_name

SECRETS_FOLDER = Path("/etc/mnha/secrets")

AUTHORITY_DAYS = 20 * 365
NODE_DAYS = 10 * 365
WARN_DAYS = 60
CLOCK_TOLERANCE = datetime.timedelta(days=1)
"""Certificates are valid from a day before they were made: a node whose clock is behind must still join."""

SALT_KEY_BITS = 2048
GOSSIP_KEY_BYTES = 32
NODE_TOKENS = ("agent", "guard", "policy")
CONSUL, LIBVIRT = "node", "libvirt"
"""What a certificate is for; its file's name begins so."""
MAX_FILES = 1000
"""More files than this below one cluster's folder means that the folder is not what it should be."""


@dataclass(frozen=True)
class Plan:
    """What a cluster needs: its name, Consul's datacenter, and each node's addresses (they go into its certificate)."""

    cluster: str
    datacenter: str
    nodes: Mapping[str, Sequence[str]]
    masters_on_nodes: bool
    salt_master_key: Path | None = None
    """A running master's private key, taken over as the shared one so that no minion has to trust a new key."""

    def __post_init__(self) -> None:
        for name in (self.cluster, *self.nodes):
            if not name or "/" in name or name.startswith("."):
                raise ConfigurationError(f"{name!r} cannot be the name of a cluster or node: it becomes a folder")
        if not self.nodes:
            raise ConfigurationError(f"cluster {self.cluster} has no nodes")


@dataclass
class Report:
    """What a bootstrap did: paths relative to the cluster's folder, and sentences an operator should read."""

    created: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def folder(master_options: Mapping[str, Any]) -> Path:
    """Where a master keeps the secrets of its clusters: `mnha_secrets_folder` of its configuration, or the default."""
    return Path(master_options.get("mnha_secrets_folder") or SECRETS_FOLDER)


def bootstrap(
    folder: Path,
    plan: Plan,
    renew_certificates: bool = False,
    now: datetime.datetime | None = None,
    renew_tokens: bool = False,
) -> Report:
    """Make every secret of `plan` that does not exist yet below `folder`; existing ones stay as they are.

    `renew_certificates` makes new certificates and keys for the nodes (same authority): after a change of address or
    before they expire. `renew_tokens` makes new tokens for all roles of all nodes: after one may have been read by
    somebody. The authority, the management token and the gossip key are never replaced.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    report = Report()
    store = _Store(folder, report)
    store.folder("")
    _bootstrap_authority(store, plan, now)
    store.once("gossip.key", lambda: base64.b64encode(secrets.token_bytes(GOSSIP_KEY_BYTES)) + b"\n")
    store.once("management-token", _new_token)
    store.folder("nodes")
    for node in sorted(plan.nodes):
        store.folder(f"nodes/{node}")
        for use in (CONSUL, LIBVIRT):
            _bootstrap_certificate(store, plan, node, use, now, renew_certificates)
        for role in NODE_TOKENS:
            name = f"nodes/{node}/{role}-token"
            if renew_tokens and store.exists(name):
                store.replace(name, _new_token())
            else:
                store.once(name, _new_token)
    if plan.masters_on_nodes:
        store.folder("salt")
        _bootstrap_salt_key(store, plan)
    return report


def to_make(folder: Path, plan: Plan, renew_certificates: bool = False, *, renew_tokens: bool = False) -> list[str]:
    """What :func:`bootstrap` with the same arguments would make, sorted. Writes nothing."""
    made = {"ca-key.pem", "ca.pem", "gossip.key", "management-token"}
    renewed: set[str] = set()
    for node in plan.nodes:
        pairs = {f"nodes/{node}/{use}{end}.pem" for use in (CONSUL, LIBVIRT) for end in ("", "-key")}
        tokens = {f"nodes/{node}/{role}-token" for role in NODE_TOKENS}
        made |= pairs | tokens
        renewed |= (pairs if renew_certificates else set()) | (tokens if renew_tokens else set())
    if plan.masters_on_nodes:
        made |= {"salt/master.pem", "salt/master.pub"}
    return sorted(name for name in made if name in renewed or not (folder / name).exists())


def for_node(folder: Path, node: str) -> dict[str, str]:
    """What `node` may see: the authority's certificate, the gossip key and its own folder."""
    own = folder / "nodes" / node
    if not own.is_dir():
        raise FailedError(
            f"no secrets for node {node} in {folder}: run `salt-run mnha.bootstrap cluster={folder.name}`"
        )
    result = {
        "ca": _read(folder / "ca.pem"),
        "certificate": _read(own / "node.pem"),
        "key": _read(own / "node-key.pem"),
        "libvirt_certificate": _read(own / "libvirt.pem"),
        "libvirt_key": _read(own / "libvirt-key.pem"),
        "gossip_key": _read(folder / "gossip.key").strip(),
    }
    for role in NODE_TOKENS:
        result[f"{role}_token"] = _read(own / f"{role}-token").strip()
    return result


def management_token(folder: Path) -> str:
    """Consul's management token, for a master that changes policies and tokens."""
    return _read(folder / "management-token").strip()


def tree(folder: Path) -> dict[str, str]:
    """Every file below `folder` by its relative path: what another master needs to serve this cluster."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if len(files) > MAX_FILES:
        raise FailedError(f"{folder} holds {len(files)} files, more than {MAX_FILES}: is it the right folder?")
    return {str(path.relative_to(folder)): _read(path) for path in files}


class _Store:
    """The folder of one cluster; writes a file once and keeps account of it."""

    def __init__(self, root: Path, report: Report) -> None:
        self.root = root
        self.report = report

    def folder(self, relative: str) -> None:
        path = self.root / relative
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)

    def exists(self, relative: str) -> bool:
        return (self.root / relative).exists()

    def once(self, relative: str, make: Callable[[], bytes]) -> None:
        """Write `make()` to `relative` unless it is there: link(2) decides, so two writers cannot both win."""
        if self.exists(relative):
            self.report.kept.append(relative)
            return
        temporary = self._temporary(relative, make())
        try:
            os.link(temporary, self.root / relative)
            self.report.created.append(relative)
        except FileExistsError:
            self.report.kept.append(relative)
        finally:
            os.unlink(temporary)

    def replace(self, relative: str, content: bytes) -> None:
        """Write `relative` anew; only for what is renewed on request."""
        os.replace(self._temporary(relative, content), self.root / relative)
        self.report.created.append(relative)

    def _temporary(self, relative: str, content: bytes) -> str:
        handle, name = tempfile.mkstemp(dir=(self.root / relative).parent, prefix=".new-")
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        return name


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise FailedError(
            f"cannot read {path}: {error.strerror}: run `salt-run mnha.bootstrap` for its cluster"
        ) from error
    except UnicodeDecodeError as error:
        raise FailedError(f"{path} is not a secret that mnha.bootstrap made: it is not ASCII") from error


def _new_token() -> bytes:
    return f"{uuid.UUID(bytes=secrets.token_bytes(16), version=4)}\n".encode()


def _private_bytes(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_bytes(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _bootstrap_authority(store: _Store, plan: Plan, now: datetime.datetime) -> None:
    """Key first: a certificate without its key would be useless, a key without certificate is completed next time."""
    if store.exists("ca.pem") and not store.exists("ca-key.pem"):
        raise FailedError(
            f"{store.root}/ca.pem has no ca-key.pem: restore it from another master; never make a new one"
        )
    store.once("ca-key.pem", lambda: _private_bytes(ec.generate_private_key(ec.SECP256R1())))
    store.once("ca.pem", lambda: _make_authority(_load_key(store.root / "ca-key.pem"), plan, now))


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(_read(path).encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FailedError(f"{path} is not an elliptic-curve key")
    return key


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path).encode())
    except ValueError as error:
        raise FailedError(f"{path} is not a certificate: {error}") from error


def _make_authority(key: ec.EllipticCurvePrivateKey, plan: Plan, now: datetime.datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"mnha {plan.cluster} authority")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _bootstrap_certificate(store: _Store, plan: Plan, node: str, use: str, now: datetime.datetime, renew: bool) -> None:
    key_name, name = f"nodes/{node}/{use}-key.pem", f"nodes/{node}/{use}.pem"
    if renew and store.exists(name):
        key = ec.generate_private_key(ec.SECP256R1())
        store.replace(key_name, _private_bytes(key))
        store.replace(name, _make_certificate(store, plan, node, use, key, now))
        return
    store.once(key_name, lambda: _private_bytes(ec.generate_private_key(ec.SECP256R1())))
    store.once(name, lambda: _make_certificate(store, plan, node, use, _load_key(store.root / key_name), now))
    store.report.warnings.extend(_certificate_faults(store.root / name, plan, node, use, now))


def _common_name(plan: Plan, node: str, use: str) -> str:
    return certificate_name(plan.cluster, node) if use == LIBVIRT else f"server.{plan.datacenter}.consul"


def _alternative_names(plan: Plan, node: str, use: str) -> list[x509.GeneralName]:
    """The addresses under which it is asked. `server.<dc>.consul` is what Consul's verify_server_hostname looks for; no
    other certificate has it.
    """
    names, numbers = [node], list(dict.fromkeys(plan.nodes[node]))
    if use == CONSUL:
        names = [f"server.{plan.datacenter}.consul", f"{node}.server.{plan.datacenter}.consul", node, "localhost"]
        numbers = ["127.0.0.1", "::1", *numbers]
    return [
        *(x509.DNSName(name) for name in names),
        *(x509.IPAddress(ipaddress.ip_address(number)) for number in numbers),
    ]


def _make_certificate(
    store: _Store, plan: Plan, node: str, use: str, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> bytes:
    authority = _load_certificate(store.root / "ca.pem")
    authority_key = _load_key(store.root / "ca-key.pem")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _common_name(plan, node, use))]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + datetime.timedelta(days=NODE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(_alternative_names(plan, node, use)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate_faults(path: Path, plan: Plan, node: str, use: str, now: datetime.datetime) -> list[str]:
    """What is wrong with an existing certificate, in sentences that end with the remedy."""
    remedy = f"run `salt-run mnha.bootstrap cluster={plan.cluster} renew_certificates=True` and apply the states"
    what = f"the certificate of {node}" if use == CONSUL else f"the {use} certificate of {node}"
    certificate = _load_certificate(path)
    faults = []
    left = certificate.not_valid_after_utc - now
    if left < datetime.timedelta(days=WARN_DAYS):
        faults.append(f"{what} ends in {left.days} days: {remedy}")
    if certificate.public_key() != _load_key(path.with_name(f"{use}-key.pem")).public_key():
        faults.append(f"{what} does not belong to its key: {remedy}")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    missing = [str(name.value) for name in _alternative_names(plan, node, use) if name not in names]
    if missing:
        faults.append(f"{what} does not cover {', '.join(missing)}: {remedy}")
    return faults


def _bootstrap_salt_key(store: _Store, plan: Plan) -> None:
    """The shared master key: this master's own if it has one, else a new one."""

    def private() -> bytes:
        if plan.salt_master_key is not None and plan.salt_master_key.is_file():
            return plan.salt_master_key.read_bytes()
        return _private_bytes(rsa.generate_private_key(public_exponent=65537, key_size=SALT_KEY_BITS))

    def public() -> bytes:
        path = store.root / "salt/master.pem"
        key = serialization.load_pem_private_key(_read(path).encode(), password=None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise FailedError(f"{path} is not an RSA key, and Salt knows no other")
        return _public_bytes(key)

    store.once("salt/master.pem", private)
    store.once("salt/master.pub", public)
    own = plan.salt_master_key
    if own is not None and own.is_file() and own.read_text().strip() != _read(store.root / "salt/master.pem").strip():
        store.report.warnings.append(
            f"this master's key {own} is not the shared key of {plan.cluster}: its minions would refuse the other"
            " masters; put the shared key in its place and restart the master, or remove the key from the minions"
        )
