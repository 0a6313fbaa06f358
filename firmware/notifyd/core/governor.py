"""How fast mail may leave: Exchange Online's limits, used almost fully and never exceeded.

Limits (Microsoft, "Exchange Online limits" and "How to set up a multifunction device or application"): 30 messages
a minute, 10,000 recipients in 24 hours, 3 connections for one mailbox. Both windows slide.

The server counts a message at some moment between our MAIL FROM and its last reply. A message therefore may start only
when the one that it would push over the limit was *answered* a whole window ago: whatever moment the server takes,
its own window never holds one too many. The price is one round trip per window.

All times are powered-on seconds (`core.outbox.QueueClock`): they can only lag behind true time, so that a reboot or a
wrong clock makes sending later, never faster. The caller persists `Sent` entries and `Throttle`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import inf

MINUTE_S = 60.0
DAY_S = 86_400.0
MARGIN_S = 0.05
"""Added to both windows: two machines' clocks do not run at exactly the same speed."""

BUCKET_S = 60.0
"""Recipients of one such span are remembered as one figure, dated at its end: at most 1,441 figures for a day."""

SPLIT_FLOOR = 100
"""A mail with many recipients is split to use up the day's allowance, but not into smaller parts than this."""

CALM_S = 600.0
"""After so long without a complaint about connections, one more is tried."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one mailbox may do; None means that the server is not known to limit it.

    message_bytes: octets of one message as sent; recipients_per_message: RCPT commands in one transaction.
    """

    messages_per_minute: int | None = 30
    recipients_per_day: int | None = 10_000
    connections: int = 3
    recipients_per_message: int = 500
    message_bytes: int = 35 * 1024 * 1024


EXCHANGE = Limits()
OTHER_SERVER = Limits(messages_per_minute=None, recipients_per_day=None, connections=2, recipients_per_message=100)
"""For a password or relay server: 100 recipients is what every server must take (RFC 5321 §4.5.3.1.8)."""


class Complaint(StrEnum):
    """How a server says "too much"."""

    CONNECTIONS = "connections"
    RATE = "rate"
    BUSY = "busy"
    QUOTA = "quota"


_PAUSES: Mapping[Complaint, tuple[float, float]] = {
    # First pause and longest one; doubled on each complaint in a row.
    Complaint.CONNECTIONS: (60.0, 900.0),
    Complaint.RATE: (60.0, 900.0),
    Complaint.BUSY: (900.0, 3_600.0),  # 451 4.7.5xx: the address is being watched; clears over hours
    Complaint.QUOTA: (3_600.0, 6 * 3_600.0),  # 10,000 recipients used elsewhere; the window slides
}


