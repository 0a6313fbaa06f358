"""Client authentication at the token endpoint: secrets and signed assertions."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from qemu.m365.directory import App, Directory
from qemu.m365.replies import OAuthFault
from qemu.m365.tokens import b64, signed_claims

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Entra allows a little difference between the clocks.
_SKEW_SECONDS = 300


def client_of(directory: Directory, form: Mapping[str, str], authorization: str) -> App:
    """The application that a token request proves to be. Raises OAuthFault."""
    form = {**form, **_basic(authorization)}
    client_id = form.get("client_id", "")
    if not client_id:
        raise OAuthFault(900144, parameter="client_id")
    app = directory.apps.get(client_id.lower())
    if app is None:
        raise OAuthFault(700016, app=client_id)
    if not app.enabled:
        raise OAuthFault(7000112, app=client_id, name=app.name)
    if "client_assertion" in form:
        _check_assertion(directory, app, form)
    elif form.get("client_secret"):
        _check_secret(directory, app, form["client_secret"])
    elif app.platform == "web":
        raise OAuthFault(7000218)
    return app


def _basic(authorization: str) -> dict[str, str]:
    """Client id and secret from an HTTP Basic header, form-decoded as RFC 6749 §2.3.1 says."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise OAuthFault(9002313) from None
    return {"client_id": unquote(name), "client_secret": unquote(secret)}


def _check_secret(directory: Directory, app: App, value: str) -> None:
    if app.platform == "public":
        raise OAuthFault(700025)
    secret = next((s for s in app.secrets if s.value == value), None)
    if secret is None:
        raise OAuthFault(7000215, app=app.client_id)
    if secret.expires_at <= directory.clock.now():
        raise OAuthFault(7000222, app=app.client_id)


def _check_assertion(directory: Directory, app: App, form: Mapping[str, str]) -> None:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise OAuthFault(50012, reason="client_assertion_type is not supported")
    assertion = form["client_assertion"]
    try:
        header = jwt.get_unverified_header(assertion)
        key = _certificate_key(app, header)
        claims = signed_claims(assertion, key, ["PS256", "RS256"])
    except jwt.InvalidTokenError as error:
        raise OAuthFault(700027, reason=f"the signature is not valid: {error}") from None
    _check_claims(directory, app, claims)


def _certificate_key(app: App, header: Mapping[str, Any]) -> RSAPublicKey:
    """The public key of the registered certificate that the assertion's header names by thumbprint."""
    for pem in app.certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        thumbprints = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}
        # MSAL pads its thumbprints, which RFC 7515 does not and Entra takes.
        named = {name: str(header.get(name, "")).rstrip("=") for name in thumbprints}
        if any(named[name] == b64(certificate.fingerprint(kind)) for name, kind in thumbprints.items()):
            key = certificate.public_key()
            if isinstance(key, RSAPublicKey):
                return key
    raise OAuthFault(700027, reason="The key was not found.")


def _check_claims(directory: Directory, app: App, claims: Mapping[str, Any]) -> None:
    now = directory.clock.now()
    start, end = float(claims.get("nbf", claims.get("iat", 0))), float(claims.get("exp", 0))
    if not start - _SKEW_SECONDS <= now <= end + _SKEW_SECONDS:
        raise OAuthFault(700024, now=f"{now:.0f}", start=f"{start:.0f}", end=f"{end:.0f}")
    if claims.get("sub") != claims.get("iss"):
        raise OAuthFault(50048)
    if claims.get("sub") != app.client_id:
        raise OAuthFault(700027, reason="the assertion was issued by another application")
    audience = str(claims.get("aud", ""))
    if not any(f"/{tenant}/" in audience for tenant in (directory.tenant_id, *directory.domains)):
        raise OAuthFault(50012, reason="the client assertion's audience is not this tenant's endpoint")
