"""What the mail server's replies mean (Exchange Online first, any RFC 5321 server after it).

A reply is matched from the top: code, enhanced code (RFC 3463) and a piece of the text, where given. The first match
counts; the last rows catch whatever is left by its first digit.
"""

from __future__ import annotations

from dataclasses import dataclass

from notifyd.core.problem import Actor, Source
from notifyd.core.problem_table import GATEWAY, NOBODY, TENANT, Row

ADMIN_CENTRE = "Microsoft 365 admin center > Users > Active users > the sender > Mail > Manage email apps"
EXCHANGE = "Exchange admin center"
HOLD = "Mail is held and does not age; the login alone is checked again every 15 to 60 minutes."
DEFER = "The message stays in the queue and is tried again with back-off."
FAIL = "The message is given up and reported as undeliverable; others go on."
BREAK = "Sending stops for hours, so that Exchange does not block the mailbox; Apply or a test mail ends the pause."
RENEW = "The token is renewed once and the login checked; refused again, mail is held."

_DEFERRED, _FAILED, _REFUSED, _BROKEN = "mail.deferred", "mail.failed", "token.refused", "mail.breaker_opened"


@dataclass(frozen=True, slots=True)
class Match:
    """A reply and its row. code 0: any. enhanced: beginning of the enhanced code. text: lower-case piece of it."""

    code: int
    enhanced: str
    text: str
    row: Row
    stage: str = ""

    def fits(self, code: int, enhanced: str, text: str, stage: str) -> bool:
        """True when this reply is meant."""
        return (
            self.code in (0, code)
            and (not self.enhanced or f"{enhanced}.".startswith(f"{self.enhanced}."))
            and self.text in text
            and self.stage in ("", stage)
        )


def _row(code: str, title: str, remedy: str, actor: Actor, event: str, does: str) -> Row:
    return Row(f"smtp.{code}", title, remedy, actor, Source.SMTP, event, does)


_SPAM = "Microsoft 365 Defender > Email & collaboration > Review > Restricted entities"

_TENANT_OFF = _row("535-5.7.139-tenant", "Authenticated SMTP is switched off for the whole organisation",
    f"{EXCHANGE} > Settings > Mail flow: untick \"Turn off SMTP AUTH protocol for your organization\"; or switch it "
    f"on for "
    f"the sender alone: {ADMIN_CENTRE} > Authenticated SMTP. It takes up to an hour.", TENANT, _REFUSED,
    HOLD)  # fmt: skip
_MAILBOX_OFF = _row("535-5.7.139-mailbox", "Authenticated SMTP is switched off for the sender's mailbox",
    f"{ADMIN_CENTRE}: tick Authenticated SMTP. It takes up to an hour.", TENANT, _REFUSED, HOLD)  # fmt: skip
_DEFAULTS = _row("535-5.7.139-security-defaults", "The organisation's security defaults lock this login out",
    "Use authentication method Microsoft OAuth 2.0; security defaults block passwords. If it is chosen already: "
    f"{ADMIN_CENTRE} > Authenticated SMTP.", TENANT, _REFUSED, HOLD)  # fmt: skip
_BASIC_OFF = _row("535-5.7.139-basic", "Microsoft 365 no longer takes passwords for SMTP",
    "Choose authentication method Microsoft OAuth 2.0 on System > Notification > Mail Server.", GATEWAY, _REFUSED,
    HOLD)  # fmt: skip
_CRITERIA = _row("535-5.7.139", "A policy of the organisation refuses the login at the mail server",
    f"Check {ADMIN_CENTRE} > Authenticated SMTP, then Entra > Conditional Access and Sign-in logs for the sender.",
    TENANT, _REFUSED, HOLD)  # fmt: skip
_AUTH_BAD = _row("535-5.7.3", "The mail server does not accept the token for this mailbox",
    "Check that the field Sender is the mailbox that signed in (or that it may Send As the sender), that "
    "Authenticated SMTP "
    f"is on ({ADMIN_CENTRE}), and that the app has the delegated permission SMTP.Send; then press Get New Token.",
    GATEWAY, _REFUSED, RENEW)  # fmt: skip
