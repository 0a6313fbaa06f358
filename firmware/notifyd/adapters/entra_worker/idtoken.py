"""Whose token is it? The checks of an id_token that MSAL leaves to the application (MSAL PR 943). Pure functions.

The signature is not checked: the token came straight from the token endpoint over a verified TLS connection (OpenID
Connect Core §3.1.3.7 point 6).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from notifyd.adapters.entra_worker.faults import malformed

LEEWAY_S = 300.0
"""How far the clocks of Entra's own machines may be apart."""

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
HANDED_UP = (
    "aud",
    "iss",
    "tid",
    "exp",
    "iat",
    "oid",
    "sub",
    "preferred_username",
    "upn",
    "email",
    "name",
    "acct",
    "idp",
)
ACCOUNT_CLAIMS = ("preferred_username", "upn", "email")


@dataclass(frozen=True, slots=True)
class Expected:
    """What an id_token must say.

    issuers: any of these; `{tenantid}` stands for the token's own tenant. nonce: as sent (MSAL hashes it on the way).
    now: wall-clock seconds, the identity provider's own when it told them, since ours may be wrong.
    """

    client_id: str
    tenant_id: str
    issuers: tuple[str, ...]
    nonce: str
    now: float


def read(token: str) -> dict[str, Any]:
    """The claims of an id_token, unchecked. Raises OperationFailed (malformed) when there are none."""
    try:
        _header, payload, _signature = token.split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise malformed("id_token_unreadable", "the id_token cannot be read")
    return claims


def check(claims: Mapping[str, Any], expected: Expected) -> dict[str, object]:
    """The claims that count, all of them checked. Raises OperationFailed (malformed) that names the claim at fault."""
    tenant = _text(claims, "tid")
    _require(_audience_fits(claims.get("aud"), expected.client_id), "aud", "is for another application")
    issuers = [issuer.replace("{tenantid}", tenant) for issuer in expected.issuers]
    _require(_text(claims, "iss") in issuers, "iss", "comes from another issuer")
    foreign = bool(tenant) and bool(GUID.fullmatch(expected.tenant_id)) and tenant.lower() != expected.tenant_id.lower()
    _require(not foreign, "tid", "belongs to another tenant")
    _require(_number(claims, "exp", default=0) > expected.now - LEEWAY_S, "exp", "has expired")
    _require(_number(claims, "nbf", default=0) < expected.now + LEEWAY_S, "nbf", "is not valid yet")
    nonce = hashlib.sha256(expected.nonce.encode()).hexdigest()
    _require(hmac.compare_digest(_text(claims, "nonce").encode(), nonce.encode()), "nonce", "answers another sign-in")
    return {name: claims[name] for name in HANDED_UP if isinstance(claims.get(name), str | int | float | list)}


def account(claims: Mapping[str, Any]) -> str:
    """The mailbox address of the account that signed in, or '' when the token does not tell."""
    return next((_text(claims, name) for name in ACCOUNT_CLAIMS if _text(claims, name)), "")


def object_id(claims: Mapping[str, Any]) -> str:
    """The account's object ID, which stays when the address changes; other identity providers have only `sub`."""
    return _text(claims, "oid") or _text(claims, "sub")


def _audience_fits(audience: object, client_id: str) -> bool:
    audiences = audience if isinstance(audience, list) else [audience]
    return any(isinstance(one, str) and one.lower() == client_id.lower() for one in audiences)


def _require(fits: bool, claim: str, what: str) -> None:
    if not fits:
        raise malformed(f"id_token_{claim}", f"the id_token {what}")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) else ""


def _number(claims: Mapping[str, Any], name: str, default: float) -> float:
    value = claims.get(name, default)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
