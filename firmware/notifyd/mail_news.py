"""What is said about mail: one event per outcome, one per stretch of trouble, one summary after it.

A failure of mail never makes mail, and never floods the log: what concerns all mail is told once, not once per mail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from notifyd.adapters.queue import Job, MailQueue, Submission
from notifyd.core.delivery import Outcome
from notifyd.core.instant import Instant
from notifyd.core.outbox import Fate, MailRecord, RecipientState
from notifyd.core.problem import Problem

HIGH_WATER = 0.8
"""Share of the queue's bounds at which a person should look."""

SHOWN_RECIPIENTS = 5


class Emit(Protocol):
    """`EventLog.emit`."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


@dataclass(slots=True)
class _Trouble:
    """One stretch in which mail did not get out, for the summary after it.

    told: somebody heard of it, so that its end is worth a word; held: mail.held was the last that was said.
    """

    since: float
    told: bool = False
    held: bool = False
    over: bool = False
    sent: int = 0
    failed: int = 0


class MailNews:
    """Emits the mail events; see `core.event_definitions` for each."""

    def __init__(self, queue: MailQueue, emit: Emit, now: Callable[[], Instant]) -> None:
        self._queue = queue
        self._emit = emit
        self._now = now
        self._trouble: _Trouble | None = None
        self._high = False
        self._refusing = False

    # --- in ---------------------------------------------------------------------------------------------------------

    def accepted(self, submission: Submission, mail_id: str) -> None:
        """A mail is on the disk."""
        self._refusing = False
        mail = submission.mail
        self._emit(
            "mail.accepted", mail_id=mail_id, kind=submission.kind, to=shown(mail.recipients), size=len(mail.raw)
        )

    def refused(self, submission: Submission, reason: Exception) -> None:
        """A mail was not accepted; said once until something is accepted again."""
        if not self._refusing:
            self._refusing = True
            self._emit("mail.refused", reason=str(reason), user=submission.submitter)

    def look_at_fullness(self) -> None:
        """Say when the queue has become nearly full."""
        high = self._queue.fullness() >= HIGH_WATER
        if high and not self._high:
            percent = round(100 * self._queue.fullness())
            self._emit("mail.queue_high", percent=percent, waiting=self._queue.waiting())
        self._high = high

    # --- trouble ----------------------------------------------------------------------------------------------------

    def trouble(self, problem: Problem) -> None:
        """Mail does not get out, because of this."""
        if self._trouble is None:
            self._trouble = _Trouble(self._now().boot)
        self._trouble.over = False
        self.held(problem)

    def held(self, problem: Problem | None) -> None:
        """Say that mail waits: once until it flows again, and only when some does."""
        trouble = self._trouble
        if trouble is None or trouble.held or problem is None or not self._queue.waiting():
            return
        trouble.told = trouble.held = True
        self._emit("mail.held", **told(problem), waiting=self._queue.waiting())

    def flowing(self) -> None:
        """Nothing holds mail any more."""
        if self._trouble is not None and self._trouble.held:
            self._trouble.held = False
            self._emit("mail.released", waiting=self._queue.waiting())

    def worked(self) -> None:
        """A mail got out: the trouble is over when nothing is left to send."""
        if self._trouble is not None:
            self._trouble.over = True

    def look_at_recovery(self) -> None:
        """One summary, once mail works and nothing can be sent now."""
        trouble = self._trouble
        if trouble is None or not trouble.over:
            return
        self._trouble = None
        if trouble.told or trouble.failed:
            seconds = round(self._now().boot - trouble.since)
            self._emit("mail.recovered", seconds=seconds, sent=trouble.sent, failed=trouble.failed)

    def breaker_opened(self, problem: Problem) -> None:
        """A permanent error stopped all sending."""
        self._emit("mail.breaker_opened", **told(problem))

    def breaker_closed(self, problem: Problem) -> None:
        """Sending goes on after such a stop."""
        self._emit("mail.breaker_closed", seconds=max(0, round(self._now().wall - problem.since)))

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def outcome(self, job: Job, record: MailRecord, fate: Fate, outcome: Outcome) -> None:
        """What became of a mail after an attempt."""
        about: dict[str, object] = {"mail_id": record.id, "kind": record.kind}
        for address, reply in outcome.refused.items():
            self._emit("mail.recipient_refused", **about, to=address, reply=str(reply))
        about |= {"to": shown(r.address for r in record.recipients), "attempts": record.attempts}
        match fate:
            case Fate.SENT:
                self._emit("mail.sent", **about, reply=record.reply)
                if self._trouble is not None:
                    self._trouble.sent += 1
            case Fate.FAILED:
                self.failed(record, outcome.problem)
            case Fate.LATER:
                problem = {} if outcome.problem is None else told(outcome.problem)
                self._emit("mail.deferred", **about, **problem, retry_at=record.next_attempt_at)

    def failed(self, record: MailRecord, problem: Problem | None) -> None:
        """A mail is given up, for all recipients or (without a problem) for those that the server refused."""
        left = [r for r in record.recipients if r.state is not RecipientState.DELIVERED]
        words = _some_refused(left[0].reply if left else "") if problem is None else told(problem)
        to = shown(r.address for r in left)
        self._emit("mail.failed", mail_id=record.id, kind=record.kind, to=to, attempts=record.attempts, **words)
        if self._trouble is not None:
            self._trouble.failed += 1


def told(problem: Problem) -> dict[str, str]:
    """A problem as event fields."""
    return {"code": problem.code, "title": problem.title, "detail": problem.detail, "remedy": problem.remedy}


def shown(recipients: Iterable[str]) -> str:
    """Recipients as one field, the first few by name."""
    addresses = list(recipients)
    more = len(addresses) - SHOWN_RECIPIENTS
    return ", ".join(addresses[:SHOWN_RECIPIENTS]) + (f" and {more} more" if more > 0 else "")


def _some_refused(reply: str) -> dict[str, str]:
    title = "Some recipients were refused, the others got it"
    return {"code": "mail.recipients", "title": title, "detail": reply, "remedy": "Correct the refused recipients."}