_AUTH_OTHER = _row("535", "The mail server refuses the login",
    "Check user name and password, or press Get New Token when the authentication method is Microsoft OAuth 2.0.",
    GATEWAY, _REFUSED, RENEW)  # fmt: skip
_BASIC_GONE = _row("550-5.7.30", "Microsoft 365 has retired passwords for SMTP",
    "Choose authentication method Microsoft OAuth 2.0 on System > Notification > Mail Server.", GATEWAY, _REFUSED,
    HOLD)  # fmt: skip
_NOT_AUTHED = _row("530-5.7.57", "The mail server wants a login before it takes mail",
    f"Choose an authentication method, and check {ADMIN_CENTRE} > Authenticated SMTP.", GATEWAY, _REFUSED,
    HOLD)  # fmt: skip
_NEEDS_AUTH = _row("530", "The mail server wants a login or TLS first",
    "Choose security STARTTLS and an authentication method.", GATEWAY, _REFUSED, HOLD)  # fmt: skip
_NO_METHOD = _row("504", "The mail server does not know this way of logging in",
    "Choose another authentication method; XOAUTH2 is offered by Microsoft 365 only.", GATEWAY, _REFUSED,
    HOLD)  # fmt: skip
_AUTH_LATER = _row("454-4.7.0", "The mail server cannot check logins just now",
    "Nothing. If it lasts for hours, check that the sender is the mailbox that signed in.", NOBODY, _DEFERRED,
    DEFER)  # fmt: skip
_TLS_OLD = _row("421-4.7.66", "The mail server refuses old TLS versions",
    "The gateway's TLS must be 1.2 or newer: update the firmware, or remove a proxy on the way.", GATEWAY, _REFUSED,
    HOLD)  # fmt: skip
_INACTIVE = _row("421-4.3.2", "The mail service is not active just now", "Nothing.", NOBODY, _DEFERRED,
     DEFER)  # fmt: skip
_DROPPED = _row("421-4.4.2", "The mail server dropped the connection (idle, or too many messages)", "Nothing.",
    NOBODY, _DEFERRED, DEFER)  # fmt: skip
_CONCURRENT = _row("432-4.3.2", "Too many connections to this mailbox at once",
    "Nothing. If it lasts, another device sends with the same mailbox: give the gateway one of its own.",
    NOBODY, _DEFERRED, DEFER)  # fmt: skip
_IP_BUSY = _row("451-4.7.500", "Exchange slows this address down because its sending pattern changed",
    "Nothing: it eases within hours to days.", NOBODY, _DEFERRED, DEFER)  # fmt: skip
_IP_SUSPECT = _row("451-4.7.850", "Exchange slows this address down for suspicious traffic",
    "Nothing at first. If it lasts, check what else sends from the gateway's public address.", NOBODY, _DEFERRED,
    DEFER)  # fmt: skip
_MANY_RCPT = _row("452-4.5.3", "Too many recipients in one message", "Nothing: the recipients are split.",
    NOBODY, _DEFERRED, DEFER)  # fmt: skip
_TENANT_SPAM = _row("550-5.7.705", "The organisation has sent too much suspicious mail and is stopped",
    f"{_SPAM}; then Microsoft support.", TENANT, _BROKEN, BREAK)  # fmt: skip
_BAD_IP = _row("550-5.7.708", "Exchange takes no mail from this address",
    "New and trial tenants are limited: ask Microsoft support, quoting the reply.", TENANT, _BROKEN, BREAK)  # fmt: skip
_UNREGISTERED = _row("550-5.7.750", "The organisation sends from domains it has not registered",
    "Microsoft 365 admin center > Settings > Domains: add the sender's domain.", TENANT, _BROKEN, BREAK)  # fmt: skip
_SEND_AS = _row("554-5.2.252", "The mailbox that signed in may not send as the sender",
    "Put the signed-in mailbox into the field Sender, or give it Send As permission: "
    f"{EXCHANGE} > Recipients > Mailboxes > the sender > Delegation > Send as. It takes up to an hour.",
    GATEWAY, _BROKEN, BREAK)  # fmt: skip
