"""The device certificate: self-signed, made and renewed on the device, kept in one file with its key.

One file, because a key and a certificate in two could be torn apart by a power cut between two renames.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FILE_NAME = "device.pem"

LIFETIME = timedelta(days=397)  # what browsers accept of a server certificate (CA/Browser Forum BR 6.3.2 until 2026)
RENEW_BEFORE = timedelta(days=30)
BACKDATED = timedelta(days=2)  # the administrator's clock may be a little behind the device's

# A device without a battery clock starts in 1970. No true time is before this; a certificate made under a false one
# begins here and lasts so long that it holds whatever the year really is, until the clock is right and it is renewed.
EARLIEST_TRUE_TIME = datetime(2026, 1, 1, tzinfo=UTC)
LIFETIME_WITHOUT_CLOCK = timedelta(days=20 * 365)

GeneralName = x509.DNSName | x509.IPAddress


def ensure_certificate(directory: Path, hosts: Iterable[str], now: datetime) -> bool:
    """Makes or renews `directory`/device.pem when needed for `hosts` (DNS names and addresses); True when it changed.

    `now` is the wall clock, which may be wrong. Raises OSError when the file cannot be written.
    """
    wanted = frozenset(map(general_name, hosts))
    path = directory / FILE_NAME
    stored = _stored(path)
    if renewal_reason(stored, wanted, now) is None:
        return False
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_atomically(path, issue(wanted or (_names(stored) if stored else wanted), now))
    return True


def general_name(host: str) -> GeneralName:
    """A DNS name or an address literal as it stands in a certificate. Raises ValueError for anything else."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def renewal_reason(certificate: x509.Certificate | None, wanted: frozenset[GeneralName], now: datetime) -> str | None:
    """Why a new certificate is needed, or None.

    A certificate that also names an address the device has lost is kept: every new one costs the administrator
    a browser warning.
    """
    if certificate is None:
        return "there is none"
    if not wanted <= _names(certificate):
        return "a name or address of the device is not in it"
    if now < EARLIEST_TRUE_TIME:
        return None  # nothing can be said about time
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - RENEW_BEFORE:
        return "it is outside its time or near its end"
    if certificate.not_valid_after_utc - certificate.not_valid_before_utc > LIFETIME:
        return "it was made while the clock was wrong"
    return None


def issue(names: frozenset[GeneralName], now: datetime) -> bytes:
    """A fresh key and self-signed certificate for `names`, both as PEM in this order."""
    if now < EARLIEST_TRUE_TIME:
        start, lifetime = EARLIEST_TRUE_TIME, LIFETIME_WITHOUT_CLOCK
    else:
        start, lifetime = now - BACKDATED, LIFETIME
    ordered = sorted(names, key=lambda name: (isinstance(name, x509.IPAddress), str(name.value)))
    common_name = str(ordered[0].value)[:64] if ordered else "gateway"
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "gateway device certificate"),
        ]
    )
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_digital_signature_only(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if ordered:
        builder = builder.add_extension(x509.SubjectAlternativeName(ordered), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def _digital_signature_only() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(certificate: x509.Certificate) -> frozenset[GeneralName]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name for name in extension.value if isinstance(name, GeneralName))


def _stored(path: Path) -> x509.Certificate | None:
    """The stored certificate, or None when there is none that could be served (no file, torn file, foreign key)."""
    try:
        content = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(content)
        key = serialization.load_pem_private_key(content, password=None)
    except (OSError, ValueError, TypeError):
        return None
    return certificate if key.public_key() == certificate.public_key() else None


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
