"""What one SMTP transaction brought, and what follows from it for the mail: pure translation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from notifyd.core.governor import Complaint
from notifyd.core.outbox import UNKNOWN_OUTCOME_S, Recipient, RecipientState
from notifyd.core.problem import Problem
from notifyd.core.smtp_reply import Meaning, Reply, Stage

COMPLAINTS: Mapping[Meaning, Complaint] = {
    Meaning.CONNECTIONS: Complaint.CONNECTIONS,
    Meaning.RATE: Complaint.RATE,
    Meaning.BUSY: Complaint.BUSY,
    Meaning.QUOTA: Complaint.QUOTA,
}

_ABOUT_THIS_MAIL = frozenset((Meaning.DONE, Meaning.LATER, Meaning.REFUSED, Meaning.SPLIT))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a transaction ended: `reply` answered `stage` and has that `meaning` for `accepted` recipients.

    refused: recipients turned down for good, by address; postponed: those to be tried again later. A recipient that
    is named nowhere was left for the next transaction.
    unknown: the connection broke behind the final dot: the server may have taken the message.
    """

    stage: Stage
    reply: Reply
    meaning: Meaning
    accepted: tuple[str, ...] = ()
    refused: Mapping[str, Reply] = field(default_factory=dict)
    postponed: Mapping[str, Reply] = field(default_factory=dict)
    unknown: bool = False
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What an attempt brought, for the queue.

    settled: the recipients about which the server said something, by address; reply: its last word.
    problem: why the mail is not (wholly) sent, public form. at_once: nothing speaks against trying what is left as soon
    as anything may be sent, and the mail's own back-off does not grow. wait: least seconds before the next try.
    throttle: the governor's, to be stored together with this.
    """

    settled: Mapping[str, Recipient]
    reply: str = ""
    problem: Mapping[str, object] | None = None
    at_once: bool = False
    wait: float = 0.0
    throttle: Mapping[str, float] | None = None


def weigh(outcome: Outcome, throttle: Mapping[str, float] | None = None) -> Result:
    """The outcome as the queue notes it."""
    settled = {a: Recipient(a, RecipientState.REFUSED, str(reply)) for a, reply in outcome.refused.items()}
    settled |= {a: Recipient(a, RecipientState.PENDING, str(reply)) for a, reply in outcome.postponed.items()}
    state = {Meaning.DONE: RecipientState.DELIVERED, Meaning.REFUSED: RecipientState.REFUSED}.get(outcome.meaning)
    for address in outcome.accepted:
        settled[address] = Recipient(address, state or RecipientState.PENDING, str(outcome.reply))
    mailbox_wide = outcome.meaning not in _ABOUT_THIS_MAIL and not outcome.unknown
    return Result(
        settled,
        str(outcome.reply),
        None if outcome.problem is None else outcome.problem.as_json(),
        at_once=mailbox_wide or (outcome.meaning is Meaning.DONE and not outcome.postponed),
        wait=UNKNOWN_OUTCOME_S if outcome.unknown else 0.0,
        throttle=throttle,
    )
