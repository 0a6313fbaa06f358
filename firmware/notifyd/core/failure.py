"""What kind of failure an answer is. Decided from HTTP status, `error`, `suberror` and `Retry-After` alone.

Microsoft: the AADSTS numbers and texts may change and must not be acted upon; they only choose the words
(reference-error-codes). Throttling can arrive as `invalid_grant`, so no failure ever destroys a grant.
"""

from __future__ import annotations

from enum import StrEnum

from notifyd.core.events import Failure, FailureKind


class FailureClass(StrEnum):
    """What the agent does about it.

    TRANSIENT: back off, keep everything. SIGNIN: the sender must sign in again. CLIENT: the app's credential or
    registration is refused. CONFIG: the request itself is refused.
    """

    TRANSIENT = "transient"
    SIGNIN = "sign-in"
    CLIENT = "client"
    CONFIG = "config"


TRANSIENT_STATUS = frozenset({408, 425, 429})
TRANSIENT_ERRORS = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
SIGNIN_ERRORS = frozenset(
    {"invalid_grant", "interaction_required", "login_required", "consent_required", "access_denied"}
)
SIGNIN_SUBERRORS = frozenset({"basic_action", "additional_action", "consent_required", "user_password_expired"})
CLIENT_ERRORS = frozenset({"invalid_client", "unauthorized_client"})


def failure_class(failure: Failure) -> FailureClass:
    """The class of a failed token request; an unknown error behaves as its HTTP status says."""
    status = failure.status or 0
    if failure.kind is not FailureKind.HTTP or status in TRANSIENT_STATUS or status >= 500:
        return FailureClass.TRANSIENT
    if failure.error in TRANSIENT_ERRORS or failure.retry_after_s is not None:
        return FailureClass.TRANSIENT
    if failure.error in SIGNIN_ERRORS or failure.suberror in SIGNIN_SUBERRORS:
        return FailureClass.SIGNIN
    if failure.error in CLIENT_ERRORS or status == 401:
        return FailureClass.CLIENT
    return FailureClass.CONFIG if 400 <= status < 500 or failure.error else FailureClass.TRANSIENT
