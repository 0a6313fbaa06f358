"""Who signed in, and may the token send? Checked before a grant is stored.

MSAL checks nothing of the id_token but its nonce (since 1.38), so audience, issuer, tenant and time are checked here.
The token came straight from the token endpoint over TLS, so its signature proves nothing more (OpenID Connect Core
§3.1.3.7). Another account than the sender is no refusal: a shared mailbox or Send As is legitimate, and the mail
server's own answer decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from notifyd.core.events import GrantResult
from notifyd.core.settings import Settings

PERSONAL_TENANT = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""The tenant of all personal Microsoft accounts."""

LEEWAY_S = 300.0
"""Entra's own tolerance for clocks."""

NAME_CLAIMS = ("preferred_username", "email", "upn", "unique_name")

_GUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def refusal(result: GrantResult, settings: Settings, wall: float) -> str:
    """The code of the problem for which this grant must not be stored; empty when it may."""
    return (
        _token_fault(result.claims, settings, wall)
        or _account_fault(result, settings)
        or _grant_fault(result)
    )  # fmt: skip


def _token_fault(claims: Mapping[str, object], settings: Settings, wall: float) -> str:
    audience = claims.get("aud", settings.client_id)
    audiences = audience if isinstance(audience, list | tuple) else [audience]
    if settings.client_id.lower() not in {str(value).lower() for value in audiences}:
        return "signin.wrong-audience"
    if not _issuer_fits(str(claims.get("iss", "")), _text(claims, "tid")):
        return "signin.wrong-issuer"
    return "" if _in_time(claims, wall) else "signin.token-time"


def _issuer_fits(issuer: str, tenant: str) -> bool:
    if not issuer:
        return True
    return issuer.startswith("https://") and (not tenant or tenant.lower() in issuer.lower().split("/"))


def _in_time(claims: Mapping[str, object], wall: float) -> bool:
    ends, begins = claims.get("exp"), claims.get("nbf", claims.get("iat"))
    late = isinstance(ends, int | float) and wall > ends + LEEWAY_S
    early = isinstance(begins, int | float) and wall < begins - LEEWAY_S
    return not late and not early


def _account_fault(result: GrantResult, settings: Settings) -> str:
    tenant = (_text(result.claims, "tid") or result.tenant_id).lower()
    if tenant == PERSONAL_TENANT:
        return "signin.personal-account"
    if _GUID.fullmatch(settings.tenant_id) and tenant and tenant != settings.tenant_id.lower():
        return "signin.wrong-tenant"
    if _is_guest(result):
        return "signin.guest-account"
    return "" if account_of(result) else "signin.no-account"


def _is_guest(result: GrantResult) -> bool:
    provider, issuer = _text(result.claims, "idp"), _text(result.claims, "iss")
    foreign = bool(provider) and provider.rstrip("/").lower() != issuer.rstrip("/").lower() and not _same_tenant(
        provider, _text(result.claims, "tid")
    )  # fmt: skip
    return foreign or str(result.claims.get("acct", "0")) == "1" or "#ext#" in account_of(result).lower()


def _same_tenant(provider: str, tenant: str) -> bool:
    return bool(tenant) and tenant.lower() in provider.lower().split("/")


def _grant_fault(result: GrantResult) -> str:
    if not result.has_refresh_token:
        return "signin.no-refresh-token"
    return "" if may_send(result.scopes) else "signin.no-smtp-scope"


def may_send(scopes: tuple[str, ...]) -> bool:
    """True when SMTP.Send is among them, in full or short form; no list means what was asked (RFC 6749 §5.1)."""
    return not scopes or any(scope.rsplit("/", 1)[-1].lower() == "smtp.send" for scope in scopes)


def account_of(result: GrantResult) -> str:
    """The name of the account that signed in; its object ID when Microsoft told no name."""
    names = (result.account, *(_text(result.claims, claim) for claim in NAME_CLAIMS), result.object_id)
    return next((name for name in names if name), "")


def is_sender(result: GrantResult, sender: str) -> bool:
    """True when the account that signed in is the sender, by any of its names."""
    names = {result.account, *(_text(result.claims, claim) for claim in NAME_CLAIMS)}
    return sender.casefold() in {name.casefold() for name in names if name}


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name, "")
    return value if isinstance(value, str) else ""
