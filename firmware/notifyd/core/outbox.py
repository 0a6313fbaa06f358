"""The life of an accepted mail, as plain values and decisions: states, order, back-off, deadline.

Two clocks run here, both in seconds and both persisted by the caller:

* powered: accumulated powered-on time. Every due time is measured on it, so that neither a wrong wall clock nor a
  year on a shelf makes a mail early, late or old.
* active: powered time during which mail was not held. The deadline of a mail is measured on it: while authentication
  is broken or an administrator paused mail, nothing ages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Protocol

LIFE_S = 5 * 86_400.0
"""How long a mail is tried before it is given up (RFC 5321 §4.5.4.1 asks for at least 4 to 5 days)."""

FIRST_RETRY_S = 60.0
LAST_RETRY_S = 3_600.0
RETRY_JITTER = 0.2
"""Back-off: 1 minute doubling to 1 hour, each ±20 %, so that gateways behind one outage do not return together."""

UNKNOWN_OUTCOME_S = 600.0
"""Wait after a connection lost behind the final dot: the server may still be accepting (RFC 5321 §4.5.3.2.6)."""


class MailState(StrEnum):
    """Where a mail is. HELD is how READY and DEFERRED are shown while mail as a whole is held."""

    READY = "ready"
    SENDING = "sending"
    HELD = "held"
    DEFERRED = "deferred"
    SENT = "sent"
    FAILED = "failed"


class Priority(IntEnum):
    """The order in which waiting mail leaves: alerts before reports before bulk."""

    ALERT = 0
    REPORT = 1
    BULK = 2

    @classmethod
    def named(cls, name: str) -> Priority:
        """The priority called `alert`, `report` or `bulk`; ValueError for any other word."""
        try:
            return cls[name.upper()]
        except KeyError:
            raise ValueError(f"unknown priority: expected {', '.join(p.word for p in cls)}") from None

    @property
    def word(self) -> str:
        """The name used in the API."""
        return self.name.lower()


class RecipientState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Recipient:
    """One envelope recipient and what the server last said about it."""

    address: str
    state: RecipientState = RecipientState.PENDING
    reply: str = ""

    def as_json(self) -> dict[str, str]:
        """The form under `outcome.per_recipient` of the API."""
        return {"address": self.address, "state": self.state.value, "reply": self.reply}


@dataclass(frozen=True, slots=True)
class MailRecord:
    """One mail as the queue knows it, without its body.

    size: octets of the message; created_at, next_attempt_at, finished_at: wall seconds, for display only.
    problem: why it is not sent, or why not all of it (public form of a Problem), or None.
    reply: the server's last words about the mail as a whole, empty before the first attempt.
    """

    id: str
    state: MailState
    kind: str
    priority: Priority
    sender: str
    recipients: tuple[Recipient, ...]
    subject: str
    size: int
    message_id: str
    created_at: float
    attempts: int
    next_attempt_at: float | None
    problem: Mapping[str, object] | None
    reply: str
    finished_at: float | None
    submitter: str

    def as_json(self) -> dict[str, object]:
        """The public form of `GET /api/v1/mail/{id}`."""
        over = self.state in (MailState.SENT, MailState.FAILED)
        outcome: dict[str, object] | None = None
        if over or self.reply:
            per_recipient = [r.as_json() for r in self.recipients]
            outcome = {"reply": self.reply, "per_recipient": per_recipient, "problem": self.problem if over else None}
        return {
            "id": self.id,
            "state": self.state.value,
            "kind": self.kind,
            "priority": self.priority.word,
            "from": self.sender,
            "to": [r.address for r in self.recipients],
            "subject": self.subject,
            "size": self.size,
            "created_at": self.created_at,
            "attempts": self.attempts,
            "next_attempt_at": self.next_attempt_at,
            "waiting_for": None if over else self.problem,
            "outcome": outcome,
            "message_id": self.message_id,
            "finished_at": self.finished_at,
            "submitter": self.submitter,
        }


class Chance(Protocol):
    """The one method of `random.Random` that is needed here."""

    def uniform(self, a: float, b: float, /) -> float: ...


def retry_delay(failures: int, chance: Chance) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 = the first)."""
    doubled = FIRST_RETRY_S * 2.0 ** min(max(failures, 1) - 1, 16)
    return min(doubled, LAST_RETRY_S) * chance.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER)


@dataclass(frozen=True, slots=True)
class QueueClock:
    """Both clocks as they stood at one moment of one boot; immutable, the caller saves what it gets back.

    powered, active: seconds; boot: CLOCK_BOOTTIME seconds at that moment; boot_id: which boot it was.
    held: True while mail is held, so that `active` stands still.
    """

    powered: float
    active: float
    boot: float
    boot_id: str
    held: bool

    def at(self, boot: float, boot_id: str) -> QueueClock:
        """The clocks at a later moment.

        In another boot, only the time since that boot began is known to have been powered on: what passed between
        the last save and the power cut is lost, so a mail may live longer, never shorter.
        """
        passed = max(boot - self.boot, 0.0) if boot_id == self.boot_id else max(boot, 0.0)
        active = self.active if self.held else self.active + passed
        return QueueClock(self.powered + passed, active, boot, boot_id, self.held)

    def holding(self, held: bool) -> QueueClock:
        """The same moment with mail held or flowing from now on."""
        return replace(self, held=held)


class Fate(StrEnum):
    """What becomes of a mail after an attempt."""

    SENT = "sent"
    FAILED = "failed"
    AGAIN = "again"
    LATER = "later"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision after one attempt: due is on the powered clock."""

    fate: Fate
    due: float


def judge(
    recipients: Sequence[Recipient],
    clock: QueueClock,
    deadline: float,
    failures: int,
    chance: Chance,
    *,
    at_once: bool,
) -> Verdict:
    """Decide what becomes of a mail from its recipients' states after an attempt.

    deadline is on the active clock; failures counts the attempts in a row that settled nothing, this one included;
    at_once: what is left may go as soon as anything may be sent.
    """
    if not any(r.state is RecipientState.PENDING for r in recipients):
        delivered_all = all(r.state is RecipientState.DELIVERED for r in recipients)
        return Verdict(Fate.SENT if delivered_all else Fate.FAILED, clock.powered)
    if clock.active >= deadline:
        return Verdict(Fate.FAILED, clock.powered)
    if at_once:
        return Verdict(Fate.AGAIN, clock.powered)
    return Verdict(Fate.LATER, clock.powered + retry_delay(failures, chance))
