"""The simulated tenant: users, application registrations, grants. State only; nothing here speaks HTTP or SMTP."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from qemu.m365.clock import SimClock

TENANT_ID = "11111111-2222-4333-8444-555555555555"
CLIENT_ID = "66666666-7777-4888-9999-aaaaaaaaaaaa"
CLIENT_SECRET = "Sim8Q~first-secret-of-the-simulated-app_0001"
DOMAIN = "contoso.example"
PASSWORD = "Simulated-Pa55"

EXCHANGE = "https://outlook.office.com"
GRAPH = "https://graph.microsoft.com"
# Hosts under which Exchange Online's resource is known; the first is what tokens name as audience.
EXCHANGE_NAMES = (EXCHANGE, "https://outlook.office365.com")
OPENID_SCOPES = frozenset({"openid", "profile", "offline_access", "email"})
SMTP_SCOPE = f"{EXCHANGE}/SMTP.Send"

_REDIRECT_URI_LENGTH = 256
CODE_SECONDS = 600
INACTIVITY_SECONDS = 90 * 86400
SPA_SECONDS = 86400


@dataclass
class User:
    """An account that can sign in, or a mailbox that cannot (`kind` shared).

    kind: member, guest, shared, foreign (another tenant), personal. roles: `Global Administrator` may consent for all.
    smtp_auth: the mailbox's own switch, None inherits the tenant's. send_as: mailboxes it may send as.
    """

    upn: str
    name: str
    kind: str = "member"
    password: str = PASSWORD
    enabled: bool = True
    has_mailbox: bool = True
    smtp_auth: bool | None = None
    aliases: set[str] = field(default_factory=set)
    send_as: set[str] = field(default_factory=set)
    roles: set[str] = field(default_factory=set)
    mfa_required: bool = False
    object_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    mailbox_full: bool = False

    def addresses(self) -> set[str]:
        """Every address of the mailbox, in lower case."""
        return {self.upn.lower(), *(a.lower() for a in self.aliases)}


@dataclass
class Secret:
    """A client secret; `key_id` is the Secret ID that people paste by mistake."""

    value: str
    expires_at: float
    key_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class App:
    """An application registration and its enterprise application.

    platform: web, spa or public. consents: user object id → delegated scopes agreed to; `admin_consent` is for all.
    """

    client_id: str
    name: str
    redirect_uris: list[str] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)
    certificates: list[str] = field(default_factory=list)
    platform: str = "web"
    enabled: bool = True
    app_roles: set[str] = field(default_factory=set)
    send_as_app: set[str] = field(default_factory=set)
    assignment_required: bool = False
    assigned: set[str] = field(default_factory=set)
    consents: dict[str, set[str]] = field(default_factory=dict)
    admin_consent: set[str] = field(default_factory=set)
    user_consent_allowed: bool = True
    object_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def consented(self, user: User) -> set[str]:
        """Delegated scopes that need no further consent from this user."""
        return self.admin_consent | self.consents.get(user.object_id, set())


@dataclass
class Code:
    """An authorization code and all it was asked with."""

    app: App
    user: User
    scopes: tuple[str, ...]
    redirect_uri: str
    nonce: str
    challenge: str
    issued_at: float
    session_id: str
    mfa: bool = False
    redeemed: bool = False


@dataclass
class RefreshToken:
    """A refresh token. Use never ends it (as at Microsoft), unless the tenant is in one-time mode."""

    value: str
    app: App
    user: User
    scopes: tuple[str, ...]
    issued_at: float
    signed_in_at: float
    session_id: str
    mfa: bool
    spa: bool
    uses: int = 0
    revoked: int = 0  # the AADSTS number that says why, 0 while good


@dataclass
class Policy:
    """What the tenant's administrator has set.

    block: an AADSTS number that Conditional Access answers refreshes and sign-ins with, 0 for none.
    sign_in_frequency: seconds after which a refresh token is cut off, None for never.
    access_seconds: access-token lifetime, None for the random 60-90 minutes of the default.
    """

    block: int = 0
    block_sign_in: bool = False
    sign_in_frequency: float | None = None
    access_seconds: int | None = None
    one_time_refresh: bool = False
    refresh_token_bytes: int = 900
    smtp_auth_disabled: bool = False
    basic_auth: bool = False
    xoauth2_challenge: bool = False
    loop_detection: bool = False
    polids: str = "f3a0c6f9-3f5b-4b3f-9f51-0d1f0a1b2c3d"


class Directory:
    """Everything Entra knows. All times are simulated seconds since 1970."""

    def __init__(self, clock: SimClock, redirect_uris: tuple[str, ...] = ()) -> None:
        self.clock = clock
        self._given_redirect_uris = redirect_uris
        self.reset()

    def reset(self) -> None:
        """Back to the state of a fresh start; every grant is gone."""
        self.tenant_id = TENANT_ID
        self.domains = {DOMAIN}
        self.policy = Policy()
        self.users = {u.upn.lower(): u for u in _default_users()}
        secret = Secret(CLIENT_SECRET, self.clock.now() + 180 * 86400, "0f0e0d0c-0b0a-4909-8807-060504030201")
        app = App(CLIENT_ID, "Contoso gateway", list(self._given_redirect_uris), [secret])
        self.apps = {app.client_id: app}
        self.codes: dict[str, Code] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        # For loop detection: when identical token requests came.
        self.recent_requests: dict[str, deque[float]] = {}

    def knows_tenant(self, name: str) -> bool:
        """Whether a path's tenant part means this tenant."""
        return name.lower() == self.tenant_id or name.lower() in self.domains

    def user(self, name: str) -> User | None:
        """The account of that sign-in name or alias."""
        wanted = name.strip().lower()
        found = self.users.get(wanted)
        return found or next((u for u in self.users.values() if wanted in u.addresses()), None)

    def mailbox(self, address: str) -> User | None:
        """The user that owns the mailbox of that address."""
        found = self.user(address)
        return found if found is not None and found.has_mailbox else None

    def new_code(self, code: Code) -> str:
        """Keep a code and give its name."""
        value = f"1.A{secrets.token_urlsafe(24)}.AgABBAIAAAD{secrets.token_urlsafe(380)}"
        self.codes[value] = code
        return value

    def new_refresh_token(self, old: RefreshToken | None, **facts: Any) -> RefreshToken:
        """Issue a refresh token; `old` is the one used for it, and the facts are kept from that."""
        size = self.policy.refresh_token_bytes
        body = base64.urlsafe_b64encode(secrets.token_bytes(size)).decode()
        value = f"{secrets.choice('01')}.A{body}"[:size]
        now = self.clock.now()
        if old is None:
            token = RefreshToken(value, issued_at=now, **facts)
        else:
            kept = (old.app, old.user, old.scopes)
            token = RefreshToken(value, *kept, now, old.signed_in_at, old.session_id, old.mfa, old.spa)
        self.refresh_tokens[value] = token
        return token

    def revoke(self, user: User, number: int = 50173) -> int:
        """End all refresh tokens of a user; the number is what refreshes then hear. Returns how many."""
        mine = [t for t in self.refresh_tokens.values() if t.user is user and not t.revoked]
        for token in mine:
            token.revoked = number
        return len(mine)