_SEND_AS_MAIL = _row("550-5.7.60", "The mailbox that signed in may not use this sender",
    f"Correct the field Sender, or give Send As permission: {EXCHANGE} > Recipients > Mailboxes > the sender > "
    f"Delegation.",
    GATEWAY, _BROKEN, BREAK)  # fmt: skip
_QUOTA = _row("554-5.2.0-quota", "The mailbox has used its 10,000 recipients of this day",
    "Nothing: sending goes on within 24 hours. Use distribution groups, they count once.", NOBODY, _DEFERRED,
    "Sending pauses; the message stays in the queue.")  # fmt: skip
_FULL = _row("554-5.2.2", "The sender's mailbox is full (every sent mail is kept in Sent Items)",
    "Empty Sent Items of the sender's mailbox, or set a retention policy for it.", TENANT, _BROKEN, BREAK)  # fmt: skip
_TOO_LARGE = _row("552-5.3.4", "The message is larger than the mail server takes",
    "Make report or attachment smaller, or raise the mailbox's message size limit "
    f"({EXCHANGE} > Recipients > Mailboxes > the sender > Mail flow settings).", GATEWAY, _FAILED, FAIL)  # fmt: skip
_RESTRICTED = _row("550-5.1.8", "The sender is on the list of restricted users (suspected spam)",
    f"{_SPAM}: unblock the sender.", TENANT, _BROKEN, BREAK)  # fmt: skip

_PENALTY = {
    "251": ("a full mailbox", "Empty Sent Items of the sender's mailbox."),
    "252": ("a sender it may not use", "Correct the field Sender, or give Send As permission."),
    "253": ("a missing licence", "Microsoft 365 admin center > Users > the sender > Licenses: assign Exchange Online."),
    "254": ("too many recipients", "Reduce the recipients of report and alerts."),
    "255": ("invalid recipients", "Correct the recipients of report and alerts."),
}
_PENALTIES = tuple(
    _row(f"550-5.2.{number}", f"Exchange has blocked the mailbox for a while, after repeated errors: {why}",
         f"{fix} The block ends by itself after some hours.", GATEWAY, _BROKEN, BREAK)
    for number, (why, fix) in _PENALTY.items()
)  # fmt: skip

_NO_MAILBOX = _row(
    "550-5.1.1", "There is no such recipient", "Correct the recipient's address.", GATEWAY, _FAILED, FAIL
)
_NO_ROUTE = _row("550-5.4.1", "The recipient's domain takes no such address", "Correct the recipient's address.",
    GATEWAY, _FAILED, FAIL)  # fmt: skip
_LATER = _row("4yz", "The mail server asks to try again later", "Nothing.", NOBODY, _DEFERRED, DEFER)
_SHUTTING = _row("421", "The mail server is closing or too busy", "Nothing.", NOBODY, _DEFERRED, DEFER)
_AUTH_5 = _row("auth-5yz", "The mail server refuses the login", "See the reply; check sender and authentication "
    "method.",
    GATEWAY, _REFUSED, HOLD)  # fmt: skip
_POLICY = _row("5.7", "The mail server's policy refuses this", "See the reply; check sender, recipients and "
    "permissions.",
    GATEWAY, _FAILED, FAIL)  # fmt: skip
_NEVER = _row("5yz", "The mail server refuses this message for good", "See the reply; correct it and send again.",
    GATEWAY, _FAILED, FAIL)  # fmt: skip
_STRANGE = _row("unexpected", "The mail server answered outside the protocol",
    "A proxy or filter (SMTP ALG) is probably on the way: switch it off for this traffic.", NOBODY, _DEFERRED,
    DEFER)  # fmt: skip

