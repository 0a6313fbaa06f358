"""What went wrong, in a form that a page, an event and a program can all use."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Actor(StrEnum):
    """Who must act before the problem goes away."""

    NOBODY = "nobody"
    GATEWAY_ADMIN = "gateway-admin"
    TENANT_ADMIN = "tenant-admin"


class Source(StrEnum):
    """Where the fault was seen."""

    ENTRA = "entra"
    SMTP = "smtp"
    NETWORK = "network"
    TLS = "tls"
    CLOCK = "clock"
    STORE = "store"
    SETTINGS = "settings"
    SIGNIN = "signin"


@dataclass(frozen=True, slots=True)
class Problem:
    """A named fault with its remedy (design §4, `problem` of `GET /api/v1/status`).

    code: stable, such as `AADSTS7000222`, `smtp.535-5.7.139`, `network.timeout`, `clock.wrong`.
    detail: the server's own words, cleaned of control characters and bounded; empty when there are none.
    transient: True when it is expected to pass with nobody acting.
    since: wall-clock seconds at which it was first seen.
    trace_id, correlation_id: Microsoft's identifiers for a support case, when it gave any.
    claims: a Conditional Access claims challenge to pass on to the next sign-in, when there was one.
    """

    code: str
    title: str
    detail: str
    remedy: str
    transient: bool
    since: float
    source: Source
    actor: Actor = Actor.GATEWAY_ADMIN
    trace_id: str = ""
    correlation_id: str = ""
    claims: str = ""

    def as_json(self) -> dict[str, object]:
        """The public form; `claims` stays inside (it goes to the next authorize request only)."""
        public = asdict(self)
        del public["claims"]
        return public
