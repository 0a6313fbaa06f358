"""Faults that notifyd itself finds: settings, sign-in, identity, token, clock, store."""

from __future__ import annotations

from notifyd.core.problem import Actor, Source
from notifyd.core.problem_table import GATEWAY, NOBODY, TENANT, Row

HOLD = "Mail is held and does not age."
KEEP = "What is held stays as it was."


def _row(code: str, source: Source, actor: Actor, event: str, title: str, remedy: str, does: str = KEEP) -> Row:
    return Row(code, title, remedy, actor, source, event, does)


SIGNIN, SETTINGS, CLOCK, STORE = Source.SIGNIN, Source.SETTINGS, Source.CLOCK, Source.STORE

ROWS: tuple[Row, ...] = (
    _row("settings.not-applied", SETTINGS, GATEWAY, "mail.held",
         "The mail server is not set up for Microsoft OAuth 2.0",
         "Fill in System > Notification > Mail Server with authentication method Microsoft OAuth 2.0 and press Apply.",
         HOLD),
    _row("settings.secret-missing", SETTINGS, GATEWAY, "mail.held",
         "No client secret is stored",
         "Enter the Value of the client secret in the field Client secret and press Apply.", HOLD),
    _row("token.none", SIGNIN, GATEWAY, "mail.held",
         "Nobody has signed in yet",
         "Press Get New Token and sign in as the sender.", HOLD),
    _row("token.expired", SIGNIN, NOBODY, "token.expired",
         "The access token has ended and is being renewed",
         "Nothing: it is renewed as soon as Microsoft can be reached. Refresh Token Status tries at once.", HOLD),
    _row("token.unproved", SIGNIN, NOBODY, "token.retrieved",
         "The mail server is being asked whether it accepts the new token",
         "Nothing: it takes some seconds.", HOLD),
    _row("signin.unknown-state", SIGNIN, GATEWAY, "signin.refused",
         "This answer belongs to no open sign-in",
         "It was used already, came too late, or was not started here. See Token Status; if it is not Valid, press "
         "Get New Token and complete the sign-in in the new tab."),
    _row("signin.timed-out", SIGNIN, GATEWAY, "signin.timed_out",
         "The sign-in was not completed within ten minutes",
         "If Microsoft's page showed an AADSTS number, look for it in the list of problems: a wrong redirect URI, "
         "client "
         "ID or tenant ID is shown there and never reaches the gateway. Then press Get New Token again."),
    _row("signin.superseded", SIGNIN, GATEWAY, "signin.cancelled",
         "Another tab or a change of the settings was faster",
         "See Token Status; if it is not Valid, press Get New Token."),
    _row("signin.no-code", SIGNIN, GATEWAY, "signin.failed",
         "Microsoft's answer had neither a code nor an error",
         "Press Get New Token and sign in again."),
    _row("signin.wrong-audience", SIGNIN, GATEWAY, "signin.failed",
         "The id token was made for another app",
         "Check that the field Client ID holds this app's Application (client) ID, Apply, and press Get New Token."),
    _row("signin.wrong-issuer", SIGNIN, GATEWAY, "signin.failed",
         "The id token comes from another issuer than the tenant's login host",
         "Check the fields Cloud and Tenant ID, Apply, and press Get New Token."),
    _row("signin.wrong-tenant", SIGNIN, GATEWAY, "signin.failed",
         "The account that signed in belongs to another tenant",
         "Press Get New Token and choose the sender's account, or correct the field Tenant ID."),
    _row("signin.personal-account", SIGNIN, GATEWAY, "signin.failed",
         "A personal Microsoft account signed in",
         "Press Get New Token and sign in with the work account of the sender; personal accounts cannot send through "
         "Microsoft 365."),
    _row("signin.guest-account", SIGNIN, GATEWAY, "signin.failed",
         "A guest of the tenant signed in",
         "Press Get New Token and sign in with a member account that has a mailbox in this tenant."),
    _row("signin.no-account", SIGNIN, GATEWAY, "signin.failed",
         "Microsoft did not say which account signed in",
         "Press Get New Token and sign in again; in Entra the app must be of type Web."),
    _row("signin.no-refresh-token", SIGNIN, GATEWAY, "signin.failed",
         "Microsoft gave no refresh token: the token would end within the hour",
         "Entra > App registrations > API permissions: add the delegated permission offline_access, grant consent, "
         "then "
         "press Get New Token."),
    _row("signin.no-smtp-scope", SIGNIN, GATEWAY, "signin.failed",
         "The token does not allow sending mail",
         "Entra > App registrations > API permissions: add the delegated permission SMTP.Send, grant consent, then "
         "press "
         "Get New Token."),
    _row("signin.token-time", SIGNIN, GATEWAY, "clock.wrong",
         "By the gateway's clock the id token is not valid now",
         "Set date and time of the gateway (System > Date/Time, NTP), then press Get New Token."),
    _row("signin.other-account", SIGNIN, GATEWAY, "token.refused",
         "Another account than the sender signed in, and the mail server does not let it send",
         "Press Get New Token and sign in as the sender, or give the signed-in account Send As permission on the "
         "sender's "
         "mailbox (Exchange admin center > Recipients > Mailboxes > Delegation).", HOLD),
    _row("secret.expiring", SETTINGS, GATEWAY, "secret.expiring",
         "The client secret ends soon",
         "Entra > App registrations > Certificates & secrets: create a new client secret, enter its Value in the field "
         "Client secret with its end date, and press Apply. No new sign-in is needed."),
    _row("secret.expired", SETTINGS, GATEWAY, "secret.expired",
         "The client secret has reached its end date",
         "Entra > App registrations > Certificates & secrets: create a new client secret, enter its Value in the field "
         "Client secret with its end date, and press Apply. No new sign-in is needed."),
    _row("clock.wrong", CLOCK, NOBODY, "clock.wrong",
         "The gateway's clock is wrong, so certificates look invalid",
         "It is retried as soon as the time is right. If that lasts: set System > Date/Time, or let the gateway "
         "reach its "
         "NTP server.", "Retried within a minute of the clock being set."),
    _row("store.write-failed", STORE, GATEWAY, "token.store_failed",
         "The grant could not be stored",
         "Check the gateway's storage (System log, free space on the data partition), then press Get New Token or "
         "Refresh "
         "Token Status."),
    _row("store.no-grant", STORE, GATEWAY, "token.store_failed",
         "The stored grant is gone",
         "Press Get New Token and sign in as the sender.", HOLD),
    _row("store.unreadable", STORE, GATEWAY, "store.unsealable",
         "The stored secrets cannot be opened",
         "They were sealed by another device or are damaged. Enter the Client secret again, press Apply and then Get "
         "New "
         "Token.", HOLD),
    _row("store.no-secret", STORE, GATEWAY, "store.unsealable",
         "The client secret cannot be read from the store",
         "Enter the Value of the client secret in the field Client secret and press Apply.", HOLD),
    _row("worker.failed", STORE, NOBODY, "service.worker_failed",
         "The helper process that talks to Microsoft ended unexpectedly",
         "Nothing: it is started again. If it repeats, report it with a support bundle.",
         "Retried with back-off."),
    _row("signin.consent-declined", SIGNIN, TENANT, "signin.failed",
         "The permissions were not granted",
         "Press Get New Token and accept the permissions; where users may not, a tenant administrator grants admin "
         "consent: Entra > Enterprise applications > the app > Permissions."),
)  # fmt: skip
