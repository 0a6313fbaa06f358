"""How the gateway proves to Entra which application it is: a client secret, or certificates made on the device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from notifyd.adapters.entra_worker.faults import store

CLIENT_SECRET = "secret"  # noqa: S105  # a name
"""Name of the client secret among the credentials; certificates are named by their thumbprint."""

KEY_BITS = 3072
MAX_CERTIFICATES = 2
"""For a rollover: the one in use, and the one that is being uploaded."""

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""A certificate is never dated by a clock that has not been set yet."""


def decode(content: bytes) -> dict[str, Any]:
    """The settings' secrets. Raises OperationFailed (store)."""
    try:
        secrets = json.loads(content)
    except ValueError:
        secrets = None
    if not isinstance(secrets, dict):
        raise store("secrets_unreadable", "what is sealed are not secrets of this version")
    return secrets


def encode(secrets: Mapping[str, Any]) -> bytes:
    """The settings' secrets as bytes, to be sealed."""
    return json.dumps(dict(secrets)).encode()


def candidates(secrets: Mapping[str, Any], preferred: str, only: str) -> dict[str, Any]:
    """MSAL's `client_credential` for each credential there is, the one that worked last first, then the newest.

    only: use no other than this one (to prove it), or ''. Raises OperationFailed (store) when there is none.
    """
    found: dict[str, Any] = {
        certificate["thumbprint"]: {
            "private_key": certificate["key"],
            "public_certificate": certificate["certificate"],
        }
        for certificate in secrets.get("certificates", ())
    }
    if secrets.get("client_secret"):
        found[CLIENT_SECRET] = secrets["client_secret"]
    names = [only] if only else sorted(found, key=lambda name: name != preferred)
    chosen = {name: found[name] for name in names if name in found}
    if not chosen:
        raise store("no_credential", "no client secret or certificate is stored")
    return chosen


def make_certificate(name: str, days: int, now: float) -> dict[str, Any]:
    """A fresh RSA key and its self-signed certificate for `name`, valid for `days` from `now` (wall clock).

    The thumbprint is the SHA-1 that the portal lists; what is sent to Entra is the SHA-256 (MSAL computes it).
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    start = max(datetime.fromtimestamp(now, UTC), EARLIEST)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64] or "gateway")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - timedelta(days=1))  # Entra's clock may be behind ours
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return {
        "key": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
        "certificate": certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        "thumbprint": certificate.fingerprint(hashes.SHA1()).hex().upper(),  # noqa: S303  # a name, not a proof
        "not_after": certificate.not_valid_after_utc.timestamp(),
    }


def with_certificate(secrets: Mapping[str, Any], certificate: Mapping[str, Any]) -> dict[str, Any]:
    """The secrets with a new certificate first; of earlier ones only the newest stays."""
    kept = [dict(certificate), *secrets.get("certificates", ())]
    return {**secrets, "certificates": kept[:MAX_CERTIFICATES]}