MATCHES: tuple[Match, ...] = (
    Match(535, "5.7.139", "disabled for the tenant", _TENANT_OFF),
    Match(535, "5.7.139", "disabled for the mailbox", _MAILBOX_OFF),
    Match(535, "5.7.139", "security defaults", _DEFAULTS),
    Match(535, "5.7.139", "basic authentication is disabled", _BASIC_OFF),
    Match(535, "5.7.139", "", _CRITERIA),
    Match(535, "5.7.3", "", _AUTH_BAD),
    Match(535, "", "", _AUTH_OTHER),
    Match(550, "5.7.30", "", _BASIC_GONE),
    Match(530, "5.7.57", "", _NOT_AUTHED),
    Match(530, "", "", _NEEDS_AUTH),
    Match(504, "", "", _NO_METHOD, "auth"),
    Match(454, "4.7.0", "", _AUTH_LATER),
    Match(0, "4.7.66", "", _TLS_OLD),
    Match(421, "4.3.2", "", _INACTIVE),
    Match(421, "4.4.2", "", _DROPPED),
    Match(432, "4.3.2", "", _CONCURRENT),
    Match(0, "4.3.2", "storedrv", _CONCURRENT),
    Match(0, "4.5.3", "", _MANY_RCPT),
    Match(0, "5.7.705", "", _TENANT_SPAM),
    Match(0, "5.7.708", "", _BAD_IP),
    Match(0, "5.7.750", "", _UNREGISTERED),
    *(Match(550, row.code.removeprefix("smtp.550-"), "", row) for row in _PENALTIES),
    Match(554, "5.2.252", "", _SEND_AS),
    Match(0, "", "sendasdenied", _SEND_AS),
    Match(0, "5.7.60", "", _SEND_AS_MAIL),
    Match(0, "", "submissionquotaexceeded", _QUOTA),
    Match(0, "5.2.2", "", _FULL),
    Match(0, "", "quotaexceeded", _FULL),
    Match(0, "", "messagesubmissionexceeded", _TOO_LARGE),
    Match(552, "5.3.4", "", _TOO_LARGE),
    Match(0, "5.2.3", "", _TOO_LARGE),
    Match(552, "", "", _TOO_LARGE),
    Match(0, "5.1.8", "", _RESTRICTED),
    Match(0, "5.1.1", "", _NO_MAILBOX),
    Match(0, "5.1.10", "", _NO_MAILBOX),
    Match(0, "5.4.1", "", _NO_ROUTE),
)
"""Order matters: narrow before wide."""

_RANGES = ((4, 7, 500, 699, _IP_BUSY), (4, 7, 850, 899, _IP_SUSPECT))
_GENERIC = (_SHUTTING, _LATER, _AUTH_5, _POLICY, _NEVER, _STRANGE)

ROWS: tuple[Row, ...] = (
    *dict.fromkeys(match.row for match in MATCHES),
    *(row for *_, row in _RANGES),
    *_GENERIC,
)
SPECIFIC: frozenset[str] = frozenset(row.code for row in ROWS) - {row.code for row in _GENERIC}


def find(code: int, enhanced: str, text: str, stage: str) -> Row:
    """The row for a reply: the first that fits, else the one of its first digit."""
    lowered = text.lower()
    for match in MATCHES:
        if match.fits(code, enhanced, lowered, stage):
            return match.row
    return _ranged(enhanced) or _by_digit(code, enhanced, stage)


def _ranged(enhanced: str) -> Row | None:
    parts = enhanced.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return None
    first, second, third = (int(part) for part in parts)
    return next((row for a, b, low, high, row in _RANGES if (a, b) == (first, second) and low <= third <= high), None)


def _by_digit(code: int, enhanced: str, stage: str) -> Row:
    if 400 <= code < 500:
        return _SHUTTING if code == 421 else _LATER
    if 500 <= code < 600:
        if stage == "auth":
            return _AUTH_5
        return _POLICY if enhanced.startswith("5.7.") else _NEVER
    return _STRANGE


def reply_code(code: int, enhanced: str) -> str:
    """The problem code of a reply that has no row of its own, such as `smtp.450-4.2.0`."""
    return f"smtp.{code}-{enhanced}" if enhanced else f"smtp.{code}"


TOKEN_REFUSALS: frozenset[str] = frozenset({_AUTH_BAD.code, _AUTH_OTHER.code})
"""Refusals that a fresh access token may cure."""

LOGIN_REFUSALS: frozenset[str] = frozenset(row.code for row in ROWS if row.event == _REFUSED)
"""Refusals of the login as a whole: nothing can be sent until it passes."""

BREAKERS: frozenset[str] = frozenset(row.code for row in ROWS if row.event == _BROKEN)
"""Permanent errors whose repetition makes Exchange block the mailbox."""
