"""The applied settings of the mail server page, as values that check themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Security(StrEnum):
    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class Auth(StrEnum):
    NONE = "none"
    PASSWORD = "password"
    OAUTH2 = "oauth2"


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
