"""Facts that reach the agent: each names something that has happened, never something to do.

One queue in `service.py` carries them all, so that no two of them are ever decided at once. An answer to something the
agent ordered carries the generation it was ordered under; the agent drops it when that generation no longer counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from notifyd.core.problem import Problem
from notifyd.core.secret import Secret
from notifyd.core.settings import Change as Change
from notifyd.core.settings import Settings

SIGNIN_DEADLINE_S = 600.0
"""Microsoft's authorization code lives about ten minutes, and faults shown on its own pages never come back to us."""


class FailureKind(StrEnum):
    """Where a request to Microsoft ended: an HTTP answer, or the place where none came about."""

    HTTP = "http"
    NETWORK = "network"
    DNS = "dns"
    TIMEOUT = "timeout"
    TLS = "tls"
    TLS_TIME = "tls-time"
    MALFORMED = "malformed"
    WORKER = "worker"
    STORE = "store"


@dataclass(frozen=True, slots=True)
class OAuthError:
    """An error on Microsoft's redirect to the CGI (RFC 6749 §4.1.2.1), as received."""

    error: str
    description: str = ""
    subcode: str = ""
    suberror: str = ""
    claims: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A token request that gave no usable token.

    error, suberror, description, codes, claims: the fields of Microsoft's answer; empty when there was none.
    retry_after_s: the `Retry-After` header in seconds, when there was one.
    """

    status: int | None = None
    error: str = ""
    suberror: str = ""
    description: str = ""
    codes: tuple[int, ...] = ()
    retry_after_s: float | None = None
    trace_id: str = ""
    correlation_id: str = ""
    claims: str = ""
    kind: FailureKind = FailureKind.HTTP


@dataclass(frozen=True, slots=True)
class GrantResult:
    """A token answer, already sealed for the store.

    claims: the id_token's claims (aud, iss, tid, exp, preferred_username, email, …); empty on a refresh.
    sealed: opaque bytes for the slot; only the worker can read them, and only for the generation `sealed_for`, which is
    that of the request: a commit may happen in a later one.
    """

    account: str
    object_id: str
    tenant_id: str
    scopes: tuple[str, ...]
    expires_in: int
    refresh_in: int | None
    claims: Mapping[str, object] = field(repr=False)
    has_refresh_token: bool
    sealed: bytes = field(repr=False)
    access_token: Secret
    sealed_for: int = 0


@dataclass(frozen=True, slots=True)
class SettingsApplied:
    """Settings are stored. Sent after Apply, and once at start with what the store holds (`Change.NONE`)."""

    settings: Settings
    change: Change
    secret_known: bool = True


@dataclass(frozen=True, slots=True)
class SettingsCleared:
    """No settings are stored any more (factory defaults)."""


@dataclass(frozen=True, slots=True)
class SigninStarted:
    """An authorize address was handed to a browser; `signin_id` is its OAuth `state`."""

    signin_id: str
    generation: int
    deadline_s: float = SIGNIN_DEADLINE_S


@dataclass(frozen=True, slots=True)
class SigninAnswered:
    """Microsoft's redirect came back with this `state`: with a code, or with an error."""

    signin_id: str
    has_code: bool
    error: OAuthError | None = None


@dataclass(frozen=True, slots=True)
class RedeemFinished:
    """The worker has exchanged (or failed to exchange) the code of one sign-in."""

    signin_id: str
    generation: int
    result: GrantResult | Failure


@dataclass(frozen=True, slots=True)
class RefreshRequested:
    """Somebody wants the token looked at.

    by: `admin`, `wan-up`, `smtp-rejected` or `schedule`. force: renew even when it is not due.
    """

    by: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class RefreshFinished:
    """The worker has renewed (or failed to renew) the grant."""

    generation: int
    result: GrantResult | Failure


@dataclass(frozen=True, slots=True)
class GrantCommitted:
    """The grant of the last `CommitGrant` is on disk and synced."""

    generation: int


@dataclass(frozen=True, slots=True)
class GrantCommitFailed:
    """The store could not keep the grant; the one before it is untouched."""

    generation: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class ProbeFinished:
    """The AUTH-only check against the mail server is over: None when it let us in."""

    generation: int
    outcome: Problem | None


@dataclass(frozen=True, slots=True)
class MailOutcome:
    """What the mail server made of a message. breaker: repeating it would get the mailbox blocked."""

    ok: bool
    problem: Problem | None = None
    breaker: bool = False


@dataclass(frozen=True, slots=True)
class WanUp:
    """A way to the internet appeared."""


@dataclass(frozen=True, slots=True)
class WanDown:
    """The way to the internet is gone."""


@dataclass(frozen=True, slots=True)
class GrantForgotten:
    """The administrator gave the grant up (`DELETE /api/v1/token`)."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The moment named by `Agent.next_wakeup` has come, or any other moment: it is always safe to send."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The service is about to end in good order."""


Event = (
    SettingsApplied
    | SettingsCleared
    | SigninStarted
    | SigninAnswered
    | RedeemFinished
    | RefreshRequested
    | RefreshFinished
    | GrantCommitted
    | GrantCommitFailed
    | ProbeFinished
    | MailOutcome
    | WanUp
    | WanDown
    | GrantForgotten
    | Tick
    | Stopping
)
