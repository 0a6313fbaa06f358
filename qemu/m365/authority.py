"""The private certificate authority of the simulated cloud, and the TLS contexts made from it.

Made anew at every start, so that nothing that trusts it can be fooled later.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEFAULT_NAMES = ("127.0.0.1", "localhost", "::1")
ChooseContext = Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]
# Long enough for tests that let simulated years pass on the client's side.
_VALID_FOR = timedelta(days=3650)


@dataclass(frozen=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _name(common_name: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Simulated Microsoft 365")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _make_authority(common_name: str, not_before: datetime) -> _Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(_name(common_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + _VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(subject_key, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Issuer(certificate, key)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_leaf(path: Path, issuer: _Issuer, names: Iterable[str], start: datetime, end: datetime) -> Path:
    """Write certificate and key into one PEM file."""
    names = tuple(names)
    key = ec.generate_private_key(ec.SECP256R1())
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority_key, critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key_pem)
    return path


class TlsMaterial:
    """Certificates of one run, in `directory`: the good one and the bad ones that tests order.

    kinds: `good`, `expired`, `future` (not yet valid), `wrong-name`, `untrusted` (another authority).
    """

    KINDS = ("good", "expired", "future", "wrong-name", "untrusted")

    def __init__(self, directory: Path, names: Iterable[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC) - timedelta(days=1)
        wanted = tuple(dict.fromkeys((*DEFAULT_NAMES, *names)))
        authority = _make_authority("Simulated Microsoft 365 CA", now - timedelta(days=400))
        stranger = _make_authority("Some other CA", now)
        self.ca_file = directory / "ca.pem"
        self.ca_file.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        end, day = now + timedelta(days=825), timedelta(days=1)
        leaves = {
            "good": (authority, wanted, now, end),
            "expired": (authority, wanted, now - 300 * day, now - 10 * day),
            "future": (authority, wanted, now + 300 * day, now + 600 * day),
            "wrong-name": (authority, ("other.invalid",), now, end),
            "untrusted": (stranger, wanted, now, end),
        }
        self._pems = {kind: _write_leaf(directory / f"server-{kind}.pem", *leaf) for kind, leaf in leaves.items()}
        self._contexts = {kind: _server_context(pem) for kind, pem in self._pems.items()}

    def context(self, kind: str, choose: ChooseContext | None = None) -> ssl.SSLContext:
        """A server context that shows the certificate of that kind; `choose` may replace it in each handshake."""
        if choose is None:
            return self._contexts[kind]
        context = _server_context(self._pems[kind])
        context.sni_callback = choose
        return context


def _server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(pem)
    return context
