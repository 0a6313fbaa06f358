"""Mail that arrived, and the server's own account of Exchange's limits."""

from __future__ import annotations

import email
import email.policy
import uuid
from collections import deque
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, cast

from qemu.m365.clock import SimClock

MINUTE, DAY = 60.0, 86400.0


@dataclass
class Limits:
    """Exchange Online's limits of one mailbox; `over_rate` is what happens beyond the rate.

    over_rate: `delay` (the answer to the final dot waits), `refuse` (a 4xx answer), `ignore` (only counted).
    """

    messages_per_minute: int = 30
    recipients_per_day: int = 10_000
    connections: int = 3
    recipients_per_message: int = 500
    message_bytes: int = 157_286_400
    over_rate: str = "delay"


@dataclass
class Arrived:
    """One stored message. `raw` is what came after DATA, without the final dot."""

    mailbox: str
    mail_from: str
    recipients: list[str]
    raw: bytes
    time: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def parsed(self) -> EmailMessage:
        """The message as the standard library reads it."""
        return email.message_from_bytes(self.raw, policy=email.policy.default)

    def as_json(self, *, full: bool = False) -> dict[str, Any]:
        """Head and, when `full`, the bodies and the raw text."""
        message = self.parsed()
        head = {name.lower(): str(message.get(name, "")) for name in ("Subject", "From", "To", "Date")}
        answer = {
            "id": self.id,
            "time": self.time,
            "mailbox": self.mailbox,
            "mail_from": self.mail_from,
            "recipients": self.recipients,
            "message_id": str(message.get("Message-ID", "")),
            "size": len(self.raw),
            **head,
        }
        if full:
            answer |= {"text": self.body("plain"), "html": self.body("html"), "attachments": self.attachments()}
            answer["raw"] = self.raw.decode("utf-8", "replace")
        return answer

    def body(self, kind: str) -> str:
        """The plain or html body, empty when there is none."""
        part = self.parsed().get_body((kind,))
        if part is None:
            return ""
        try:
            return str(part.get_content())
        except (LookupError, ValueError):
            return ""

    def attachments(self) -> list[dict[str, object]]:
        """Name, type and size of each attachment."""
        return [
            {
                "filename": part.get_filename() or "",
                "content_type": part.get_content_type(),
                "size": len(cast(bytes, part.get_payload(decode=True)) or b""),
            }
            for part in self.parsed().iter_attachments()
        ]


@dataclass
class Account:
    """What one mailbox used of its limits."""

    accepted: deque[float] = field(default_factory=deque)
    recipients: deque[tuple[float, int]] = field(default_factory=deque)
    open_connections: int = 0
    messages: int = 0
    max_per_minute: int = 0
    max_recipients_per_day: int = 0
    max_connections: int = 0
    refused_rate: int = 0
    refused_connections: int = 0
    delayed: int = 0

    def as_json(self) -> dict[str, int]:
        """The figures a test compares with the limits."""
        names = ("messages", "max_per_minute", "max_recipients_per_day", "max_connections", "open_connections")
        return {name: getattr(self, name) for name in (*names, "refused_rate", "refused_connections", "delayed")}


class MailStore:
    """Arrived messages of all mailboxes, with the limits' books."""

    def __init__(self, clock: SimClock) -> None:
        self._clock = clock
        self.limits = Limits()
        self.arrived: list[Arrived] = []
        self.accounts: dict[str, Account] = {}

    def clear(self) -> None:
        """Forget mail and books (open connections stay counted) and go back to the default limits."""
        self.limits = Limits()
        self.arrived.clear()
        self.accounts = {
            name: Account(open_connections=account.open_connections, max_connections=account.open_connections)
            for name, account in self.accounts.items()
            if account.open_connections
        }

    def account(self, mailbox: str) -> Account:
        """The books of a mailbox."""
        return self.accounts.setdefault(mailbox.lower(), Account())

    def connect(self, mailbox: str) -> bool:
        """Count an authenticated connection; False when it is one too many (then it is not counted)."""
        account = self.account(mailbox)
        if account.open_connections >= self.limits.connections:
            account.refused_connections += 1
            return False
        account.open_connections += 1
        account.max_connections = max(account.max_connections, account.open_connections)
        return True

    def disconnect(self, mailbox: str) -> None:
        """An authenticated connection ended."""
        account = self.account(mailbox)
        account.open_connections = max(0, account.open_connections - 1)

    def wait_needed(self, mailbox: str) -> float:
        """Simulated seconds until one more message is within the rate; 0 when it is now."""
        account, now = self.account(mailbox), self._clock.now()
        recent = [t for t in account.accepted if now - MINUTE < t <= now]
        over = len(recent) - self.limits.messages_per_minute
        return recent[over] + MINUTE - now if over >= 0 else 0.0

    def recipients_left(self, mailbox: str) -> int:
        """Recipients the mailbox may still address in the rolling day."""
        now, account = self._clock.now(), self.account(mailbox)
        return self.limits.recipients_per_day - sum(n for t, n in account.recipients if now - DAY < t <= now)

    def store(self, message: Arrived) -> None:
        """Keep a message and write it into the books."""
        self.arrived.append(message)
        account, now = self.account(message.mailbox), self._clock.now()
        account.messages += 1
        account.accepted.append(now)
        account.recipients.append((now, len(message.recipients)))
        while account.accepted and account.accepted[0] <= now - MINUTE:
            account.accepted.popleft()
        while account.recipients and account.recipients[0][0] <= now - DAY:
            account.recipients.popleft()
        account.max_per_minute = max(account.max_per_minute, len(account.accepted))
        daily = sum(n for _, n in account.recipients)
        account.max_recipients_per_day = max(account.max_recipients_per_day, daily)