def redirect_uri_fault(uri: str) -> str:
    """Why Entra would not register a redirect URI, empty when it would."""
    parts = urlsplit(uri)
    if len(uri) > _REDIRECT_URI_LENGTH:
        return f"longer than {_REDIRECT_URI_LENGTH} characters"
    if set(uri) & set("!$'(),;*"):
        return "contains a character that is not allowed"
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "localhost"):
        return "must begin with https, or http://localhost"
    if parts.hostname == "::1":
        return "the IPv6 loopback address is not supported"
    return ""


def _default_users() -> list[User]:
    gateway = User(f"gateway@{DOMAIN}", "Gateway", send_as={f"alerts@{DOMAIN}"}, object_id=_oid(1))
    admin = User(f"admin@{DOMAIN}", "Tenant Administrator", roles={"Global Administrator"}, object_id=_oid(2))
    alerts = User(f"alerts@{DOMAIN}", "Alerts (shared mailbox)", kind="shared", object_id=_oid(3))
    guest = User("guest@fabrikam.example", "Guest of Fabrikam", kind="guest", has_mailbox=False, object_id=_oid(4))
    other = User("someone@northwind.example", "Someone Else", kind="foreign", has_mailbox=False, object_id=_oid(5))
    person = User("person@outlook.example", "A Person", kind="personal", has_mailbox=False, object_id=_oid(6))
    return [gateway, admin, alerts, guest, other, person]


def _oid(number: int) -> str:
    return f"aaaaaaaa-0000-4000-8000-{number:012d}"
