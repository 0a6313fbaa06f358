"""Client authentication at the token endpoint: secrets and signed assertions."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from qemu.m365.directory import App, Directory
from qemu.m365.replies import OAuthFault
from qemu.m365.tokens import b64

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Entra allows a little difference between the clocks.
_SKEW_SECONDS = 300


def client_of(directory: Directory, form: Mapping[str, str], authorization: str) -> App:
    """The application that a token request proves to be. Raises OAuthFault."""
    form = {**form, **_basic(authorization)}
    client_id = form.get("client_id", "")
    if not client_id:
        raise OAuthFault(900144, "The request body must contain the following parameter: 'client_id'.")
    app = directory.apps.get(client_id.lower())
    if app is None:
        raise OAuthFault(700016, f"Application with identifier '{client_id}' was not found in the directory 'Contoso'.")
    if not app.enabled:
        raise OAuthFault(7000112, f"Application '{client_id}'({app.name}) is disabled.")
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
        raise OAuthFault(7000215, f"Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{app.client_id}'.")
    if secret.expires_at <= directory.clock.now():
        raise OAuthFault(7000222, f"The provided client secret keys for app '{app.client_id}' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds.")


def _check_assertion(directory: Directory, app: App, form: Mapping[str, str]) -> None:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise OAuthFault(50012, "Authentication failed: client_assertion_type is not supported.")
    assertion = form["client_assertion"]
    try:
        header = jwt.get_unverified_header(assertion)
        key = _certificate_key(app, header)
        options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
        claims: dict[str, Any] = jwt.decode(assertion, key, algorithms=["PS256", "RS256"], options=options)
    except jwt.InvalidTokenError as error:
        raise OAuthFault(700027, f"The certificate used to sign the client assertion is not valid: {error}.") from None
    _check_claims(directory, app, claims)


def _certificate_key(app: App, header: Mapping[str, Any]) -> RSAPublicKey:
    """The public key of the registered certificate that the assertion's header names by thumbprint."""
    for pem in app.certificates:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        sha1 = hashes.SHA1()  # noqa: S303 - a thumbprint, as `x5t` of RFC 7515 defines it
        thumbprints = {"x5t": b64(certificate.fingerprint(sha1)), "x5t#S256": b64(certificate.fingerprint(hashes.SHA256()))}
        if any(header.get(name) == value for name, value in thumbprints.items()):
            key = certificate.public_key()
            if isinstance(key, RSAPublicKey):
                return key
    named = hashlib.sha256(str(header.get("x5t#S256") or header.get("x5t")).encode()).hexdigest()[:16].upper()
    raise OAuthFault(700027, f"The certificate with identifier used to sign the client assertion is not registered on application. [Reason - The key was not found., Thumbprint of key used by client: '{named}']")


def _check_claims(directory: Directory, app: App, claims: Mapping[str, Any]) -> None:
    now = directory.clock.now()
    start, end = float(claims.get("nbf", claims.get("iat", 0))), float(claims.get("exp", 0))
    if not start - _SKEW_SECONDS <= now <= end + _SKEW_SECONDS:
        raise OAuthFault(700024, f"Client assertion is not within its valid time range. Current time: {now:.0f}, assertion valid from {start:.0f}, expiry time of assertion {end:.0f}.")
    if claims.get("sub") != claims.get("iss"):
        raise OAuthFault(50048)
    if claims.get("sub") != app.client_id:
        raise OAuthFault(700027, "Client assertion was issued by another application.")
    if f"/{directory.tenant_id}/" not in str(claims.get("aud", "")) and not any(
        f"/{domain}/" in str(claims.get("aud", "")) for domain in directory.domains
    ):
        raise OAuthFault(50012, "Authentication failed: the client assertion's audience is not this tenant's endpoint.")
