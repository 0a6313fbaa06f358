"""What the OAuth errors mean (RFC 6749 §4.1.2.1, §5.2; OpenID Connect Core §3.1.2.6; Microsoft's additions).

Used when Microsoft gives no AADSTS number, or one that is not in the table. The last four rows are the classes
themselves: any error that nobody has heard of behaves and reads as its class.
"""

from __future__ import annotations

from notifyd.core.problem import Actor, Source
from notifyd.core.problem_table import GATEWAY, NOBODY, TENANT, Row

_SIGN_IN = "Press Get New Token and sign in as the sender."
_FIELDS = "Check the fields Client ID, Tenant ID and Cloud against the app registration in Entra, then press Apply."
_REGISTRATION = (
    "Check the app registration in Entra: platform Web, delegated permissions SMTP.Send and offline_access. "
    "Update the firmware if it stays."
)
_KEPT = "The grant is kept; "
_DOES = {
    "transient": "Retried with back-off and Retry-After; what is held stays.",
    "sign-in": f"{_KEPT}tried three more times over ten minutes, then every 6 hours; the claims asked for go into "
    f"the next "
    "sign-in.",
    "client": f"{_KEPT}tried again once an hour, and at once with a new secret.",
    "config": f"{_KEPT}tried again once an hour, and at once after Apply.",
}


def _row(error: str, kind: str, actor: Actor, title: str, remedy: str) -> Row:
    return Row(f"oauth.{error}", title, remedy, actor, Source.ENTRA, "token.refresh_failed", _DOES[kind])


ERRORS: tuple[Row, ...] = (
    _row("invalid_grant", "sign-in", GATEWAY, "Microsoft does not accept the grant any more", _SIGN_IN),
    _row("interaction_required", "sign-in", GATEWAY, "Microsoft wants the sender to do something at sign-in", _SIGN_IN),
    _row("login_required", "sign-in", GATEWAY, "Microsoft wants a new sign-in", _SIGN_IN),
    _row("consent_required", "sign-in", TENANT, "The permissions are not granted",
         "Press Get New Token and accept the permissions, or a tenant administrator grants admin consent: Entra > "
         "Enterprise "
         "applications > the app > Permissions."),
    _row("access_denied", "sign-in", GATEWAY, "The sign-in was declined",
         "Press Get New Token, sign in as the sender and accept the permissions."),
    _row("invalid_client", "client", GATEWAY, "Microsoft does not accept the client secret",
         "Entra > App registrations > Certificates & secrets: create a new client secret, enter its Value in the "
         "field Client "
         "secret and press Apply."),
    _row("unauthorized_client", "client", GATEWAY, "The app may not do this in this tenant", _FIELDS),
    _row("invalid_request", "config", GATEWAY, "Microsoft does not understand the request", _FIELDS),
    _row("invalid_scope", "config", GATEWAY, "Microsoft does not know the requested permission", _REGISTRATION),
    _row("invalid_resource", "config", TENANT, "The mail service does not exist in this tenant",
         "Check that the tenant has Exchange Online, and the field Cloud."),
    _row("unsupported_grant_type", "config", GATEWAY, "Microsoft does not allow this way of asking", _REGISTRATION),
    _row("unsupported_response_type", "config", GATEWAY, "Microsoft does not allow this way of signing in",
         _REGISTRATION),
    _row("temporarily_unavailable", "transient", NOBODY, "Microsoft's login is busy", "Nothing."),
    _row("server_error", "transient", NOBODY, "Microsoft's login had a fault", "Nothing."),
    _row("slow_down", "transient", NOBODY, "Microsoft asks to slow down", "Nothing."),
    _row("transient", "transient", NOBODY, "Microsoft's login did not work just now",
         "Nothing: it is tried again by itself."),
    _row("sign-in", "sign-in", GATEWAY, "Microsoft wants a new sign-in", _SIGN_IN),
    _row("client", "client", GATEWAY, "Microsoft refuses the app",
         f"{_FIELDS} Then check the field Client secret."),
    _row("config", "config", GATEWAY, "Microsoft refuses the request", _FIELDS),
)  # fmt: skip
