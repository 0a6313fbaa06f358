"""The applied settings of the mail server page: values, and how what an administrator enters becomes them.

Liberal in what is pasted (blanks of every kind around values, the names that other products give to the methods),
strict in what is meant: every refusal names the field (RFC 6901 pointer) and says what to enter instead.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import IntEnum, StrEnum
from typing import TypeVar

from notifyd.core.clouds import Cloud
from notifyd.core.secret import Secret


class Security(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class Auth(StrEnum):
    NONE = "none"
    PASSWORD = "password"  # noqa: S105  # the name of a method
    OAUTH2 = "oauth2"


class Change(IntEnum):
    """How deep a change of the settings cuts; the greater one wins."""

    NONE = 0
    COSMETIC = 1
    SECRET = 2
    IDENTITY = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """Applied settings without their secrets (those are sealed and never leave the store in clear).

    username: the login name for `auth=password`; empty means the sender address.
    secret_expires_on: the day the client secret ends at Microsoft, when known.
    """

    server: str
    port: int
    security: Security
    auth: Auth
    cloud: str
    sender: str
    client_id: str = ""
    tenant_id: str = ""
    username: str = ""
    secret_expires_on: date | None = None


@dataclass(frozen=True, slots=True)
class FieldError:
    """One refused field. pointer: RFC 6901, such as `/client_id`. detail: what is wrong and what to enter instead."""

    pointer: str
    detail: str


class InvalidSettings(ValueError):
    """Some fields cannot be applied; `errors` has at least one entry."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.pointer}: {error.detail}" for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class ParsedSettings:
    """Settings to apply. client_secret, password: newly entered ones; None keeps the stored one."""

    settings: Settings
    client_secret: Secret | None
    password: Secret | None
    change: Change


AUTH_NAMES: Mapping[str, Auth] = {
    "none": Auth.NONE,
    "password": Auth.PASSWORD,
    "oauth2": Auth.OAUTH2,
    "oauth": Auth.OAUTH2,
    "xoauth2": Auth.OAUTH2,
    "msoauth2": Auth.OAUTH2,
    "microsoft oauth 2.0": Auth.OAUTH2,
}
SECURITY_NAMES: Mapping[str, Security] = {
    "none": Security.NONE,
    "starttls": Security.STARTTLS,
    "tls": Security.TLS,
    "ssl": Security.TLS,
}
FIELDS = frozenset(
    "server port security auth cloud sender client_id tenant_id "
    "client_secret password username secret_expires_on".split()
)
LONGEST_SECRET = 1024
LONGEST_TEXT = 320
DEFAULT_CLOUD = "public"

Kind = TypeVar("Kind", bound=StrEnum)

_BLANKS = "\u00a0\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""What comes along when text is copied from a web page: no-break, zero-width and direction characters."""

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?$){_LABEL}(?:\.{_LABEL})*\.?", re.IGNORECASE)
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")
"""No name ends so, but resolvers take it for an address in another notation (0x7f.1, 2130706433)."""
_DOMAIN = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)+[a-z0-9-]*[a-z][a-z0-9-]*", re.IGNORECASE)
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_SHARED_TENANTS = frozenset({"common", "organizations", "consumers"})


def change_between(before: Settings, after: Settings) -> Change:
    """How deep the difference cuts. Tenant, client ID, sender, cloud and method are the identity of a grant."""
    if _identity(before) != _identity(after):
        return Change.IDENTITY
    return Change.NONE if before == after else Change.COSMETIC


def _identity(settings: Settings) -> tuple[str, ...]:
    fields = (settings.tenant_id, settings.client_id, settings.sender, settings.cloud)
    return (settings.auth.value, *(field.casefold() for field in fields))


def trimmed(text: str) -> str:
    """Without the blanks of every kind that copying brings along at both ends."""
    return text.strip(_BLANKS + " \t\r\n\v\f\u2028\u2029\u3000\u2003\u2002\u2009\u202f")