@dataclass(frozen=True, slots=True)
class Sent:
    """One finished attempt as it counts: when the server's last word came, and for how many recipients."""

    at: float
    recipients: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """What the server's complaints led to; survives a restart.

    until: nothing starts before this powered second; strikes: complaints since the last success;
    connections: how many are allowed now; complained: when the last one about connections came.
    """

    until: float = 0.0
    strikes: int = 0
    connections: int = 3
    complained: float = 0.0

    def as_json(self) -> dict[str, float]:
        """The form that the caller stores."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, float]) -> Throttle:
        """What `as_json` gave, with a missing or strange value replaced by its default."""
        default = cls()
        return cls(
            until=float(stored.get("until", default.until)),
            strikes=int(stored.get("strikes", default.strikes)),
            connections=int(stored.get("connections", default.connections)),
            complained=float(stored.get("complained", default.complained)),
        )


class Governor:
    """Says when the next message may start. Pure: time comes in, nothing goes out."""

    def __init__(self, limits: Limits, sent: Iterable[Sent] = (), throttle: Throttle | None = None) -> None:
        """`sent`: what was sent in the last 24 hours, in the order of its time."""
        self.limits = limits
        self.throttle = throttle or Throttle(connections=limits.connections)
        self._minute: deque[float] = deque(maxlen=limits.messages_per_minute or 1)
        self._day: deque[list[float]] = deque()
        self._day_total = 0
        self._flying: dict[int, int] = {}
        self._tickets = 0
        for entry in sent:
            self._count(entry.at, entry.recipients)

    def chunk(self, recipients: int, now: float) -> int:
        """How many of `recipients` to put into one transaction at this time (at least 1)."""
        most = min(recipients, self.limits.recipients_per_message, self.limits.recipients_per_day or recipients)
        room = self.room(now)
        return int(room) if min(SPLIT_FLOOR, most) <= room < most else most

    def room(self, now: float) -> float:
        """Recipients left of the day's allowance (infinite when there is none)."""
        if self.limits.recipients_per_day is None:
            return inf
        self._forget(now)
        return self.limits.recipients_per_day - self._day_total - sum(self._flying.values())

    def next_start(self, recipients: int, now: float) -> float:
        """The earliest powered second at which a message to `recipients` may start.

        `now` itself when it may start at once; infinity when only the end of one in flight can tell.
        """
        return max(now, self.throttle.until, self._minute_start(now), self._day_start(recipients, now))

    def begin(self, recipients: int) -> int:
        """Take the allowance for a message that starts now; the ticket goes to `finish`."""
        self._tickets += 1
        self._flying[self._tickets] = recipients
        return self._tickets

    def finish(self, ticket: int, now: float) -> None:
        """The server's last word about a message came, or the connection broke: it counts from now on."""
        self._count(now, self._flying.pop(ticket))

    def cancel(self, ticket: int) -> None:
        """The message did not start after all."""
        self._flying.pop(ticket, None)

    @property
    def flying(self) -> bool:
        """Whether a message is in flight."""
        return bool(self._flying)

    def connections(self, now: float) -> int:
        """How many connections may be open now."""
        regained = int((now - self.throttle.complained) // CALM_S)
        return max(1, min(self.limits.connections, self.throttle.connections + max(regained, 0)))

    def complained(self, complaint: Complaint, now: float, others: int = 0) -> Throttle:
        """The server said "too much": slow down, and return what to store.

        others: connections of ours that are open besides the one that was refused; with them one fewer is enough.
        """
        strikes = self.throttle.strikes + 1
        throttle = replace(self.throttle, strikes=strikes)
        if complaint is Complaint.CONNECTIONS:
            throttle = replace(throttle, connections=max(1, min(self.connections(now) - 1, others)), complained=now)
        if complaint is not Complaint.CONNECTIONS or not others:
            first, longest = _PAUSES[complaint]
            pause = min(first * 2.0 ** min(strikes - 1, 10), longest)
            throttle = replace(throttle, until=max(throttle.until, now + pause))
        self.throttle = throttle
        return throttle

    def succeeded(self) -> bool:
        """A message went through; True when that ended a row of complaints, so that `throttle` has to be stored."""
        if not self.throttle.strikes:
            return False
        self.throttle = replace(self.throttle, strikes=0, until=0.0)
        return True

    def _count(self, at: float, recipients: int) -> None:
        if self.limits.messages_per_minute is not None:
            self._minute.append(at)
        if self.limits.recipients_per_day is None:
            return
        self._day_total += recipients
        if self._day and at - self._day[-1][0] < BUCKET_S:
            self._day[-1][1] = at
            self._day[-1][2] += recipients
        else:
            self._day.append([at, at, recipients])

    def _forget(self, now: float) -> None:
        while self._day and self._day[0][1] + DAY_S + MARGIN_S <= now:
            self._day_total -= int(self._day.popleft()[2])

    def _minute_start(self, now: float) -> float:
        limit = self.limits.messages_per_minute
        if limit is None:
            return now
        allowed = limit - len(self._flying)
        if allowed <= 0:
            return inf
        if len(self._minute) < allowed:
            return now
        return max(now, self._minute[-allowed] + MINUTE_S + MARGIN_S)

    def _day_start(self, recipients: int, now: float) -> float:
        missing = recipients - self.room(now)
        if missing <= 0:
            return now
        for _, last, count in self._day:
            missing -= count
            if missing <= 0:
                return last + DAY_S + MARGIN_S
        return inf
