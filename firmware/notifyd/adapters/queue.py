"""The durable mail queue: what was accepted here is on the disk and stays until it is sent or reported as failed.

States in the table are ready, deferred, sending, sent, failed; a mail is waiting exactly while its `due` is not NULL.
Bodies are a table of their own, so that listing never reads them, and go away with the outcome. Every change is one
transaction of `Database`; after a failed sync that object refuses everything, which stops acceptance and sending alike.

A mail that was `sending` when the process died may or may not have reached the server: it is ready again at the next
start, with the same Message-ID, so a crash costs at most one duplicate of what was in flight.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from notifyd.adapters.database import Database, migrate
from notifyd.adapters.queue_values import (
    INSERT,
    SCHEMA,
    STATES,
    Accepted,
    Busy,
    Job,
    KeyReused,
    QueueFull,
    QueueLimits,
    Submission,
    Waiting,
    clock_document,
    clock_of,
    dump_recipients,
    load_recipients,
    pending,
    record_of,
)
from notifyd.adapters.reserve import RESERVE_BYTES, Reserve
from notifyd.core.delivery import Result
from notifyd.core.faults import StoreFull
from notifyd.core.governor import DAY_S, Sent
from notifyd.core.instant import Instant
from notifyd.core.outbox import (
    LIFE_S,
    Chance,
    Fate,
    MailRecord,
    MailState,
    Priority,
    QueueClock,
    Recipient,
    RecipientState,
    Verdict,
    judge,
)

__all__ = ["Accepted", "Busy", "Job", "KeyReused", "MailQueue", "QueueFull", "QueueLimits", "Submission", "Waiting"]

T = TypeVar("T")

FINISHED = frozenset((MailState.SENT, MailState.FAILED))

KEEP_MARGIN_S = 60.0
"""Attempts are kept a little longer than they count."""

PRUNE_AT_ONCE = 50
"""Records dropped per finished mail at most: a lowered limit is reached step by step, no transaction gets long."""


class MailQueue:
    """All of the queue, on one `Database`. Not safe for threads: it lives where the connection lives."""

    def __init__(
        self,
        connection: Database,
        limits: QueueLimits | None = None,
        *,
        now: Callable[[], Instant],
        boot_id: str,
    ) -> None:
        """Open the queue and take up what a crash left behind. Raises StoreFailed, StoreFull, SchemaTooNew."""
        self._db = connection
        self._limits = limits or QueueLimits()
        self._now = now
        self._boot_id = boot_id
        migrate(connection, "mail", SCHEMA)
        (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
        self._reserve = Reserve(Path(file).with_name("mail.reserve"))
        self._tag = self._identity()
        stored = self.document("clock") or {}
        self._clock = self._restored_clock(stored)
        self._recover()
        self._next_seq = max(self._one("SELECT max(seq) FROM mail") or 0, stored.get("last_seq", 0)) + 1
        self._counts: Counter[MailState] = Counter()
        self._bytes = 0
        self._delta: Counter[MailState] = Counter()
        self._delta_bytes = 0
        for state, count, size in connection.execute("SELECT state, count(*), sum(size) FROM mail GROUP BY state"):
            self._counts[MailState(state)] = count
            self._bytes += 0 if state in FINISHED else size

    # --- time -------------------------------------------------------------------------------------------------------

    def clock(self) -> QueueClock:
        """Both clocks at this moment."""
        self._clock = self._clock.at(self._now().boot, self._boot_id)
        return self._clock

    def wall_of(self, powered: float) -> float:
        """A powered second as wall time, for display."""
        return self._now().wall + powered - self.clock().powered

    def set_held(self, held: bool) -> None:
        """From now on mail is held (and does not age) or flows. Durable only with the next change."""
        self._clock = self.clock().holding(held)

    # --- in ---------------------------------------------------------------------------------------------------------

    def accept(self, submission: Submission) -> Accepted:
        """Accept one mail; it is durable when this returns. Raises QueueFull, KeyReused, StoreFull, StoreFailed."""
        (answer,) = self.accept_all([submission])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def accept_all(self, submissions: Sequence[Submission]) -> list[Accepted | Exception]:
        """Accept several mails with one sync; each gets its id or the reason why not. Raises StoreFull, StoreFailed."""
        if not self._reserve.take() and self._room_inside() < RESERVE_BYTES:
            raise StoreFull("the disk is full")
        with self._change():
            return [self._insert(submission) for submission in submissions]

    def _insert(self, submission: Submission) -> Accepted | Exception:
        mail, key = submission.mail, submission.idempotency_key
        if key is not None and (known := self._known(key, mail.fingerprint)) is not None:
            return known
        count, size = self.waiting() + self._delta[MailState.READY], self._bytes + self._delta_bytes
        if count >= self._limits.max_mails or size + len(mail.raw) > self._limits.max_bytes:
            return QueueFull(f"the mail queue is full ({count} mails, {size} bytes): see why mail is held or deferred")
        seq, clock = self._next_seq, self.clock()
        values: dict[str, object] = {
            "seq": seq,
            "state": MailState.READY.value,
            "priority": int(submission.priority),
            "due": clock.powered,
            "deadline": clock.active + LIFE_S,
            "kind": submission.kind,
            "sender": mail.sender,
            "recipients": dump_recipients(map(Recipient, mail.recipients)),
            "subject": mail.subject,
            "size": len(mail.raw),
            "message_id": mail.message_id,
            "created_at": self._now().wall,
            "submitter": submission.submitter,
            "idempotency_key": key,
            "fingerprint": mail.fingerprint,
            "utf8": mail.utf8,
            "eight_bit": mail.eight_bit,
        }
        self._db.execute(INSERT, values)
        self._db.execute("INSERT INTO mail_body VALUES (?, ?)", (seq, mail.raw))
        self._next_seq += 1
        self._delta[MailState.READY] += 1
        self._delta_bytes += len(mail.raw)
        return Accepted(self._name(seq))

    def _known(self, key: str, fingerprint: str) -> Accepted | KeyReused | None:
        row = self._db.execute("SELECT seq, fingerprint FROM mail WHERE idempotency_key = ?", (key,)).fetchone()
        if row is None:
            return None
        if row[1] != fingerprint:
            return KeyReused("this idempotency key belongs to another mail")
        return Accepted(self._name(row[0]), duplicate=True)

    # --- out --------------------------------------------------------------------------------------------------------

    def peek(self) -> Waiting | None:
        """The mail that is due and first in order: alerts before reports before bulk, then the longest due."""
        powered = self.clock().powered
        for priority in Priority:
            row = self._db.execute(
                "SELECT seq, recipients FROM mail WHERE priority = ? AND due <= ? ORDER BY due, seq LIMIT 1",
                (int(priority), powered),
            ).fetchone()
            if row is not None:
                return Waiting(row[0], len(pending(load_recipients(row[1]))))
        return None

    def next_due(self) -> float | None:
        """The powered second at which the next mail falls due; None when none waits."""
        firsts = (
            self._one("SELECT due FROM mail WHERE priority = ? AND due IS NOT NULL ORDER BY due LIMIT 1", int(priority))
            for priority in Priority
        )
        return min((due for due in firsts if due is not None), default=None)

    def take(self, seq: int, recipients: int) -> Job:
        """Mark a mail as being sent to at most so many of its pending recipients; durable when this returns."""
        return self._surely(lambda: self._take(seq, recipients))

    def _take(self, seq: int, recipients: int) -> Job:
        record, row = self._load(seq)
        raw = self._one("SELECT raw FROM mail_body WHERE seq = ?", seq)
        clock = self.clock()
        with self._change():
            self._db.execute("DELETE FROM mail_attempt WHERE powered < ?", (clock.powered - DAY_S - KEEP_MARGIN_S,))
            attempt = self._db.execute(
                "INSERT INTO mail_attempt (powered, recipients) VALUES (?, ?)", (clock.powered, recipients)
            ).lastrowid
            self._db.execute(
                "UPDATE mail SET state = ?, due = NULL, attempts = attempts + 1 WHERE seq = ?",
                (MailState.SENDING.value, seq),
            )
            self._move(record.state, MailState.SENDING)
            self._save_clock(clock)
        return Job(
            seq,
            attempt or 0,
            replace(record, state=MailState.SENDING, attempts=record.attempts + 1, next_attempt_at=None),
            pending(record.recipients)[:recipients],
            raw,
            utf8=bool(row["utf8"]),
            eight_bit=bool(row["eight_bit"]),
        )

    def finish(self, job: Job, result: Result, chance: Chance) -> tuple[MailRecord, Fate]:
        """Note what an attempt brought, decide what becomes of the mail, and drop the body when it is over."""
        return self._surely(lambda: self._finish(job, result, chance))

    def _finish(self, job: Job, result: Result, chance: Chance) -> tuple[MailRecord, Fate]:
        clock = self.clock()
        deadline, failures = self._db.execute(
            "SELECT deadline, failures FROM mail WHERE seq = ?", (job.seq,)
        ).fetchone()
        recipients = tuple(result.settled.get(r.address, r) for r in job.record.recipients)
        progressed = len(pending(recipients)) < len(pending(job.record.recipients))
        failures = 0 if progressed else failures + int(not result.at_once)
        verdict = judge(recipients, clock, deadline, failures, chance, at_once=result.at_once)
        if result.wait and verdict.fate in (Fate.AGAIN, Fate.LATER):
            verdict = Verdict(Fate.LATER, max(verdict.due, clock.powered + result.wait))
        delivered = sum(r.state is RecipientState.DELIVERED for r in result.settled.values())
        with self._change():
            self._db.execute(
                "UPDATE mail_attempt SET powered = ?, delivered = ? WHERE seq = ?",
                (clock.powered, delivered, job.attempt),
            )
            if result.throttle is not None:
                self._put("throttle", result.throttle)
            self._settle(job.record, job.seq, recipients, verdict, failures, result.reply, result.problem)
            self._save_clock(clock)
        return self._load(job.seq)[0], verdict.fate

    def _settle(
        self,
        record: MailRecord,
        seq: int,
        recipients: Iterable[Recipient],
        verdict: Verdict,
        failures: int,
        reply: str,
        problem: Mapping[str, object] | None,
    ) -> None:
        over = verdict.fate in (Fate.SENT, Fate.FAILED)
        self._db.execute(
            "UPDATE mail SET state = ?, due = ?, recipients = ?, failures = ?, reply = ?, problem = ?, finished_at = ?"
            " WHERE seq = ?",
            (
                STATES[verdict.fate].value,
                None if over else verdict.due,
                dump_recipients(recipients),
                failures,
                reply,
                json.dumps(problem) if problem and verdict.fate in (Fate.LATER, Fate.FAILED) else None,
                self._now().wall if over else None,
                seq,
            ),
        )
        self._move(record.state, STATES[verdict.fate])
        if over:
            self._db.execute("DELETE FROM mail_body WHERE seq = ?", (seq,))
            self._delta_bytes -= record.size
            self._prune()

    def expire(self, problem: Mapping[str, object]) -> list[MailRecord]:
        """Give up every waiting mail whose life is over; `problem` says what kept it from being sent."""
        clock = self.clock()
        rows = self._db.execute("SELECT seq FROM mail WHERE due IS NOT NULL AND deadline <= ?", (clock.active,))
        overdue = [(seq, *self._load(seq)) for (seq,) in rows.fetchall()]
        if not overdue:
            return []
        with self._change():
            for seq, record, row in overdue:
                over = Verdict(Fate.FAILED, clock.powered)
                self._settle(record, seq, record.recipients, over, row["failures"], record.reply, problem)
            self._save_clock(clock)
        return [replace(record, state=MailState.FAILED, problem=problem) for _, record, _ in overdue]

    # --- looking and steering ---------------------------------------------------------------------------------------

    def record(self, mail_id: str) -> MailRecord | None:
        """One mail by its id."""
        seq = self._number(mail_id)
        known = seq is not None and self._one("SELECT 1 FROM mail WHERE seq = ?", seq) is not None
        return self._load(seq)[0] if known and seq is not None else None

    def records(self, state: MailState | None = None, limit: int = 200, before: str | None = None) -> list[MailRecord]:
        """The newest mails first; `before`: only those accepted before that one."""
        above = self._number(before) if before else None
        cursor = self._db.execute(
            "SELECT * FROM mail WHERE seq < ?1 AND (?2 IS NULL OR state = ?2) ORDER BY seq DESC LIMIT ?3",
            (self._next_seq if above is None else above, state.value if state else None, limit),
        )
        names = [column[0] for column in cursor.description]
        return [self._record(dict(zip(names, row, strict=True))) for row in cursor]

    def body(self, mail_id: str) -> bytes | None:
        """The message as accepted, while it is still needed."""
        found: bytes | None = self._one("SELECT raw FROM mail_body WHERE seq = ?", self._number(mail_id) or 0)
        return found

    def delete(self, mail_id: str) -> MailRecord | None:
        """Remove a mail and return what it was; None when there is none. Raises Busy while it is being sent."""
        record = self.record(mail_id)
        if record is None:
            return None
        if record.state is MailState.SENDING:
            raise Busy("this mail is being sent")
        seq = self._number(mail_id)
        with self._change():
            self._db.execute("DELETE FROM mail WHERE seq = ?", (seq,))
            self._db.execute("DELETE FROM mail_body WHERE seq = ?", (seq,))
            self._delta[record.state] -= 1
            self._delta_bytes -= 0 if record.state in FINISHED else record.size
            self._save_clock(self.clock())
        return record

    def retry(self, mail_id: str | None = None) -> int:
        """Make one waiting mail (None: every one) due now; how many that were."""
        which = "due IS NOT NULL" if mail_id is None else "due IS NOT NULL AND seq = ?"
        values = [] if mail_id is None else [self._number(mail_id)]
        ready = (MailState.READY.value, self.clock().powered)
        with self._change():
            deferred = self._one(f"SELECT count(*) FROM mail WHERE {which} AND state = 'deferred'", *values)  # noqa: S608  # constants
            changed = self._db.execute(
                f"UPDATE mail SET state = ?, due = min(due, ?), problem = NULL WHERE {which}",  # noqa: S608  # constants
                (*ready, *values),
            ).rowcount
            self._delta[MailState.DEFERRED] -= deferred
            self._delta[MailState.READY] += deferred
        return changed

    def waiting(self) -> int:
        """Mails that are accepted and not over."""
        return sum(self._counts[state] for state in (MailState.READY, MailState.DEFERRED, MailState.SENDING))

    def counts(self) -> dict[str, int]:
        """Mails by state, what waits in all (mails and bytes), and how many were sent in the last 24 hours."""
        since = self.clock().powered - DAY_S
        sent = self._one("SELECT count(*) FROM mail_attempt WHERE powered > ? AND delivered > 0", since) or 0
        by_state = {state.value: self._counts[state] for state in MailState if state is not MailState.HELD}
        return {**by_state, "sent_today": sent, "queued": self.waiting(), "bytes": self._bytes}

    def fullness(self) -> float:
        """The greater share of the two bounds that is used, 0 to 1."""
        return max(self.waiting() / self._limits.max_mails, self._bytes / self._limits.max_bytes)

    def attempts(self) -> list[Sent]:
        """What counts against the server's limits, oldest first; one cut off by a crash counts as ending now."""
        rows = self._db.execute("SELECT powered, recipients FROM mail_attempt ORDER BY powered, seq")
        return [Sent(powered, recipients) for powered, recipients in rows]

    def document(self, name: str) -> Any:
        """A small JSON document kept with the queue; None when there is none."""
        found = self._one("SELECT document FROM mail_meta WHERE name = ?", name)
        return json.loads(found) if found else None

    def save_document(self, name: str, document: Mapping[str, object] | None) -> None:
        """Replace or (None) drop such a document."""
        with self._db.transaction():
            self._put(name, document)

    def _restored_clock(self, stored: Mapping[str, Any]) -> QueueClock:
        """The clocks as saved, moved on by what the mails themselves prove to have passed since.

        Accepting does not save the clocks (a page less to write for each mail), but a ready mail was due, an attempt
        begun and a life measured at a moment that was.
        """
        clock = QueueClock(0.0, 0.0, self._now().boot, self._boot_id, held=False)
        if not stored:
            with self._db.transaction():
                self._put("clock", {**clock_document(clock), "last_seq": 0})
            return clock
        clock = clock_of(stored)
        if clock.boot_id == self._boot_id:
            return clock
        due = self._one("SELECT max(due) FROM mail WHERE due IS NOT NULL AND state = ?", MailState.READY.value)
        begun = self._one("SELECT max(powered) FROM mail_attempt")
        born = self._one("SELECT max(deadline) FROM mail")
        powered = max(clock.powered, due or 0.0, begun or 0.0)
        return replace(clock, powered=powered, active=max(clock.active, (born or 0.0) - LIFE_S))

    def _recover(self) -> None:
        """What a crash cut off is ready again, and counts against the server's limits as if it ended now."""
        powered = self.clock().powered
        if self._one("SELECT 1 FROM mail_attempt WHERE delivered IS NULL") is None:
            return
        with self._db.transaction():
            self._db.execute("UPDATE mail_attempt SET powered = ?, delivered = 0 WHERE delivered IS NULL", (powered,))
            self._db.execute(
                "UPDATE mail SET state = ?, due = ? WHERE state = ?",
                (MailState.READY.value, powered, MailState.SENDING.value),
            )

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction; the figures in memory follow only when it is durable."""
        self._delta.clear()
        self._delta_bytes = 0
        first_seq = self._next_seq
        try:
            with self._db.transaction():
                yield
        except BaseException:
            self._next_seq = first_seq
            raise
        self._counts.update(self._delta)
        self._bytes += self._delta_bytes

    def _surely(self, change: Callable[[], T]) -> T:
        """A change that lets mail out: on a full disk it gets the reserve."""
        try:
            return change()
        except StoreFull:
            if not self._reserve.give_up():
                raise
            return change()

    def _room_inside(self) -> int:
        """Bytes that the database can reuse without growing."""
        return int(self._one("PRAGMA freelist_count") * self._one("PRAGMA page_size"))

    def _move(self, before: MailState, after: MailState) -> None:
        self._delta[before] -= 1
        self._delta[after] += 1

    def _identity(self) -> str:
        stored = self.document("identity")
        if stored is None:
            stored = {"tag": secrets.token_hex(3)}
            self.save_document("identity", stored)
        return str(stored["tag"])

    def _name(self, seq: int) -> str:
        return f"{self._tag}{seq:08x}"

    def _number(self, mail_id: str) -> int | None:
        digits = mail_id.removeprefix(self._tag)
        if len(digits) == len(mail_id) or not 8 <= len(digits) <= 15 or set(digits) - set("0123456789abcdef"):
            return None
        return int(digits, 16)

    def _load(self, seq: int) -> tuple[MailRecord, dict[str, Any]]:
        cursor = self._db.execute("SELECT * FROM mail WHERE seq = ?", (seq,))
        row = dict(zip([column[0] for column in cursor.description], cursor.fetchone(), strict=True))
        return self._record(row), row

    def _record(self, row: Mapping[str, Any]) -> MailRecord:
        due = row["due"]
        return record_of(row, self._name(row["seq"]), None if due is None else self.wall_of(due))

    def _prune(self) -> None:
        finished = sum(self._counts[state] + self._delta[state] for state in FINISHED)
        surplus = min(finished - self._limits.keep_finished, PRUNE_AT_ONCE)
        if surplus <= 0:
            return
        oldest = self._db.execute(
            "SELECT seq, state FROM mail WHERE finished_at IS NOT NULL ORDER BY finished_at, seq LIMIT ?", (surplus,)
        ).fetchall()
        for seq, state in oldest:
            self._db.execute("DELETE FROM mail WHERE seq = ?", (seq,))
            self._delta[MailState(state)] -= 1

    def _save_clock(self, clock: QueueClock) -> None:
        self._put("clock", {**clock_document(clock), "last_seq": self._next_seq - 1})

    def _put(self, name: str, document: Mapping[str, object] | None) -> None:
        if document is None:
            self._db.execute("DELETE FROM mail_meta WHERE name = ?", (name,))
        else:
            self._db.execute("INSERT OR REPLACE INTO mail_meta VALUES (?, ?)", (name, json.dumps(document)))

    def _one(self, query: str, *values: object) -> Any:
        row = self._db.execute(query, values).fetchone()
        return row[0] if row else None
