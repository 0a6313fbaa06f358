"""The mail queue's tables, and the values that go in, come out and are refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from notifyd.core.message import Composed
from notifyd.core.outbox import Fate, MailRecord, MailState, Priority, QueueClock, Recipient, RecipientState

SCHEMA: Sequence[str] = (
    """
    CREATE TABLE mail (
        seq INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        priority INTEGER NOT NULL,
        due REAL,
        deadline REAL NOT NULL,
        kind TEXT NOT NULL,
        sender TEXT NOT NULL,
        recipients TEXT NOT NULL,
        subject TEXT NOT NULL,
        size INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        created_at REAL NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        problem TEXT,
        reply TEXT NOT NULL DEFAULT '',
        finished_at REAL,
        submitter TEXT NOT NULL,
        idempotency_key TEXT,
        fingerprint TEXT NOT NULL,
        utf8 INTEGER NOT NULL,
        eight_bit INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX mail_waiting ON mail (priority, due) WHERE due IS NOT NULL;
    CREATE INDEX mail_finished ON mail (finished_at) WHERE finished_at IS NOT NULL;
    CREATE UNIQUE INDEX mail_key ON mail (idempotency_key) WHERE idempotency_key IS NOT NULL;
    CREATE TABLE mail_body (seq INTEGER PRIMARY KEY, raw BLOB NOT NULL) STRICT;
    CREATE TABLE mail_attempt (
        seq INTEGER PRIMARY KEY,
        powered REAL NOT NULL,
        recipients INTEGER NOT NULL,
        delivered INTEGER
    ) STRICT;
    CREATE INDEX mail_attempt_time ON mail_attempt (powered);
    CREATE TABLE mail_meta (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
    """,
)
"""`due` (powered seconds) is not NULL exactly while a mail waits; `delivered` of an attempt is NULL while it runs."""


class QueueFull(Exception):
    """No room for another mail (507); what was accepted before is untouched."""


class KeyReused(Exception):
    """The idempotency key was used before for a mail that says something else (422)."""


class Busy(Exception):
    """The mail is being sent at this moment (409)."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """max_mails, max_bytes: what may wait (octets of messages); keep_finished: records of sent and failed mail kept."""

    max_mails: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    keep_finished: int = 1_000


@dataclass(frozen=True, slots=True)
class Submission:
    """A composed mail with what the queue has to know about it."""

    mail: Composed
    kind: str = "message"
    priority: Priority = Priority.REPORT
    idempotency_key: str | None = None
    submitter: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """duplicate: the idempotency key was known; the id is that of the mail accepted then."""

    id: str
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Waiting:
    """The mail to be sent next: enough to ask the governor."""

    seq: int
    pending: int


@dataclass(frozen=True, slots=True)
class Job:
    """One mail taken out for sending. recipients: those of this transaction; raw: as it was accepted."""

    seq: int
    attempt: int
    record: MailRecord
    recipients: tuple[str, ...]
    raw: bytes
    utf8: bool
    eight_bit: bool


STATES: Mapping[Fate, MailState] = {
    Fate.SENT: MailState.SENT,
    Fate.FAILED: MailState.FAILED,
    Fate.AGAIN: MailState.READY,
    Fate.LATER: MailState.DEFERRED,
}

INSERT = (
    "INSERT INTO mail (seq, state, priority, due, deadline, kind, sender, recipients, subject, size, message_id,"
    " created_at, submitter, idempotency_key, fingerprint, utf8, eight_bit)"
    " VALUES (:seq, :state, :priority, :due, :deadline, :kind, :sender, :recipients, :subject, :size, :message_id,"
    " :created_at, :submitter, :idempotency_key, :fingerprint, :utf8, :eight_bit)"
)

_PENDING = RecipientState.PENDING.value


def dump_recipients(recipients: Iterable[Recipient]) -> str:
    """Recipients for the table; one not yet answered is just its address."""
    return json.dumps([r.address if r == Recipient(r.address) else [r.address, r.state, r.reply] for r in recipients])


def load_recipients(stored: str) -> tuple[Recipient, ...]:
    """What `dump_recipients` gave."""
    return tuple(
        Recipient(item) if isinstance(item, str) else Recipient(item[0], RecipientState(item[1]), item[2])
        for item in json.loads(stored)
    )


def pending(recipients: Iterable[Recipient]) -> tuple[str, ...]:
    """The addresses that still have to be sent to."""
    return tuple(r.address for r in recipients if r.state is RecipientState.PENDING)


def clock_document(clock: QueueClock) -> dict[str, Any]:
    """The clocks as a document."""
    return asdict(clock)


def clock_of(document: Mapping[str, Any]) -> QueueClock:
    """What `clock_document` gave."""
    return QueueClock(
        powered=float(document["powered"]),
        active=float(document["active"]),
        boot=float(document["boot"]),
        boot_id=str(document["boot_id"]),
        held=bool(document["held"]),
    )


def record_of(row: Mapping[str, Any], mail_id: str, next_attempt_at: float | None) -> MailRecord:
    """A row of `mail` as a record."""
    return MailRecord(
        id=mail_id,
        state=MailState(row["state"]),
        kind=row["kind"],
        priority=Priority(row["priority"]),
        sender=row["sender"],
        recipients=load_recipients(row["recipients"]),
        subject=row["subject"],
        size=row["size"],
        message_id=row["message_id"],
        created_at=row["created_at"],
        attempts=row["attempts"],
        next_attempt_at=next_attempt_at,
        problem=json.loads(row["problem"]) if row["problem"] else None,
        reply=row["reply"],
        finished_at=row["finished_at"],
        submitter=row["submitter"],
    )
