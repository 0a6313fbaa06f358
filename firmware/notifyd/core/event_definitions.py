"""Every event that notifyd can emit, as one table: the documents, the checks and the messages are made from it.

To add an event, add a row. A name once released is never changed or reused: monitoring relies on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from notifyd.core.eventlog import Definition, Level

_ACCOUNT = {"account": "the mailbox that signed in"}
_PROBLEM = {
    "code": "stable code of the problem, see docs/problems.md",
    "title": "the problem in one line",
    "detail": "the server's own words",
    "remedy": "what to do",
}
_MAIL = {"mail_id": "the message's id in the queue", "kind": "test, alert, report or message", "to": "recipients"}
_WHO = {"user": "the administrator's login name", "remote": "address the request came from"}

_EXPIRED_SECRET: Mapping[str, str] = {
    "code": "AADSTS7000222",
    "title": "The client secret has expired",
    "detail": "The provided client secret keys for app are expired.",
    "remedy": "Create a new client secret in Entra and Apply it.",
}
_A_MAIL: Mapping[str, str] = {"mail_id": "0197a2f0", "kind": "alert", "to": "admin@contoso.example"}
_AN_ADMIN: Mapping[str, str] = {"user": "admin", "remote": "192.168.1.33"}

_TOKEN = (
    Definition(
        "token.retrieved",
        Level.NOTICE,
        "Microsoft 365 token retrieved for {account} (valid until {expires_at})",
        {**_ACCOUNT, "expires_at": "end of the access token (wall clock)"},
        example={"account": "gateway@contoso.example", "expires_at": 1795572000},
    ),
    Definition(
        "token.refreshed",
        Level.INFO,
        "Microsoft 365 token renewed for {account} (valid until {expires_at})",
        {**_ACCOUNT, "expires_at": "end of the access token (wall clock)", "by": "what asked for it"},
        example={"account": "gateway@contoso.example", "expires_at": 1795575600, "by": "schedule"},
    ),
    Definition(
        "token.refresh_failed",
        Level.WARNING,
        "Microsoft 365 token could not be renewed: {title}",
        {**_PROBLEM, "transient": "true when it is expected to pass by itself", "retry_at": "next try (wall clock)"},
        "Nothing while it is transient; else follow the remedy (level error).",
        {**_EXPIRED_SECRET, "transient": False},
    ),
    Definition(
        "token.expired",
        Level.ERROR,
        "Microsoft 365 token of {account} has expired and could not be renewed yet",
        _ACCOUNT,
        "See the last token.refresh_failed; mail is held meanwhile.",
        {"account": "gateway@contoso.example"},
    ),
    Definition(
        "token.signin_needed",
        Level.ERROR,
        "Microsoft 365 wants a new sign-in: {title}",
        _PROBLEM,
        "Press Get New Token and sign in as the sender.",
        {
            "code": "AADSTS50173",
            "title": "The sign-in was revoked",
            "detail": "The provided grant has expired due to it being revoked.",
            "remedy": "Press Get New Token and sign in again.",
        },
    ),
    Definition(
        "token.restored",
        Level.INFO,
        "Stored Microsoft 365 grant of {account} taken up again after the start",
        {**_ACCOUNT, "state": "the token state it leads to"},
        example={"account": "gateway@contoso.example", "state": "Valid"},
    ),
    Definition(
        "token.forgotten",
        Level.NOTICE,
        "Microsoft 365 grant forgotten: {reason}",
        {"reason": "why: asked for, or the identity was changed", "account": "whose grant it was"},
        "Press Get New Token when mail shall be sent again.",
        {"reason": "the administrator asked for it", "account": "gateway@contoso.example"},
    ),
    Definition(
        "token.store_failed",
        Level.CRITICAL,
        "Microsoft 365 grant could not be stored: {title}",
        _PROBLEM,
        "Check the storage of the gateway; the sign-in must be repeated.",
        {"code": "store.write_failed", "title": "Input/output error", "detail": "fdatasync: EIO", "remedy": "…"},
    ),
    Definition(
        "token.account_differs",
        Level.WARNING,
        "Signed in as {account}, but the sender is {sender}",
        {**_ACCOUNT, "sender": "the sender address that is applied"},
        "Fine when the account may Send As the sender; else sign in as the sender.",
        {"account": "gateway@contoso.example", "sender": "alerts@contoso.example"},
    ),
    Definition(
        "token.accepted",
        Level.INFO,
        "{server} accepts the Microsoft 365 token of {account}",
        {**_ACCOUNT, "server": "mail server that was asked"},
        example={"account": "gateway@contoso.example", "server": "smtp.office365.com"},
    ),
    Definition(
        "token.refused",
        Level.ERROR,
        "The mail server refuses the Microsoft 365 token: {title}",
        {**_PROBLEM, "server": "mail server that was asked"},
        "Follow the remedy; the token itself is valid.",
        {
            "code": "smtp.535-5.7.139",
            "title": "Authenticated SMTP is off for this mailbox",
            "detail": "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox.",
            "remedy": "Turn on Authenticated SMTP for the mailbox.",
            "server": "smtp.office365.com",
        },
    ),
)

_SIGNIN = (
    Definition(
        "signin.started",
        Level.NOTICE,
        "Sign-in at Microsoft 365 started (open until {expires_at})",
        {**_WHO, "expires_at": "deadline of this sign-in (wall clock)"},
        example={**_AN_ADMIN, "expires_at": 1795568400},
    ),
    Definition(
        "signin.failed",
        Level.WARNING,
        "Sign-in at Microsoft 365 failed: {title}",
        _PROBLEM,
        "Follow the remedy, then press Get New Token again.",
        {
            "code": "AADSTS65004",
            "title": "Consent was declined",
            "detail": "User declined to consent to access the app.",
            "remedy": "Press Get New Token and accept the permissions.",
        },
    ),
    Definition(
        "signin.timed_out",
        Level.WARNING,
        "Sign-in at Microsoft 365 was not completed in time",
        {"minutes": "how long it was open"},
        "If Microsoft's own page showed an error, look it up in docs/problems.md; then try again.",
        {"minutes": 10},
    ),
    Definition(
        "signin.cancelled",
        Level.INFO,
        "Sign-in at Microsoft 365 cancelled: {reason}",
        {"reason": "why"},
        example={"reason": "another tab was faster"},
    ),
    Definition(
        "signin.refused",
        Level.WARNING,
        "An answer that belongs to no open sign-in was refused: {reason}",
        {"reason": "unknown, late, used or malformed", "remote": "address it came from"},
        "Harmless when a tab was reloaded; repeated from elsewhere it is an attack that had no effect.",
        {"reason": "unknown state", "remote": "192.168.1.33"},
    ),
)

_SETTINGS = (
    Definition(
        "settings.applied",
        Level.NOTICE,
        "Mail server settings applied by {user}",
        {**_WHO, "change": "none, cosmetic, secret or identity", "changed": "names of the changed settings"},
        example={**_AN_ADMIN, "change": "identity", "changed": "client_id, tenant_id"},
    ),
    Definition(
        "settings.refused",
        Level.NOTICE,
        "Mail server settings refused: {detail}",
        {**_WHO, "detail": "the first reason", "pointers": "the settings at fault"},
        "Correct the settings named.",
        {**_AN_ADMIN, "detail": "client_id must be a GUID", "pointers": "/client_id"},
    ),
    Definition(
        "settings.secret_refused",
        Level.ERROR,
        "Microsoft 365 refuses the new client secret, the old one stays in force: {title}",
        _PROBLEM,
        "Copy the secret's Value (not its ID) and Apply again.",
        {
            "code": "AADSTS7000215",
            "title": "The client secret is wrong",
            "detail": "Invalid client secret provided.",
            "remedy": "Paste the secret's Value.",
        },
    ),
    Definition("settings.cleared", Level.NOTICE, "Mail server settings cleared by {user}", _WHO, example=_AN_ADMIN),
)

_SECRET = (
    Definition(
        "secret.expiring",
        Level.WARNING,
        "The client secret expires in {days_left} days ({expires_on})",
        {"days_left": "whole days", "expires_on": "ISO date"},
        "Create a new client secret in Entra and Apply it; no new sign-in is needed.",
        {"days_left": 14, "expires_on": "2026-12-09"},
    ),
    Definition(
        "secret.expired",
        Level.ERROR,
        "The client secret has expired ({expires_on})",
        {"expires_on": "ISO date"},
        "Create a new client secret in Entra and Apply it; no new sign-in is needed.",
        {"expires_on": "2026-12-09"},
    ),
)

_MAIL_EVENTS = (
    Definition(
        "mail.accepted",
        Level.DEBUG,
        "Mail {mail_id} to {to} accepted",
        {**_MAIL, "size": "bytes"},
        example={**_A_MAIL, "size": 4321},
    ),
    Definition(
        "mail.sent",
        Level.INFO,
        "Mail {mail_id} sent to {to}",
        {**_MAIL, "reply": "the server's reply", "attempts": "tries it took"},
        example={**_A_MAIL, "reply": "250 2.0.0 OK", "attempts": 1},
    ),
    Definition(
        "mail.deferred",
        Level.NOTICE,
        "Mail {mail_id} to {to} deferred: {title}",
        {**_MAIL, **_PROBLEM, "retry_at": "next try (wall clock)", "attempts": "tries so far"},
        example={**_A_MAIL, "code": "smtp.451", "title": "The mail server asks to wait", "attempts": 2},
    ),
    Definition(
        "mail.failed",
        Level.ERROR,
        "Mail {mail_id} to {to} failed for good: {title}",
        {**_MAIL, **_PROBLEM, "attempts": "tries it took"},
        "Follow the remedy and send it again.",
        {**_A_MAIL, "code": "smtp.550-5.1.1", "title": "No such recipient", "attempts": 1},
    ),
    Definition(
        "mail.recipient_refused",
        Level.WARNING,
        "The mail server refused the recipient {to} of mail {mail_id}: {reply}",
        {**_MAIL, "reply": "the server's reply"},
        "Correct the recipient.",
        {**_A_MAIL, "reply": "550 5.1.1 User unknown"},
    ),
    Definition(
        "mail.held",
        Level.WARNING,
        "Mail is held: {title}",
        {**_PROBLEM, "waiting": "messages in the queue"},
        "Follow the remedy; nothing is lost, held mail does not age.",
        {**_EXPIRED_SECRET, "waiting": 3},
    ),
    Definition(
        "mail.released",
        Level.NOTICE,
        "Mail flows again ({waiting} waiting)",
        {"waiting": "messages in the queue"},
        example={"waiting": 3},
    ),
    Definition(
        "mail.refused",
        Level.WARNING,
        "A mail was not accepted: {reason}",
        {"reason": "why", "user": "local user or login that sent it"},
        "Correct the sender; when the queue is full, see why mail is held.",
        {"reason": "the queue is full", "user": "root"},
    ),
    Definition(
        "mail.queue_high",
        Level.WARNING,
        "The mail queue is {percent} % full",
        {"percent": "of its bound", "waiting": "messages in the queue"},
        "See why mail is held.",
        {"percent": 80, "waiting": 800},
    ),
    Definition(
        "mail.breaker_opened",
        Level.ERROR,
        "Sending stopped so that Exchange does not block the mailbox: {title}",
        {**_PROBLEM, "retry_at": "next try (wall clock)"},
        "Follow the remedy.",
        {"code": "smtp.554-5.2.252", "title": "The mailbox may not send as this sender"},
    ),
    Definition(
        "mail.breaker_closed",
        Level.NOTICE,
        "Sending resumed after {seconds} seconds",
        {"seconds": "how long it was stopped"},
        example={"seconds": 1800},
    ),
    Definition(
        "mail.recovered",
        Level.NOTICE,
        "Mail works again after {seconds} seconds: {sent} sent, {failed} failed",
        {"seconds": "length of the outage", "sent": "messages sent since", "failed": "messages given up"},
        example={"seconds": 5400, "sent": 12, "failed": 0},
    ),
    Definition(
        "mail.deleted",
        Level.NOTICE,
        "Mail {mail_id} deleted from the queue by {user}",
        {**_MAIL, **_WHO},
        example={**_A_MAIL, **_AN_ADMIN},
    ),
    Definition(
        "mail.retried",
        Level.INFO,
        "Mail {mail_id} is tried again at the wish of {user}",
        {**_MAIL, **_WHO},
        example={**_A_MAIL, **_AN_ADMIN},
    ),
)

_ALERT = (
    Definition(
        "alert.queued",
        Level.INFO,
        "Alert mail {mail_id} made of {events} events",
        {"mail_id": "the message's id in the queue", "events": "how many events it tells of"},
        example={"mail_id": "0197a2f0", "events": 4},
    ),
    Definition(
        "alert.failed",
        Level.ERROR,
        "Alert mail could not be queued: {reason}",
        {"reason": "why", "events": "how many events it would have told of"},
        "See why the queue refuses mail.",
        {"reason": "the queue is full", "events": 4},
    ),
    Definition("alert.settings_applied", Level.NOTICE, "Alert settings applied by {user}", _WHO, "", _AN_ADMIN),
)

_REPORT = (
    Definition(
        "report.sent",
        Level.NOTICE,
        "Daily report for {day} sent to {to}",
        {"day": "ISO date it tells of", "to": "recipients", "mail_id": "its id in the queue", "by": "schedule or user"},
        example={"day": "2026-11-24", "to": "admin@contoso.example", "mail_id": "0197a2f0", "by": "schedule"},
    ),
    Definition(
        "report.failed",
        Level.ERROR,
        "Daily report could not be made or sent: {reason}",
        {"reason": "why", "by": "schedule or user"},
        "Press Send Report Now to try again; see the mail events around it.",
        {"reason": "no recipients are set", "by": "schedule"},
    ),
    Definition(
        "report.skipped",
        Level.NOTICE,
        "{days} daily reports were missed while the gateway was off; one report catches up",
        {"days": "reports that did not happen"},
        example={"days": 3},
    ),
    Definition(
        "report.sample_failed",
        Level.NOTICE,
        "The hour's figures for the daily report could not be noted: {reason}",
        {"reason": "why"},
        example={"reason": "No space left on device"},
    ),
    Definition("report.settings_applied", Level.NOTICE, "Daily report settings applied by {user}", _WHO, "", _AN_ADMIN),
)

_AUTH = (
    Definition("auth.login", Level.NOTICE, "Administrator {user} logged in from {remote}", _WHO, "", _AN_ADMIN),
    Definition("auth.logout", Level.INFO, "Administrator {user} logged out", _WHO, "", _AN_ADMIN),
    Definition(
        "auth.login_failed",
        Level.WARNING,
        "Login failed for {user} from {remote}",
        {**_WHO, "reason": "what the login service said"},
        "Unknown attempts from inside the LAN deserve a look at that host.",
        {**_AN_ADMIN, "reason": "wrong user or password"},
    ),
    Definition(
        "auth.locked",
        Level.ERROR,
        "Logins from {remote} are locked for {seconds} seconds after too many failures",
        {**_WHO, "seconds": "length of the lock"},
        "Wait for the lock to end; find out who tried.",
        {**_AN_ADMIN, "seconds": 300},
    ),
    Definition(
        "auth.refused",
        Level.WARNING,
        "A request was refused: {reason}",
        {**_WHO, "reason": "cross-site, not logged in, foreign host …", "path": "what was asked for"},
        "A page of another site tried to act in the administrator's name; it had no effect.",
        {"user": "admin", "remote": "192.168.1.33", "reason": "cross-site", "path": "/api/v1/settings"},
    ),
)

_CLOCK = (
    Definition(
        "clock.jumped",
        Level.NOTICE,
        "The clock was set by {seconds} seconds",
        {"seconds": "forward, or back when negative"},
        example={"seconds": 86400},
    ),
    Definition(
        "clock.wrong",
        Level.ERROR,
        "The clock of the gateway is wrong: {title}",
        _PROBLEM,
        "Set date and time, or let the gateway reach an NTP server.",
        {"code": "clock.wrong", "title": "The clock shows a time before this firmware was built"},
    ),
    Definition("clock.right", Level.NOTICE, "The clock of the gateway is right again"),
)

_NETWORK = (
    Definition("network.wan_up", Level.NOTICE, "The WAN is up: what waited is tried now"),
    Definition(
        "network.wan_down",
        Level.WARNING,
        "The WAN is down: mail waits",
        action="See the state of the WAN interface.",
    ),
    Definition(
        "network.lan_changed",
        Level.INFO,
        "LAN addresses are now {addresses}",
        {"addresses": "of all LAN interfaces"},
        "A new address needs its redirect URI registered in Entra before a sign-in through it works.",
        {"addresses": "192.168.1.1, fd00::1"},
    ),
    Definition(
        "network.watch_failed",
        Level.WARNING,
        "Changes of the network cannot be watched: {reason}",
        {"reason": "the system's words"},
        "Tokens and mail still work; after an outage they are retried by the clock only.",
        {"reason": "OSError: [Errno 1] Operation not permitted"},
    ),
)

_STORE = (
    Definition(
        "store.unsealable",
        Level.CRITICAL,
        "Stored secrets cannot be opened: {reason}",
        {"reason": "why"},
        "Apply the client secret again and press Get New Token.",
        {"reason": "the device key is another one"},
    ),
    Definition(
        "store.write_failed",
        Level.CRITICAL,
        "Storage fault, nothing is accepted until it is verified: {reason}",
        {"reason": "the system's words"},
        "Check the storage of the gateway.",
        {"reason": "disk I/O error"},
    ),
    Definition(
        "store.full",
        Level.ERROR,
        "Storage is full: new mail is refused",
        {"free": "bytes left"},
        "Free space on the data partition; what was accepted is safe.",
        {"free": 0},
    ),
    Definition("store.recovered", Level.NOTICE, "The event log can be written again"),
    Definition(
        "store.corrupt",
        Level.CRITICAL,
        "Stored data is damaged: {reason}",
        {"reason": "what was found"},
        "Restore a configuration backup; check the storage.",
        {"reason": "quick_check: row 7 missing"},
    ),
    Definition(
        "store.events_lost",
        Level.WARNING,
        "{count} events could not be kept: {reason}",
        {"count": "events", "reason": "the system's words"},
        "Check the storage of the gateway; the journal may still have them.",
        {"count": 12, "reason": "database or disk is full"},
    ),
    Definition(
        "store.events_unwritable",
        Level.ERROR,
        "The event log cannot be written: {reason}",
        {"reason": "the system's words"},
        "Events wait in memory, the newest 256 of them; check the storage of the gateway.",
        {"reason": "database or disk is full"},
    ),
    Definition(
        "store.events_reset",
        Level.ERROR,
        "The stored event log was damaged and begins anew: {reason}",
        {"reason": "what was found"},
        "Check the storage of the gateway; the damaged file is kept beside it.",
        {"reason": "file is not a database"},
    ),
)

_SERVICE = (
    Definition(
        "service.started",
        Level.NOTICE,
        "notifyd {version} started",
        {"version": "of notifyd", "state": "token state at the start"},
        example={"version": "0.1.0", "state": "Valid"},
    ),
    Definition(
        "service.stopped",
        Level.NOTICE,
        "notifyd stopped: {reason}",
        {"reason": "signal or fault"},
        example={"reason": "SIGTERM"},
    ),
    Definition(
        "service.fault",
        Level.CRITICAL,
        "A fault in notifyd itself: {reason}",
        {"reason": "the exception", "where": "the part it happened in", "exception": "traceback without values"},
        "Report it with a support bundle.",
        {"reason": "ValueError: …", "where": "mailer"},
    ),
    Definition(
        "service.worker_failed",
        Level.WARNING,
        "The sign-in helper process failed: {reason}",
        {"reason": "exit status or deadline"},
        "It is started again; repeated, report it with a support bundle.",
        {"reason": "killed at its deadline of 60 s"},
    ),
    Definition(
        "service.config_invalid",
        Level.ERROR,
        "{file} is not usable: {reason}",
        {"file": "which file", "reason": "what is wrong with it"},
        "Correct the file; its defaults are in force.",
        {"file": "clouds.d/extra.toml", "reason": "smtp_port must be a number"},
    ),
    Definition(
        "service.library",
        Level.WARNING,
        "{logger}: {text}",
        {"logger": "the library", "text": "what it said"},
        "Report it with a support bundle when it comes with other trouble.",
        {"logger": "asyncio", "text": "Executing <Task …> took 0.2 seconds"},
    ),
    Definition("service.bundle_made", Level.NOTICE, "A support bundle was made by {user}", _WHO, "", _AN_ADMIN),
    Definition(
        "service.diagnosed",
        Level.INFO,
        "Diagnosis by {user}: {verdict}",
        {**_WHO, "verdict": "the first step that failed, or good"},
        example={**_AN_ADMIN, "verdict": "good"},
    ),
    Definition(
        "service.undefined",
        Level.WARNING,
        "Undefined event {name}: {text}",
        {"name": "the name that was used", "text": "its message"},
        "A fault in notifyd: report it.",
        {"name": "mail.snet", "text": "…"},
    ),
)

_SYSLOG = (
    Definition(
        "syslog.unreachable",
        Level.WARNING,
        "Log collector {collector} cannot be reached: {reason}",
        {"collector": "its address", "reason": "the system's words"},
        "Events wait in memory and in the event log; check the collector.",
        {"collector": "tls://log.contoso.example:6514", "reason": "Connection refused"},
    ),
    Definition(
        "syslog.restored",
        Level.NOTICE,
        "Log collector {collector} is reached again; {dropped} events did not fit the queue",
        {"collector": "its address", "dropped": "events it never got"},
        example={"collector": "tls://log.contoso.example:6514", "dropped": 0},
    ),
)

ALL: tuple[Definition, ...] = (
    *_TOKEN,
    *_SIGNIN,
    *_SETTINGS,
    *_SECRET,
    *_MAIL_EVENTS,
    *_ALERT,
    *_REPORT,
    *_AUTH,
    *_CLOCK,
    *_NETWORK,
    *_STORE,
    *_SERVICE,
    *_SYSLOG,
)

DEFINITIONS: Mapping[str, Definition] = {definition.name: definition for definition in ALL}
"""By name."""