def parse_settings(body: Mapping[str, object], current: Settings | None, clouds: Mapping[str, Cloud]) -> ParsedSettings:
    """Check and normalise what was entered. Raises InvalidSettings with every refused field.

    Fields that are absent keep their value of `current`; without one they take the cloud's default. Secrets that are
    absent or empty keep the stored ones, except that a new identity needs its own.
    """
    return _Parser(body, current, clouds).parsed()


class _Parser:
    """Reads field by field and collects the refusals."""

    def __init__(self, body: Mapping[str, object], current: Settings | None, clouds: Mapping[str, Cloud]) -> None:
        self._body = body
        self._current = current
        self._clouds = clouds
        self._errors: list[FieldError] = []

    def parsed(self) -> ParsedSettings:
        for name in sorted(str(key) for key in self._body.keys() - FIELDS):
            self._refuse(name, "is not a setting")
        settings = self._settings()
        secret = self._secret("client_secret", looks_like_id=True)
        password = self._secret("password", looks_like_id=False)
        change = self._change(settings, secret, password)
        if self._errors:
            raise InvalidSettings(self._errors)
        return ParsedSettings(settings, secret, password, change)

    def _settings(self) -> Settings:
        auth = self._named("auth", AUTH_NAMES, Auth.OAUTH2)
        oauth = auth is Auth.OAUTH2
        cloud = self._cloud()
        security = self._named("security", SECURITY_NAMES, Security.STARTTLS)
        if oauth and security is Security.NONE:
            self._refuse("security", "Microsoft OAuth 2.0 needs STARTTLS (or TLS): a token is never sent in clear")
        return Settings(
            server=self._checked("server", _server_fault, cloud.smtp_host if cloud else ""),
            port=self._port(cloud),
            security=security,
            auth=auth,
            cloud=cloud.name if cloud else DEFAULT_CLOUD,
            sender=self._checked("sender", _sender_fault, ""),
            client_id=self._id("client_id", _client_fault, needed=oauth),
            tenant_id=self._id("tenant_id", _tenant_fault, needed=oauth),
            username=self._text("username", ""),
            secret_expires_on=self._day(),
        )

    def _refuse(self, field: str, detail: str) -> None:
        escaped = field.replace("~", "~0").replace("/", "~1")[:80]
        self._errors.append(FieldError(f"/{escaped}", detail))

    def _kept(self, field: str) -> object:
        return getattr(self._current, field) if self._current is not None else None

    def _text(self, field: str, default: str) -> str:
        value = self._body.get(field)
        if value is None:
            kept = self._kept(field)
            return str(kept) if kept else default
        if not isinstance(value, str):
            self._refuse(field, "must be a text")
            return default
        text = trimmed(value)
        if len(text) > LONGEST_TEXT or any(ord(char) < 32 or ord(char) == 127 for char in text):
            self._refuse(field, f"must be one line of at most {LONGEST_TEXT} characters")
            return default
        return text

    def _checked(self, field: str, fault: Callable[[str], str], default: str) -> str:
        text = self._text(field, default) or default
        if any(error.pointer == f"/{field}" for error in self._errors):
            return text
        wrong = fault(text)
        if wrong:
            self._refuse(field, wrong)
        return text.rstrip(".") if field == "server" else text

    def _id(self, field: str, fault: Callable[[str], str], *, needed: bool) -> str:
        text = self._text(field, "")
        if not needed and not text:
            return ""
        wrong = fault(text)
        if wrong and not any(error.pointer == f"/{field}" for error in self._errors):
            self._refuse(field, wrong)
        return text.lower()

    def _named(self, field: str, names: Mapping[str, Kind], default: Kind) -> Kind:
        value = self._body.get(field)
        if value is None:
            kept = self._kept(field)
            return kept if isinstance(kept, type(default)) else default
        found = names.get(" ".join(trimmed(value).lower().split())) if isinstance(value, str) else None
        if found is None:
            choices = ", ".join(sorted({kind.value for kind in names.values()}))
            self._refuse(field, f"must be one of {choices}")
            return default
        return found

    def _cloud(self) -> Cloud | None:
        name = self._text("cloud", DEFAULT_CLOUD) or DEFAULT_CLOUD
        cloud = self._clouds.get(name) or self._clouds.get(name.lower())
        if cloud is None:
            self._refuse("cloud", f"is not known; choose one of {', '.join(sorted(self._clouds))}")
        return cloud

    def _port(self, cloud: Cloud | None) -> int:
        value = self._body.get("port")
        if value is None:
            kept = self._kept("port")
            return kept if isinstance(kept, int) else cloud.smtp_port if cloud else 587
        if isinstance(value, str) and trimmed(value).isascii() and trimmed(value).isdigit() and len(value) < 20:
            value = int(trimmed(value))
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
            self._refuse("port", "must be a number from 1 to 65535; Microsoft 365 uses 587")
            return 587
        return value

    def _day(self) -> date | None:
        if "secret_expires_on" not in self._body:
            kept = self._kept("secret_expires_on")
            return kept if isinstance(kept, date) else None
        value = self._body["secret_expires_on"]
        if value is None or (isinstance(value, str) and not trimmed(value)):
            return None
        try:
            return date.fromisoformat(trimmed(value) if isinstance(value, str) else "")
        except ValueError:
            self._refuse("secret_expires_on", "must be a date such as 2027-05-31")
            return None

    def _secret(self, field: str, *, looks_like_id: bool) -> Secret | None:
        value = self._body.get(field)
        if value is None or isinstance(value, Mapping):
            return None  # absent, or the {"set": true} that reading gave
        if not isinstance(value, str):
            self._refuse(field, "must be a text")
            return None
        text = trimmed(value)
        if not text:
            return None
        if looks_like_id and _GUID.fullmatch(text):
            self._refuse(
                field, "this is the Secret ID; paste the secret's Value (Entra > Certificates & secrets > Value)"
            )
        elif len(text) > LONGEST_SECRET or any(ord(char) < 32 or ord(char) == 127 for char in text):
            self._refuse(field, f"must be one line of at most {LONGEST_SECRET} characters")
        elif looks_like_id and not text.isascii():
            self._refuse(field, "has characters that no client secret has; copy the Value again")
        return Secret(text)

    def _change(self, settings: Settings, secret: Secret | None, password: Secret | None) -> Change:
        before = self._current
        change = Change.IDENTITY if before is None else change_between(before, settings)
        if change is Change.IDENTITY and settings.auth is Auth.OAUTH2 and secret is None:
            self._need("client_secret", "is needed: enter the Value of the app's client secret")
        if change is Change.IDENTITY and settings.auth is Auth.PASSWORD and password is None:
            self._need("password", "is needed")
        if change < Change.SECRET and (secret is not None or password is not None):
            return Change.SECRET
        return change

    def _need(self, field: str, detail: str) -> None:
        if not any(error.pointer == f"/{field}" for error in self._errors):
            self._refuse(field, detail)


def _server_fault(text: str) -> str:
    try:
        ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        pass
    else:
        return ""
    if not _HOST.fullmatch(text) or _NUMBER_AT_END.fullmatch(text):
        return "must be a DNS name or address, such as smtp.office365.com"
    return ""


def _sender_fault(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at or len(local) > 64 or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        return "must be one e-mail address, such as gateway@contoso.com"
    return ""


def _client_fault(text: str) -> str:
    if _GUID.fullmatch(text):
        return ""
    return "must be the Application (client) ID of the app registration, such as 00001111-aaaa-2222-bbbb-3333cccc4444"


def _tenant_fault(text: str) -> str:
    if text.lower() in _SHARED_TENANTS:
        return "must be your tenant's own ID: a single-tenant app cannot use common, organizations or consumers"
    if _GUID.fullmatch(text) or _DOMAIN.fullmatch(text):
        return ""
    return "must be the Directory (tenant) ID, or a domain of the tenant such as contoso.onmicrosoft.com"
