"""What a mail server's reply means for the mail, the session and the mailbox; and the XOAUTH2 string.

The words that a person reads come from `core.problems.smtp_problem`; here a reply only becomes a decision. Sources:
RFC 5321 §4.2, RFC 3463, RFC 4954, and Exchange Online's own replies (docs/mail-queue.md lists them).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from enum import StrEnum

from notifyd.core.secret import Secret

TEXT_LIMIT = 500
"""Characters of a server's text that are kept: enough for its words, too few to be a weapon."""


class Stage(StrEnum):
    """The step of an SMTP session that a reply answers."""

    CONNECT = "connect"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "message"
    QUIT = "quit"


class Meaning(StrEnum):
    """What to do after a reply.

    DONE: it worked. LATER: this mail (or recipient) again later. REFUSED: this mail (or recipient) never.
    RECONNECT: the session is over, the same mail in a new one, after a pause.
    CONNECTIONS, RATE, BUSY, QUOTA: slow down, see `core.governor.Complaint`.
    SPLIT: too many recipients in one transaction, the rest in the next one.
    TOKEN: the access token is not accepted: one forced renewal. STOP: nothing of this mailbox can be sent until
    somebody changes something; going on would make Exchange block the mailbox.
    """

    DONE = "done"
    LATER = "later"
    REFUSED = "refused"
    RECONNECT = "reconnect"
    CONNECTIONS = "connections"
    RATE = "rate"
    BUSY = "busy"
    QUOTA = "quota"
    SPLIT = "split"
    TOKEN = "token"  # noqa: S105  # a word, not a password
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply: code 0 means that the connection ended instead. enhanced: RFC 3463 code or empty."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code or ""), self.enhanced, self.text) if part)


_ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_ENHANCED_ANYWHERE = re.compile(r"(?<![\d.])([45]\.\d{1,3}\.\d{1,3})(?![\d.])")


def read_reply(code: int, text: str) -> Reply:
    """A reply from its code and text (lines joined by LF); control characters are dropped, the text is bounded.

    Exchange repeats the enhanced code on each line and sometimes puts it only inside the text ("MailboxName;
    4.3.2 STOREDRV…"): the leading one wins, then the first one of the reply's own class.
    """
    lines = [line.strip() for line in text.splitlines()]
    leading = _ENHANCED.match(lines[0]) if lines else None
    enhanced = leading.group(1) if leading else ""
    if enhanced:
        lines = [line[match.end() :] if (match := _ENHANCED.match(line)) else line for line in lines]
    elif inside := [m for m in _ENHANCED_ANYWHERE.findall(text) if m.startswith(str(code)[:1])]:
        enhanced = inside[0]
    printable = "".join(c if c.isprintable() else " " for c in " ".join(lines))
    return Reply(code, enhanced, " ".join(printable.split())[:TEXT_LIMIT])


_STOP_CODES = frozenset(
    (
        "5.1.8",  # bad outbound sender: the account is restricted for spam
        "5.2.2",  # the mailbox is full (Sent Items); repeated, it becomes 5.2.251
        "5.2.251",
        "5.2.252",
        "5.2.253",
        "5.2.254",
        "5.2.255",
        "5.7.30",
        "5.7.57",
        "5.7.60",
        "5.7.139",
        "5.7.705",
        "5.7.708",
        "5.7.750",
    )
)
_STOP_WORDS = ("sendasdenied", "storedrv.submission.exception:quotaexceeded", "smtpclientauthentication")
_BUSY = re.compile(r"4\.7\.(5\d\d|6\d\d|8[5-9]\d)")
_RATE_WORDS = ("submission rate", "rate limit", "too many messages", "throttl")
_CONNECTION_WORDS = ("concurrent connection", "too many connections", "thread limit", "connection limit")
_TLS_TOO_OLD = "4.7.66"


def meaning(reply: Reply, stage: Stage, *, oauth: bool) -> Meaning:
    """The decision for a reply at a stage; `oauth` tells whether the session uses (or would use) an access token."""
    if 200 <= reply.code < 400:
        return Meaning.DONE
    if reply.code == 0:
        return Meaning.RECONNECT
    return _for_now(reply, stage) if reply.code < 500 else _for_good(reply, stage, oauth=oauth)


def _for_now(reply: Reply, stage: Stage) -> Meaning:
    words = reply.text.lower()
    if reply.enhanced == _TLS_TOO_OLD:  # a 4yz that never passes by itself
        return Meaning.STOP
    if reply.code == 432 or any(word in words for word in _CONNECTION_WORDS):
        return Meaning.CONNECTIONS
    if _BUSY.fullmatch(reply.enhanced):
        return Meaning.BUSY
    if any(word in words for word in _RATE_WORDS):
        return Meaning.RATE
    if reply.enhanced in ("4.5.3", "4.5.4") or (stage is Stage.RCPT and reply.code == 452 and not reply.enhanced):
        return Meaning.SPLIT
    if reply.code == 421 or stage in (Stage.CONNECT, Stage.EHLO, Stage.STARTTLS, Stage.AUTH):
        return Meaning.RECONNECT
    return Meaning.LATER


def _for_good(reply: Reply, stage: Stage, *, oauth: bool) -> Meaning:
    words = reply.text.lower()
    if "submissionquotaexceeded" in words:
        return Meaning.QUOTA
    if stage is Stage.AUTH:
        rejected = reply.code == 535 and reply.enhanced in ("", "5.7.3", "5.7.8")
        return Meaning.TOKEN if oauth and rejected else Meaning.STOP
    if stage is not Stage.RCPT and (reply.enhanced in _STOP_CODES or any(word in words for word in _STOP_WORDS)):
        return Meaning.STOP
    if reply.code in (530, 538) or (stage is Stage.MAIL and reply.code in (550, 553) and not oauth):
        return Meaning.STOP  # authentication wanted, or this server never takes this sender
    if stage is Stage.RCPT and reply.enhanced == "5.5.3":
        return Meaning.SPLIT
    if stage in (Stage.CONNECT, Stage.EHLO, Stage.STARTTLS):
        return Meaning.RECONNECT  # a server in trouble or a stranger in its place; asked again ever more rarely
    return Meaning.REFUSED


def xoauth2(mailbox: str, token: Secret) -> Secret:
    """The base64 initial response of AUTH XOAUTH2 (Microsoft, "Authenticate an IMAP, POP or SMTP connection")."""
    return Secret(base64.b64encode(f"user={mailbox}\x01auth=Bearer {token.reveal()}\x01\x01".encode()).decode())


def decode_challenge(text: str) -> str:
    """The words in a 334 error challenge, such as `status 401, schemes Bearer`; empty when there are none.

    Google's form of XOAUTH2 tells the error as base64 JSON in a 334 that the client answers with an empty line.
    """
    try:
        told = json.loads(base64.b64decode(text.strip(), validate=True))
    except ValueError:
        return ""
    if not isinstance(told, dict):
        return ""
    return ", ".join(f"{key} {told[key]}" for key in ("status", "schemes", "scope") if isinstance(told.get(key), str))[
        :TEXT_LIMIT
    ]
